"""Generators from an operator's folder and from a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import generators, jobs, steps
from service.bootstrap import Factory, build_factory, prepare
from service.errors import Conflict, Invalid, NotFound
from service.generators import TrainedGenerator
from service.settings import Settings
from tests.factories import WEIGHTS, must_claim, train_spec, write_generator


def test_a_directory_is_copied_and_found_by_name(factory: Factory, tmp_path: Path) -> None:
    directory = write_generator(tmp_path / "portraits")
    with factory.work() as work:
        row = generators.register_bundled(work, "portraits", directory)
        assert (row.state, row.image_height, row.num_parameters) == ("ready", 64, 12)
        key = generators.file_key(row, "unet/diffusion_pytorch_model.safetensors")
        assert b"".join(work.storage.get_stream(key)) == WEIGHTS
        assert generators.get(work, "portraits") is row
        assert generators.register_bundled(work, "portraits", directory) is row


def test_other_files_under_the_same_name_are_refused(factory: Factory, tmp_path: Path) -> None:
    directory = write_generator(tmp_path / "portraits")
    with factory.work() as work:
        generators.register_bundled(work, "portraits", directory)
    (directory / "model_index.json").write_text('{"changed": 1}')
    with pytest.raises(Conflict), factory.work() as work:
        generators.register_bundled(work, "portraits", directory)


@pytest.mark.parametrize("name", ["pipeline.py", "weights.bin", "weights.pt", "weights.pkl"])
def test_files_that_could_run_code_are_refused(factory: Factory, tmp_path: Path, name: str) -> None:
    directory = write_generator(tmp_path / "g")
    (directory / name).write_text("import os")
    with pytest.raises(Invalid) as caught, factory.work() as work:
        generators.register_bundled(work, "g", directory)
    assert caught.value.errors[0]["place"] == name


@pytest.mark.parametrize(
    "content", [b"", b"weights", b"\xff" * 100, (3).to_bytes(8, "little") + b"{]}", b"\2" + bytes(7) + b"[]"]
)
def test_broken_weights_are_refused(factory: Factory, tmp_path: Path, content: bytes) -> None:
    directory = write_generator(tmp_path / "g")
    (directory / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(Invalid, match="not a generator"), factory.work() as work:
        generators.register_bundled(work, "g", directory)


def test_links_are_refused(factory: Factory, tmp_path: Path) -> None:
    directory = write_generator(tmp_path / "g")
    (directory / "more.json").symlink_to("/etc/passwd")
    with pytest.raises(Invalid), factory.work() as work:
        generators.register_bundled(work, "g", directory)


@pytest.mark.parametrize("size", [None, [3, 64], [3, 64, "64"], [3, 0, 64], "big"])
def test_a_card_without_a_sound_size_is_refused(factory: Factory, tmp_path: Path, size: object) -> None:
    directory = write_generator(tmp_path / "g", image_size=size)
    with pytest.raises(Invalid), factory.work() as work:
        generators.register_bundled(work, "g", directory)


def test_a_family_that_is_not_ours_is_refused(factory: Factory, tmp_path: Path) -> None:
    directory = write_generator(tmp_path / "g", family="unheard_of")
    with pytest.raises(Invalid, match="no known family") as caught, factory.work() as work:
        generators.register_bundled(work, "g", directory)
    assert "unet_diffusion" in caught.value.errors[0]["message"]


def test_the_operators_folder_is_registered_at_start(tmp_path: Path) -> None:
    write_generator(tmp_path / "bundled" / "portraits")
    (tmp_path / "bundled" / "notes").mkdir()
    factory = build_factory(Settings(data_dir=tmp_path / "data", bundled_generators_dir=tmp_path / "bundled"))
    for _ in range(2):
        prepare(factory)
    with factory.read() as work:
        assert [row.name for row in generators.list_page(work).items] == ["portraits"]
    factory.check()
    factory.close()


def test_a_trained_generator_becomes_ready_with_its_step(factory: Factory) -> None:
    with factory.work() as work:
        jobs.create(work, train_spec(work, name="tissue"))
    step = must_claim(factory)
    generator_id = step.job_result["generator_id"]
    with pytest.raises(Conflict), factory.read() as work:
        generators.file_key(generators.get(work, generator_id), "samples.png")
    trained = TrainedGenerator(f"generators/{generator_id}/1/", "1" * 64, 1_000, 99, (3, 64, 64), {"loss": 0.1})
    with factory.work() as work:
        generators.record_trained(work, generator_id, trained)
        steps.record_success(work, step.id, step.token, {"generator_id": generator_id})
    with factory.read() as work:
        row = generators.get(work, "tissue")
        assert (row.state, row.num_parameters, row.card) == ("ready", 99, {"loss": 0.1})
        assert generators.file_key(row, "samples.png") == f"generators/{generator_id}/1/samples.png"
        assert jobs.get(work, step.job_id).state == "succeeded"


def test_an_unknown_generator_is_not_found(factory: Factory) -> None:
    with pytest.raises(NotFound), factory.read() as work:
        generators.get(work, "nobody")
