"""Input 56: another workspace's id is 404 on every route of the OpenAPI document, and on every page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from api.dashboard import PAGES
from service import announcements, api_keys, datasets, events, object_keys, reports, steps, students
from service.bootstrap import Factory
from service.caller import SCOPES, Scope
from service.clock import utc_now
from tests import factories
from tests.api.archives import ZIP, mask_files, zipped
from tests.clients import api_client, other_workspace

METHODS = ("get", "post", "put", "patch", "delete")
#: Answers to a signature alone, whoever asks.
SIGNED = "/v1/objects/{key}"
#: What each route sends besides its address.
BODIES: Mapping[str, dict[str, Any]] = {
    "add_images": {"content": zipped(mask_files()), "headers": ZIP},
    "rotate_api_key": {"json": {}},
    "update_api_key": {"json": {"max_active_jobs": 1}},
    "update_webhook": {"json": {"enabled": True}},
}
#: Need real bytes, which are not there here.
WITHOUT_BYTES = {
    "get_annotation_image",
    "get_dataset_image",
    "download_shard",
    "sign_shard",
    "download_manifest",
    "sign_manifest",
}
PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Operation:
    """One method of one address."""

    method: str
    path: str
    name: str

    @property
    def parameters(self) -> list[str]:
        return PARAMETER.findall(self.path)

    def url(self, values: Mapping[str, str]) -> str:
        return PARAMETER.sub(lambda match: values[match[1]], self.path)


def fill(factory: Factory) -> dict[str, str]:
    """One of everything in the default workspace: path parameter -> its value."""
    dataset = factories.make_dataset(factory)
    with factory.work() as work:
        datasets.record_export(work, dataset.id, datasets.NewExport("coco", "datasets/x.zip", "0" * 64, 1, {}))
        student = students.record(work, dataset.job_id, factories.new_student(dataset.id))
        sheet = {"sheet": {"key": "steps/x.png", "images": []}}
        step = steps.list_of_job(work, dataset.job_id)[0]
        events.sample(work, dataset.job_id, step.id, "steps/y.png")
        values = {
            "job_id": dataset.job_id,
            "step_id": step.id,
            "event_id": str(events.samples(work, dataset.job_id)[0].id),
            "dataset_id": dataset.id,
            "student_id": student.id,
            "name": "config.json",
            "report_id": reports.record(work, dataset.job_id, sheet, student_id=student.id).id,
            "pool_id": factories.make_pool(work, sealed=False).id,
            "set_id": factories.make_annotation_set(work).id,
            "index": "0",
            "key_id": api_keys.create(work, "a key", "admin").row.id,
        }
        webhook = factories.make_webhook(work)
        work.session.add(webhook)
        work.session.flush()
        message = announcements.add(work, webhook, announcements.PING, {}, utc_now())
        values |= {"webhook_id": webhook.id, "delivery_id": message.id}
        generator = factories.make_generator(work)
        values["generator_id"] = generator.id
        work.storage.put_stream(f"{generator.key_prefix}samples.png", [b"x"])
        work.storage.put_stream(object_keys.generator_archive(str(generator.key_prefix)), [b"x"])
        work.storage.put_stream("datasets/x.zip", [b"x"])
        for key in ("steps/x.png", "steps/y.png", student.archive_key, student.files[0]["key"]):
            work.storage.put_stream(str(key), [b"x"])
    return values


def operations(client: TestClient) -> Iterator[Operation]:
    paths = client.get("/openapi.json").json()["paths"]
    for path, item in paths.items():
        for method in METHODS:
            if method in item and "{" in path and path != SIGNED:
                yield Operation(method, path, item[method]["operationId"])


def ask(client: TestClient, operation: Operation, values: Mapping[str, str]) -> Any:
    return client.request(operation.method, operation.url(values), **BODIES.get(operation.name, {}))


def test_the_values_name_what_is_there(client: TestClient, factory: Factory) -> None:
    """Else the next test would find nothing for another reason."""
    values = fill(factory)
    for operation in sorted(operations(client), key=lambda operation: operation.method == "delete"):
        # What has no real bytes behind it here is found, and then cannot be shown.
        status = ask(client, operation, values).status_code
        shown = operation.name in WITHOUT_BYTES
        assert status != 404 or shown or operation.method == "delete", (operation, status)


@pytest.mark.parametrize("scope", SCOPES)
def test_input_56_another_workspaces_id_is_404_on_every_route(factory: Factory, scope: Scope) -> None:
    values = fill(factory)
    never = {name: re.sub(r"[0-9a-z]{6}$", "000000", value) for name, value in values.items() if "_" in value}
    with api_client(factory, scope, workspace_id=other_workspace(factory)) as client:
        found = list(operations(client))
        assert len(found) > 25
        for operation in found:
            answer = ask(client, operation, values)
            # A scope that is too small is refused before anything is looked up, whatever the id.
            needed = "admin" if "/api-keys" in operation.path else "read" if operation.method == "get" else "write"
            allowed = SCOPES.index(scope) >= SCOPES.index(needed)
            assert answer.status_code == (404 if allowed else 403), (operation, answer.text)
            unknown = ask(client, operation, {**values, **never})
            assert unknown.status_code == answer.status_code
            assert telling(unknown, never, values) == telling(answer, {}, {}), operation


def telling(answer: Any, never: Mapping[str, str], values: Mapping[str, str]) -> str:
    """What an answer says, but for the request's own id and address."""
    problem = answer.json()
    text = json.dumps([problem["type"], problem["title"], problem["detail"]])
    for name, value in never.items():
        text = text.replace(value, values[name])
    return text


def test_input_56_another_workspaces_id_is_404_on_every_page(factory: Factory) -> None:
    values = fill(factory)
    values["annotation_set_id"] = values["set_id"]
    routes = [route for module in PAGES for route in module.router.routes if isinstance(route, APIRoute)]
    with_ids = [route for route in routes if "{" in route.path]
    assert len(with_ids) > 8
    with api_client(factory, workspace_id=other_workspace(factory)) as client:
        for route in with_ids:
            method = sorted(route.methods)[0]
            answer = client.request(method, Operation(method, route.path, route.name).url(values))
            assert answer.status_code == 404, (route.path, answer.text[:300])
        for name in ("keys/{key_id}/update", "keys/{key_id}/rotate", "keys/{key_id}/revoke"):
            assert client.post("/" + name.format(**values)).status_code == 404


def test_input_56_lists_show_nothing_of_another_workspace(factory: Factory) -> None:
    values = fill(factory)
    with api_client(factory, workspace_id=other_workspace(factory)) as client:
        paths = client.get("/openapi.json").json()["paths"]
        lists = [path for path, item in paths.items() if path.startswith("/v1/") and "get" in item and "{" not in path]
        assert len(lists) > 9
        for path in (*lists, "/", "/jobs", "/generators", "/annotation-sets", "/datasets", "/students", "/reports"):
            answer = client.get(path)
            assert answer.status_code == (403 if path == "/v1/workspaces" else 200)
            for name in values:
                if name.endswith("_id") and name != "event_id":
                    assert values[name] not in answer.text, (path, name)
        assert client.get(f"/v1/reports?student_id={values['student_id']}").json()["items"] == []
        assert client.get(f"/v1/audit-entries?api_key_id={values['key_id']}").json()["items"] == []


def test_input_56_a_job_that_names_another_workspaces_things_finds_none(factory: Factory) -> None:
    values = fill(factory)
    documents = [
        {"kind": "label", "annotation_set_id": values["set_id"], "generator": values["generator_id"]},
        {"kind": "train_generator", "image_pool_id": values["pool_id"], "name": "new"},
        {"kind": "distill", "dataset_id": values["dataset_id"]},
        {"kind": "evaluate", "evaluation_set_id": values["set_id"], "student_id": values["student_id"]},
        {"kind": "train_student", "annotation_set_id": values["set_id"]},
    ]
    with api_client(factory, workspace_id=other_workspace(factory)) as client:
        for document in documents:
            answer = client.post("/v1/jobs", json=document)
            assert answer.status_code == 422
            assert all("There is no" in error["message"] for error in answer.json()["errors"]), answer.text
