"""The OpenAPI document: committed, complete, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.openapi import DOCUMENT, render

METHODS = {"get", "post", "put", "patch", "delete"}
NO_INPUT = {"/healthz", "/readyz", "/metrics"}
OPEN = {"/healthz", "/readyz", "/v1/objects/{key}"}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield method, path, item[method]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_committed_document_is_the_applications() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), "run `python -m api.openapi` and commit docs/openapi.json"


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = []
    for method, path, operation in operations(document):
        place = f"{method} {path}"
        ids.append(operation["operationId"])
        assert re.fullmatch(r"[a-z_]+", operation["operationId"]), place
        assert operation.get("tags"), place
        assert operation.get("summary"), place
        assert operation.get("description"), place
    assert len(ids) == len(set(ids))
    known = {tag["name"] for tag in document["tags"]}
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} <= known


def test_every_error_is_declared_as_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert "500" in errors, (method, path)
        assert path in NO_INPUT or "422" in errors, (method, path)
        assert "{" not in path or "404" in errors, (method, path)
        for status, answer in errors.items():
            content = answer["content"]
            assert set(content) == {"application/problem+json"}, (method, path, status)
            assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["application/problem+json"]["example"]["status"] == int(status)


def test_every_operation_but_the_probes_asks_for_a_key(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes == {"API key": {**schemes["API key"], "type": "http", "scheme": "bearer"}}
    for method, path, operation in operations(document):
        assert operation.get("security", []) == ([] if path in OPEN else [{"API key": []}]), (method, path)
        assert path in OPEN or {"401", "403"} <= set(operation["responses"]), (method, path)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for reference in set(references(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


def test_answers_and_bodies_have_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in (
        "GeneratorAnswer",
        "ImagePoolAnswer",
        "NewImagePool",
        "AnnotationSetAnswer",
        "JobAnswer",
        "StepAnswer",
        "DatasetAnswer",
        "StudentAnswer",
        "ReportAnswer",
    ):
        assert "example" in schemas[name], name
    job = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    kinds = {"label", "dataset_only", "with_encoder", "without_generator"} | {
        "train_generator",
        "train_student",
        "distill",
        "evaluate",
        "export",
    }
    assert set(job["examples"]) == kinds


def test_the_examples_of_jobs_are_sound_bodies(client: TestClient, document: dict[str, Any]) -> None:
    """They may name what is not there, but nothing else may be wrong with them."""
    job = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for example in job["examples"].values():
        answer = client.post("/v1/jobs", json=example["value"])
        assert answer.status_code == 422
        assert all("There is no" in error["message"] for error in answer.json()["errors"]), answer.text


def test_uploads_are_declared_as_zips(document: dict[str, Any]) -> None:
    for path in ("/v1/annotation-sets", "/v1/image-pools/{pool_id}/images"):
        assert set(document["paths"][path]["post"]["requestBody"]["content"]) == {"application/zip"}


def test_every_integer_parameter_is_bounded(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            for schema in parameter["schema"].get("anyOf", [parameter["schema"]]):
                if schema.get("type") in {"integer", "number"}:
                    assert "maximum" in schema, (method, path, parameter["name"])
                    assert "minimum" in schema, (method, path, parameter["name"])
