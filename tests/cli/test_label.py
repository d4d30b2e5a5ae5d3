"""`label-factory label`: what it sends and keeps, and (slow) the whole way from two folders to a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from cli import label
from cli.client import Client, CliError
from tests.path.journey import annotated_zip, pool_zip


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A few annotated images and the unlabelled ones in folders, the held-out ones as a zip."""
    for name, content in (("few", annotated_zip(range(3))), ("unlabelled", pool_zip(range(6)))):
        ZipFile(BytesIO(content)).extractall(tmp_path / name)
    (tmp_path / "few" / ".DS_Store").write_bytes(b"what a desktop leaves behind")
    (tmp_path / "test.zip").write_bytes(annotated_zip(range(10, 14)))
    return tmp_path / "few", tmp_path / "unlabelled", tmp_path / "test.zip"


def test_folders_and_zips_are_sent_alike(url: str, folders: tuple[Path, Path, Path]) -> None:
    client = Client(url)
    few, unlabelled, test = folders
    uploads = label._upload(client, few, unlabelled, test, classes=None, things=None)
    assert client.get(f"/v1/annotation-sets/{uploads['annotation_set_id']}")["num_images"] == 3
    assert client.get(f"/v1/annotation-sets/{uploads['evaluation_set_id']}")["num_images"] == 4
    pool = client.get(f"/v1/image-pools/{uploads['image_pool_id']}")
    assert (pool["state"], pool["num_images"]) == ("sealed", 6)


@pytest.mark.parametrize(
    ("trained", "encoder", "sources"),
    [
        (None, "imagenet", {"generator": "imagenet"}),
        ("cells", None, {"generator": "cells"}),
        ("cells", "imagenet", {"generator": "cells", "encoder": "imagenet"}),
    ],
)
def test_what_there_is_labels(trained: str | None, encoder: str | None, sources: dict[str, str]) -> None:
    body = label._body({"annotation_set_id": "ann_1", "image_pool_id": "pool_1"}, trained, encoder)
    assert {name: body[name] for name in ("generator", "encoder") if name in body} == sources
    assert body["pools"] == ["encoded"]


def test_a_folder_with_the_answer_to_another_command_is_left_alone(tmp_path: Path) -> None:
    label._keep(tmp_path / "out", {"asked": {"few": "/a"}, "uploads": {"image_pool_id": "pool_1"}})
    assert label._known(tmp_path / "out", {"few": "/a"})["uploads"] == {"image_pool_id": "pool_1"}
    with pytest.raises(CliError, match="another --out"):
        label._known(tmp_path / "out", {"few": "/b"})


def test_a_changed_file_is_another_command(folders: tuple[Path, Path, Path]) -> None:
    few, _, test = folders
    before = label._fingerprint(few), label._fingerprint(test)
    assert before == (label._fingerprint(few), label._fingerprint(test))
    (few / ".DS_Store").write_bytes(b"no matter")
    assert label._fingerprint(few) == before[0]
    (few / "annotations.json").write_bytes(b"{}")
    test.write_bytes(b"other")
    assert label._fingerprint(few) != before[0]
    assert label._fingerprint(test) != before[1]


def test_the_network_is_what_was_asked_for(tmp_path: Path) -> None:
    assert label._student(None, None) == {}
    assert label._student(None, 30) == {"steps": 30}
    assert label._student(tmp_path / "weights", 30) == {
        "steps": 30,
        "architecture": "upernet_efficientnet_lite0",
        "weights": "efficientnet-lite0",
    }
    assert (tmp_path / "weights" / "efficientnet-lite0" / "model.safetensors").stat().st_size > 0


def test_without_its_package_imagenet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "make_weights", lambda _folder: None)
    with pytest.raises(CliError, match="leave --imagenet out"):
        label._student(tmp_path, None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("options", [[], ["--imagenet"]], ids=["small", "imagenet"])
def test_one_command_from_two_folders_to_a_network(
    tmp_path: Path, folders: tuple[Path, Path, Path], options: list[str]
) -> None:
    few, unlabelled, test = folders
    command = [sys.executable, "-m", "cli.app", "label", str(few), str(unlabelled), "--test", str(test)]
    command += ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "data"), "--student-steps", "3", *options]
    for _ in range(2):
        answer = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
        assert answer.returncode == 0, answer.stderr
    assert "uploaded" not in answer.stdout, "the second run found all that the first had sent"
    out = tmp_path / "out"
    assert [row["name"] for row in json.loads((out / "report.json").read_text())["rows"]] == [
        "student",
        "head",
        "baseline",
    ]
    assert len(list((out / "dataset").glob("*-coco.zip"))) == 1
    assert (out / "student" / "model.safetensors").stat().st_size > 0
