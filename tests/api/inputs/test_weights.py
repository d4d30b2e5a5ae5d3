"""Inputs 49 to 53: weights that run code, lie about themselves or are no numbers; names that are paths."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import build_factory, prepare
from service.errors import Invalid
from service.settings import Settings
from tests import factories
from tests.api.inputs.served import MASKS, Served

WEIGHTS_FILE = "unet/diffusion_pytorch_model.safetensors"


class Runs:
    """Unpickling it would leave a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


def safetensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(begin: int, end: int, kind: str = "F16", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": kind, "shape": [(end - begin) // 2] if shape is None else shape, "data_offsets": [begin, end]}


def faults_at_start(tmp_path: Path, files: dict[str, bytes]) -> list[dict[str, str]]:
    """A folder of the operator with these files in a generator: the service must not start with it."""
    directory = factories.write_generator(tmp_path / "bundled" / "g")
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return refusal_at_start(tmp_path)


def refusal_at_start(tmp_path: Path) -> list[dict[str, str]]:
    factory = build_factory(Settings(data_dir=tmp_path / "data", bundled_generators_dir=tmp_path / "bundled"))
    with pytest.raises(Invalid) as caught:
        prepare(factory)
    with factory.read() as work:
        from service import generators

        assert generators.list_page(work).items == []
    factory.close()
    assert not list((tmp_path / "data" / "objects" / "generators").rglob("*"))
    return caught.value.errors


@pytest.mark.parametrize("name", ["weights.pt", "weights.pkl", "pytorch_model.bin", "model.ckpt"])
def test_input_49_a_checkpoint_that_runs_code_is_refused_unopened(served: Served, tmp_path: Path, name: str) -> None:
    content = pickle.dumps(Runs(tmp_path / "ran"))
    [error] = faults_at_start(tmp_path, {name: content})
    assert error["place"] == name
    served.refused(415, url=MASKS, content=content, headers={"content-type": "application/octet-stream"})
    assert not (tmp_path / "ran").exists()


def test_input_49_a_pickle_named_safetensors_is_refused_unopened(tmp_path: Path) -> None:
    [error] = faults_at_start(tmp_path, {WEIGHTS_FILE: pickle.dumps(Runs(tmp_path / "ran"))})
    assert error["place"] == WEIGHTS_FILE
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1),
        safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)),
        safetensors({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)),
        safetensors({"a": tensor(0, 4)}, bytes(12)),
        safetensors({"a": tensor(0, 4)}, bytes(2)),
        safetensors({"a": {**tensor(0, 4), "more": 1}}, bytes(4)),
        safetensors(b'{"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}, "a": {}}', bytes(4)),
        safetensors(b"[]"),
        safetensors(b"{" + b'"a":{' * 50_000),
    ],
)
def test_input_50_a_safetensors_header_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    [error] = faults_at_start(tmp_path, {WEIGHTS_FILE: content})
    assert error["place"] == WEIGHTS_FILE


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": tensor(0, 4)}, struct.pack("<ee", 1.0, float("nan")), "not all finite: a"),
        ({"a": tensor(0, 4)}, struct.pack("<ee", float("-inf"), 1.0), "not all finite: a"),
        ({"a": tensor(0, 8, "F32", [2])}, struct.pack("<ff", 1.0, float("inf")), "not all finite: a"),
        ({"a": tensor(0, 4, "BF16", [2])}, b"\x80\x3f\x80\x7f", "not all finite: a"),
        ({"a": tensor(0, 8, "F64", [1])}, struct.pack("<d", float("nan")), "not all finite: a"),
        ({"a": tensor(0, 4, "F16", [3])}, bytes(4), "do not fit its shape"),
        ({"a": tensor(0, 4, "F16", [-2])}, bytes(4), "makes no sense"),
        ({"a": tensor(0, 4, "F16", [2**62, 4])}, bytes(4), "makes no sense"),
        ({"a": tensor(0, 4, "C64", [2])}, bytes(4), "of the kind C64"),
        ({str(number): tensor(0, 0) for number in range(100_001)}, b"", "100,001 tensors"),
    ],
)
def test_input_51_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, header: dict[str, Any], data: bytes, message: str
) -> None:
    [error] = faults_at_start(tmp_path, {WEIGHTS_FILE: safetensors(header, data)})
    assert message in error["message"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "http://127.0.0.1/x", "user/repo", "file:///etc/passwd", "s3://bucket/x"]
)
def test_input_52_a_generator_or_weights_by_path_or_address_are_422(served: Served, name: str) -> None:
    with served.factory.work() as work:
        few = factories.make_annotation_set(work).id
    spec: dict[str, Any] = {"kind": "label", "annotation_set_id": few, "generator": name}
    errors = served.refused(422, url="/v1/jobs", json=spec)["errors"]
    assert any(error["place"].endswith("generator") for error in errors), errors
    student = {"kind": "train_student", "annotation_set_id": few, "student": {"weights": name}}
    errors = served.refused(422, url="/v1/jobs", json=student)["errors"]
    assert any(error["place"].endswith("weights") for error in errors), errors


def test_input_53_a_generator_with_code_or_links_is_refused_at_start(tmp_path: Path) -> None:
    directory = factories.write_generator(tmp_path / "bundled" / "g")
    (directory / "pipeline.py").write_text("import os")
    (directory / "more.json").symlink_to("/etc/passwd")
    (directory / "unet" / "within.json").symlink_to(directory / "generator.json")
    places = {error["place"] for error in refusal_at_start(tmp_path)}
    assert places == {"pipeline.py", "more.json", "unet/within.json"}
