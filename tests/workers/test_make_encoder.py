"""An operator's encoder, from the command to a finished job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.encoders.image_encoder import ImageEncoder
from models.encoders.vision_transformer import VisionTransformer
from models.generators.families import FAMILIES
from service import datasets, jobs, reports
from service.bootstrap import Factory
from service.generators import register_bundled
from service.job_spec import parse
from tests import factories, tiny
from tests.models.generators import tiny_families
from tests.models.tiny import tiny_transformer
from workers import make_encoder, runtime
from workers.handlers import HANDLERS


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["make_encoder", *arguments])
    make_encoder.main()


def test_an_encoder_is_made_from_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, str(tmp_path / "lite"))
    assert "weights" in capsys.readouterr().out
    encoder = FAMILIES["encoder"].load(tmp_path / "lite")
    assert isinstance(encoder, ImageEncoder)
    assert encoder.for_images(64, 128).tap_strides["block10"] == 8
    said = json.loads((tmp_path / "lite" / "generator.json").read_text())
    assert (said["network"], said["card"]["licence"]) == ("efficientnet_lite0", "Apache-2.0")
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


@pytest.mark.parametrize(("size", "stride"), [((64, 128), 4), ((66, 70), 4), ((30, 64), 1)])
def test_an_encoder_is_made_from_a_local_transformer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], stride: int
) -> None:
    tiny_transformer().save(tmp_path / "dino")
    arguments = ["--network", "vision_transformer", "--weights", str(tmp_path / "dino")]
    run(monkeypatch, str(tmp_path / "made"), *arguments)
    encoder = FAMILIES["encoder"].load(tmp_path / "made")
    assert isinstance(encoder, ImageEncoder)
    assert set(encoder.for_images(*size).tap_strides.values()) == {stride}
    assert isinstance(encoder.network, VisionTransformer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "vision_transformer"], "--weights is needed"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_what_cannot_be_made_is_said_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, str(tmp_path / "x"), *arguments)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("source", ["alone", "generator", "gan"])
def test_a_job_with_an_encoder_ends_with_a_report(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generators: Path, source: str
) -> None:
    """Alone; beside a generator, which draws images that both label; beside a GAN, which draws what the encoder labels."""
    run(monkeypatch, str(tmp_path / "lite"))
    drawn = source != "alone"
    directory = tiny_families.stylegan2(tmp_path / "gan") if source == "gan" else generators
    with factory.work() as work:
        row = register_bundled(work, "lite", tmp_path / "lite")
        beside = {"generator": tiny.make_generator(work, directory).id, "encoder": "lite"}
        document: dict[str, Any] = {
            "kind": "label",
            **(beside if drawn else {"generator": "lite"}),
            "annotation_set_id": tiny.make_annotation_set(work).id,
            "evaluation_set_id": tiny.make_annotation_set(work, first=50).id,
            "image_pool_id": tiny.make_pool(work).id,
            "pools": ["synthesized", "encoded"] if drawn else ["encoded"],
            "num_images": 2,
            "sampling_steps": 2,
            "head": {"steps": 2, "members": 2, "batch_size": 4},
            "student": {"architecture": "segformer_nano", "mode": "mix", **tiny.STUDENT_BUDGET},
        }
        job = jobs.create(work, parse(document)).job
    while runtime.run_next_step(factory, "worker-1", HANDLERS):
        pass
    ended = factories.job_now(factory, job.id)
    assert (row.family, row.image_height, ended.state) == ("encoder", None, "succeeded"), ended.error
    with factory.read() as work:
        content = reports.get(work, ended.result["report_id"]).content
        card = datasets.get(work, ended.result["dataset_id"]).card
        pools = {shard.pool_kind for shard in datasets.shards(work, ended.result["dataset_id"])}
    assert {line["name"] for line in content["rows"]} == {"student", "head", "baseline"}
    assert pools == {*document["pools"]}
    assert [table["source"] for table in content["taps"]][-1] == "lite"
    assert len(content["taps"]) == (2 if source == "generator" else 1)
    titles = {line["title"] for line in content["rows"]}
    if source == "generator":
        assert (card["encoder"]["name"], card["head"]["kind"], card["head"]["steps"]) == ("lite", "ensemble", 4)
        assert all("curves" not in head for head in (card["head"], *card["head"]["beside"]))
        assert "Head on the generator + Head on the encoder" in titles
    else:
        assert card["head"]["kind"] == "fusion"
        assert "Head on the encoder" in titles
