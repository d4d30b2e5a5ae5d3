"""Training steps on tiny real networks: they stop, go on from their checkpoint, and leave what later steps need."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from models.contracts import Stopped
from models.generators.network import NetworkConfig
from models.generators.unet_diffusion import UNetDiffusionGenerator
from service import generators as generator_rows
from service import jobs, reports, steps, students
from service.bootstrap import Factory
from service.job_spec import TrainGeneratorSpec, parse
from service.object_keys import parse as parse_key
from service.references import referenced
from service.settings import Settings
from service.tables import Job, Step
from tests import factories, tiny
from workers import distil, runtime
from workers.context import StepContext
from workers.handlers import HANDLERS
from workers.train_generator import train_config


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", shard_size=64)


def submit(factory: Factory, **document: Any) -> Job:
    with factory.work() as work:
        return jobs.create(work, parse(document)).job


def run_steps(factory: Factory, *kinds: str, handlers: Mapping[str, Any] = HANDLERS) -> None:
    for kind in kinds:
        seen: list[str] = []
        watched = {name: _watch(name, handler, seen) for name, handler in handlers.items()}
        assert runtime.run_next_step(factory, "worker-1", watched)
        assert seen == [kind]


def _watch(name: str, handler: Any, seen: list[str]) -> Callable[[StepContext], Any]:
    return lambda context: seen.append(name) or handler(context)


def step_of(factory: Factory, job_id: str, kind: str) -> Step:
    with factory.read() as work:
        return next(step for step in steps.list_of_job(work, job_id) if step.kind == kind)


def label_job(factory: Factory, generators: Path, **changes: Any) -> Job:
    with factory.work() as work:
        references = {
            "generator": tiny.make_generator(work, generators).id,
            "annotation_set_id": tiny.make_annotation_set(work).id,
        }
    document: dict[str, Any] = {
        "kind": "label",
        "num_images": 6,
        "sampling_steps": 2,
        "head": tiny.HEAD,
        "student": {"architecture": "segformer_nano", **tiny.STUDENT_BUDGET},
        **references,
        **changes,
    }
    return submit(factory, **document)


def test_without_held_out_images_the_report_says_what_is_known(factory: Factory, generators: Path) -> None:
    job = label_job(factory, generators)
    run_steps(factory, "fit_head", "label_shard", "seal_dataset", "distil", "evaluate", "export_dataset")
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    with factory.read() as work:
        report = reports.get(work, ended.result["report_id"])
        student = students.get(work, ended.result["student_id"])
    assert report.content["rows"] == []
    assert (report.content["images"], report.content["sheet"]) == ([], None)
    assert "An estimate on the few labels alone" in report.content["verdict"]
    assert 0 <= report.content["estimate"]["miou"] <= 1
    curve = report.content["filter_curve"]
    assert (curve["estimated"], curve["num_images"]) == (True, 3)
    assert curve["dropped"] == {"drop_share": 0.1, "ignore_pixel_share": 0.0}
    assert {cost["kind"] for cost in report.content["steps"]} >= {"fit_head", "label_shard", "distil"}
    names = {file["name"] for file in student.files}
    assert names >= {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "model.onnx"}
    assert student.card["onnx"]["agreement"] > 0.999
    assert student.card["generator"]["digest"]
    assert student.card["recipe"]["steps"] == 3


def sharing(factory: Factory, processes: int) -> Factory:
    """The same factory on a machine of so many accelerators."""
    return replace(factory, settings=factory.settings.model_copy(update={"training_processes": processes}))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mode", "processes"), [("feature", 1), ("mix", 1), ("feature", 2)])
def test_a_student_distilled_with_features_is_stored_as_any_other(
    factory: Factory, generators: Path, mode: str, processes: int
) -> None:
    factory = sharing(factory, processes)
    spec = {"architecture": "upernet_textnet", "mode": mode, **tiny.STUDENT_BUDGET, "batch_size": 8 * processes}
    job = label_job(factory, generators, student=spec)
    run_steps(factory, "fit_head", "label_shard", "seal_dataset", "distil")
    with factory.read() as work:
        student = students.get(work, step_of(factory, job.id, "distil").output["student_id"])
        weights = next(file for file in student.files if file["name"] == "model.safetensors")
        tensors = load(b"".join(work.storage.get_stream(weights["key"])))
    assert not [name for name in tensors if not name.startswith(("backbone.", "decode_head."))]
    recipe = student.card["recipe"]
    assert (recipe["mode"], recipe["feature_timestep"], recipe["steps"]) == (mode, 50, 3)
    assert recipe["loss_weights"]["attention"] == 10.0
    assert recipe["batch_size"] == 8 * processes
    assert student.card["onnx"]["agreement"] > 0.999
    assert ("log" in factories.event_types(factory, job.id)) == (processes > 1), "a shared training says so"


def test_features_of_images_of_another_size_are_a_clear_failure(
    factory: Factory, generators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"architecture": "segformer_nano", "mode": "mix", **tiny.STUDENT_BUDGET}
    job = label_job(factory, generators, student=student)
    run_steps(factory, "fit_head", "label_shard", "seal_dataset")
    network = NetworkConfig(block_out_channels=(8, 16), layers_per_block=1, attention=False)
    larger = UNetDiffusionGenerator.build((3, 64, 64), network)
    monkeypatch.setattr(distil, "load_feature_source", lambda _context: larger)
    run_steps(factory, "distil")
    error = step_of(factory, job.id, "distil").error
    assert error is not None
    assert error["type"] == "image-size"
    assert "64x64" in error["detail"]


def test_an_interrupted_distillation_goes_on_from_its_checkpoint(
    factory: Factory, generators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = label_job(factory, generators)
    run_steps(factory, "fit_head", "label_shard", "seal_dataset")
    shutdown = threading.Event()
    polls = iter(range(100))

    def stop_soon(context: StepContext) -> Any:
        # Two optimiser steps, then this process is asked to end.
        real = context.stop_reason
        object.__setattr__(context, "stop_reason", lambda: (next(polls) >= 8 and shutdown.set()) or real())
        return HANDLERS["distil"](context)

    assert runtime.run_next_step(factory, "worker-1", {**HANDLERS, "distil": stop_soon}, shutdown=shutdown)
    step = step_of(factory, job.id, "distil")
    assert (step.state, step.attempt) == ("ready", 0)
    assert step.checkpoint_key is not None
    run_steps(factory, "distil")
    assert step_of(factory, job.id, "distil").state == "succeeded"


@pytest.mark.timeout(300)
def test_several_processes_train_a_student_and_go_on_from_a_checkpoint(factory: Factory) -> None:
    factory = sharing(factory, 2)
    with factory.work() as work:
        few = tiny.make_annotation_set(work)
    student = {"architecture": "upernet_textnet", "steps": 12, "finetune_steps": 2, "batch_size": 16}
    job = submit(factory, kind="train_student", student=student, annotation_set_id=few.id)
    shutdown = threading.Event()

    def stop_soon(context: StepContext) -> Any:
        # One report, then this process is asked to end.
        real, tracker = context.stop_reason, context.tracker
        object.__setattr__(context, "stop_reason", lambda: (tracker.snapshot() and shutdown.set()) or real())
        return HANDLERS["train_student"](context)

    assert runtime.run_next_step(factory, "worker-1", {**HANDLERS, "train_student": stop_soon}, shutdown=shutdown)
    step = step_of(factory, job.id, "train_student")
    assert (step.state, step.attempt) == ("ready", 0)
    assert step.checkpoint_key is not None
    run_steps(factory, "train_student")
    with factory.read() as work:
        row = students.get(work, factories.job_now(factory, job.id).result["student_id"])
    recipe = row.card["recipe"]
    assert (recipe["steps"], recipe["batch_size"]) == (14, 16)
    assert row.card["onnx"]["agreement"] > 0.999


def test_a_student_of_the_few_labels_alone_says_so(factory: Factory) -> None:
    with factory.work() as work:
        few, held_out = tiny.make_annotation_set(work), tiny.make_annotation_set(work, first=50, count=4)
    student = {"architecture": "segformer_nano", **tiny.STUDENT_BUDGET}
    references = {"annotation_set_id": few.id, "evaluation_set_id": held_out.id}
    job = submit(factory, kind="train_student", student=student, **references)
    run_steps(factory, "train_student", "evaluate")
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    assert set(ended.result) == {"student_id", "report_id"}
    with factory.read() as work:
        row = students.get(work, ended.result["student_id"])
        content = reports.get(work, ended.result["report_id"]).content
        readme = b"".join(work.storage.get_stream(students.file(row, "README.md").key)).decode()
    assert row.dataset_id is None
    assert [entry["name"] for entry in row.classes] == ["background", "disc"]
    assert row.card["learned_from"] == "the few labels alone"
    assert row.card["annotation_set"]["sha256"] == few.sha256
    assert not {"generator", "head"} & set(row.card)
    assert row.card["recipe"]["steps"] == 3
    assert row.card["onnx"]["agreement"] > 0.999
    assert "trained on a few annotated images alone" in readme
    assert "distilled" not in readme.partition("## Use")[0]
    assert "Measured on held-out labels" in readme
    assert [entry["name"] for entry in content["rows"]] == ["student"]
    assert content["verdict"].startswith("The student trained on 3 labels alone reaches mIoU 0.")
    assert content["verdict"].endswith("on 4 held-out images.")
    assert [cost["kind"] for cost in content["steps"]] == ["train_student"]
    assert content["device"] == "cpu"
    assert_worst_and_best(factory, content)


def test_a_head_reads_the_blocks_that_are_pinned_and_the_report_shows_what_all_know(
    factory: Factory, generators: Path
) -> None:
    with factory.work() as work:
        held_out = tiny.make_annotation_set(work, first=50, count=4)
    head = {**tiny.HEAD, "tap_blocks": ["up1.0"]}
    label = label_job(
        factory, generators, head=head, stop_after="dataset", filter={"drop_share": 0.2}, evaluation_set_id=held_out.id
    )
    run_steps(factory, *LABELLED)
    dataset_id = factories.job_now(factory, label.id).result["dataset_id"]
    job = submit(factory, kind="evaluate", dataset_id=dataset_id, evaluation_set_id=held_out.id)
    run_steps(factory, "evaluate")
    with factory.read() as work:
        content = reports.get(work, factories.job_now(factory, job.id).result["report_id"]).content
    (taps,), curve = content["taps"], content["filter_curve"]
    assert [block["name"] for block in taps["blocks"]] == ["up0.1", "up1.0"]
    assert taps["read"] == {"timesteps": [50], "blocks": ["up1.0"]}
    assert len(taps["miou"]) == len(taps["timesteps"]) > 1
    assert (curve["estimated"], curve["num_images"], curve["dropped"]["drop_share"]) == (False, 4, 0.2)
    assert curve["images"][0] == pytest.approx(content["rows"][0]["miou"])


def test_blocks_that_the_generator_does_not_have_are_a_clear_failure(factory: Factory, generators: Path) -> None:
    job = label_job(factory, generators, head={**tiny.HEAD, "tap_blocks": ["up9.9"]})
    run_steps(factory, "fit_head")
    error = step_of(factory, job.id, "fit_head").error
    assert error is not None
    assert error["type"] == "unknown-tap-blocks"
    assert "up9.9; there are up0.1, up1.0" in error["detail"]
    assert factories.job_now(factory, job.id).state == "failed"


def assert_worst_and_best(factory: Factory, content: dict[str, Any]) -> None:
    """Of four images all are there, worst first, with a picture that stays."""
    scores = [image["miou"] for image in content["images"]]
    assert scores == sorted(scores)
    assert sorted(image["index"] for image in content["images"]) == [0, 1, 2, 3]
    sheet = content["sheet"]
    assert sheet["images"] == [image["index"] for image in content["images"]]
    with factory.read() as work:
        assert referenced(work, [parse_key(sheet["key"])]) == {sheet["key"]}
        picture = Image.open(io.BytesIO(b"".join(work.storage.get_stream(sheet["key"]))))
    assert picture.width > picture.height > 0, "four columns, three rows"


def test_the_few_labels_alone_make_the_baseline_of_the_same_seed(factory: Factory, generators: Path) -> None:
    """What a label job compares with is what `train_student` hands out."""
    with factory.work() as work:
        held_out = tiny.make_annotation_set(work, first=50, count=4)
    student = {"architecture": "segformer_nano", **tiny.STUDENT_BUDGET}
    label = label_job(factory, generators, evaluation_set_id=held_out.id, student=student)
    few_id = label.spec["annotation_set_id"]
    run_steps(factory, *LABELLED[:3], "distil", "export_dataset", "train_baseline", "evaluate")
    references = {"annotation_set_id": few_id, "evaluation_set_id": held_out.id}
    alone = submit(factory, kind="train_student", student=student, **references)
    run_steps(factory, "train_student", "evaluate")
    scores = []
    for job in (label, alone):
        with factory.read() as work:
            rows = reports.get(work, factories.job_now(factory, job.id).result["report_id"]).content["rows"]
        scores.append({row["name"]: row["confusion_matrix"] for row in rows})
    assert scores[0]["baseline"] == scores[1]["student"]


def tensors_of(factory: Factory, student_id: str) -> dict[str, Any]:
    with factory.read() as work:
        weights = students.file(students.get(work, student_id), "model.safetensors")
        return load(b"".join(work.storage.get_stream(weights.key)))


LABELLED = ("fit_head", "label_shard", "seal_dataset", "export_dataset")


@pytest.mark.parametrize("mode", ["label", "mix"])
def test_a_sealed_dataset_makes_another_student_as_its_own_job_would(
    factory: Factory, generators: Path, mode: str
) -> None:
    with factory.work() as work:
        held_out = tiny.make_annotation_set(work, first=50, count=4)
    student = {"architecture": "upernet_textnet", "mode": mode, **tiny.STUDENT_BUDGET}
    first = label_job(factory, generators, student=student, seed=3, name="discs")
    run_steps(factory, *LABELLED[:3], "distil", "evaluate", "export_dataset")
    made = factories.job_now(factory, first.id).result
    wish = {"kind": "distill", "dataset_id": made["dataset_id"], "student": student, "seed": 3}
    again = submit(factory, **wish, evaluation_set_id=held_out.id, name="again")
    run_steps(factory, "distil", "evaluate")
    ended = factories.job_now(factory, again.id)
    assert ended.state == "succeeded", ended.error
    assert set(ended.result) == {"dataset_id", "student_id", "report_id"}
    before, after = (tensors_of(factory, result["student_id"]) for result in (made, ended.result))
    assert all((before[name] == after[name]).all() for name in before), "the same dataset, recipe and seed"
    with factory.read() as work:
        row = students.get(work, ended.result["student_id"])
        content = reports.get(work, ended.result["report_id"]).content
    assert (row.name, row.dataset_id) == ("again", made["dataset_id"])
    assert row.card["dataset"]["job_id"] == first.id
    assert row.card["generator"]["digest"]
    assert [entry["name"] for entry in content["rows"]] == ["student"]
    assert content["verdict"].startswith("The student distilled from discs reaches mIoU 0.")
    assert content["cross_validation"] == []


def test_a_dataset_of_both_pools_restricted_to_one_is_the_dataset_of_that_pool(
    factory: Factory, generators: Path
) -> None:
    with factory.work() as work:
        references: dict[str, Any] = {
            "generator": tiny.make_generator(work, generators).id,
            "annotation_set_id": tiny.make_annotation_set(work).id,
            "image_pool_id": tiny.make_pool(work, parts=(5,)).id,
        }
    student = {"architecture": "segformer_nano", **tiny.STUDENT_BUDGET}
    trained = []
    for pools in (["encoded"], ["synthesized", "encoded"]):
        job = label_job(factory, generators, **references, pools=pools, num_images=3, stop_after="dataset")
        run_steps(factory, "fit_head", *("label_shard" for _ in pools), "seal_dataset", "export_dataset")
        dataset_id = factories.job_now(factory, job.id).result["dataset_id"]
        alone = submit(factory, kind="distill", dataset_id=dataset_id, pools=["encoded"], student=student)
        run_steps(factory, "distil")
        trained.append(tensors_of(factory, factories.job_now(factory, alone.id).result["student_id"]))
    assert all((trained[0][name] == trained[1][name]).all() for name in trained[0])


def test_a_student_and_the_head_of_a_dataset_are_measured_on_their_own(factory: Factory, generators: Path) -> None:
    with factory.work() as work:
        held_out, other = (tiny.make_annotation_set(work, first=first, count=4) for first in (50, 70))
    label = label_job(factory, generators, evaluation_set_id=held_out.id, name="discs")
    run_steps(factory, *LABELLED[:3], "distil", "export_dataset", "train_baseline", "evaluate")
    made = factories.job_now(factory, label.id).result
    with factory.read() as work:
        known = {row["name"]: row for row in reports.get(work, made["report_id"]).content["rows"]}
        card = students.get(work, made["student_id"]).card
        shown = step_of(factory, label.id, "evaluate").progress["metrics"]
        assert shown == pytest.approx({f"{name}_miou": row["miou"] for name, row in known.items()}), "whose score it is"
        assert len(shown) == 3
        head = parse_key(step_of(factory, label.id, "fit_head").output["head_key"])
        assert referenced(work, [head]) == {head.key}, "the head of a dataset is never an orphan"
    for name, measure, words in (
        ("student", {"student_id": made["student_id"]}, "The student discs reaches mIoU"),
        ("head", {"dataset_id": made["dataset_id"]}, "The head that labelled discs reaches mIoU"),
    ):
        contents = []
        for images in (held_out, other):
            job = submit(factory, kind="evaluate", evaluation_set_id=images.id, **measure)
            run_steps(factory, "evaluate")
            ended = factories.job_now(factory, job.id)
            assert ended.state == "succeeded", ended.error
            assert set(ended.result) == {"report_id"}
            with factory.read() as work:
                report = reports.get(work, ended.result["report_id"])
            assert report.student_id == measure.get("student_id")
            assert report.content["verdict"].startswith(words)
            contents.append(report.content)
        same, on_others = contents
        assert [row["name"] for row in same["rows"]] == [name]
        assert_worst_and_best(factory, on_others)
        assert same["rows"] == [known[name]], "the same images, the same numbers as in the job's own report"
        assert on_others["rows"][0]["confusion_matrix"] != known[name]["confusion_matrix"]
    with factory.read() as work:
        assert students.get(work, made["student_id"]).card == card, "a student never changes"


def train_job(factory: Factory, **changes: Any) -> Job:
    with factory.work() as work:
        pool_id = tiny.make_pool(work, parts=(20, 14)).id
    network = {"block_out_channels": [8, 16], "layers_per_block": 1, "patch_size": 2, "attention": False}
    document: dict[str, Any] = {
        "kind": "train_generator",
        "name": "discs",
        "image_pool_id": pool_id,
        "steps": 4,
        "batch_size": 4,
        "network": network,
        **changes,
    }
    return submit(factory, **document)


def test_a_trained_generator_is_ready_and_loads(factory: Factory, tmp_path: Path) -> None:
    job = train_job(factory)
    run_steps(factory, "train_generator")
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    with factory.read() as work:
        row = generator_rows.get(work, "discs")
        assert (row.state, row.image_height, row.image_width) == ("ready", tiny.SIZE, tiny.SIZE)
        assert row.card["pool"]["num_images"] == 34
        prefix = row.key_prefix
        archive = b"".join(work.storage.get_stream(generator_rows.archive_key(work, row)))
    assert prefix is not None
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        assert {"README.md", "generator.json", "unet/config.json", "samples.png"} <= set(zipped.namelist())
        card = zipped.read("README.md").decode()
        assert "Kernel distance" in card
        assert "while it trained" in card.lower()
    for key in factory.storage.list(prefix):
        path = tmp_path / "loaded" / key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(factory.storage.get_stream(key)))
    assert (tmp_path / "loaded" / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert generator_rows.directory_digest(tmp_path / "loaded") == row.digest
    assert UNetDiffusionGenerator.load(tmp_path / "loaded").image_size == (3, tiny.SIZE, tiny.SIZE)
    assert "sample" in factories.event_types(factory, job.id)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_generator_is_trained_on_from_another(factory: Factory, generators: Path, processes: int) -> None:
    factory = sharing(factory, processes)
    with factory.work() as work:
        base = tiny.make_generator(work, generators)
    job = train_job(factory, base_generator=base.name, network={})
    assert job.spec["base_generator"] == base.id
    run_steps(factory, "train_generator")
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    assert ("log" in factories.event_types(factory, job.id)) == (processes > 1), "a shared training says so"
    with factory.read() as work:
        row = generator_rows.get(work, "discs")
        card = b"".join(work.storage.get_stream(generator_rows.file_key(row, "README.md"))).decode()
    known = row.card["training"]["base"]
    assert (known["id"], known["name"], known["digest"]) == (base.id, base.name, base.digest)
    assert row.digest != base.digest
    assert f"It began with the weights of {base.name} (digest {base.digest})" in card


def test_a_batch_fills_the_device_unless_the_job_says_otherwise() -> None:
    document = {"kind": "train_generator", "name": "discs", "image_pool_id": "pool_1", "steps": 4}
    specs = [parse(document), parse({**document, "batch_size": 4})]
    sizes = {
        (device, spec.batch_size): train_config(spec, (3, 32, 32), torch.device(device)).batch_size
        for device in ("cpu", "cuda")
        for spec in specs
        if isinstance(spec, TrainGeneratorSpec)
    }
    assert sizes == {("cpu", None): 8, ("cuda", None): 32, ("cpu", 4): 4, ("cuda", 4): 4}


def test_a_pool_too_large_for_the_memory_is_refused_with_a_way_out(factory: Factory) -> None:
    job = train_job(factory)
    small = Settings(data_dir=factory.settings.data_dir, max_pool_memory_bytes=1000)
    object.__setattr__(factory, "settings", small)
    run_steps(factory, "train_generator")
    error = factories.job_now(factory, job.id).error
    assert error is not None
    assert error["type"] == "pool-too-large"
    assert "LABEL_FACTORY_MAX_POOL_MEMORY_BYTES" in error["hint"]
    with factory.read() as work:
        assert generator_rows.get(work, "discs").state == "failed"


def test_a_cancelled_training_can_be_taken_up_again(factory: Factory) -> None:
    job = train_job(factory)

    def cancelled(context: StepContext) -> Any:
        with factory.work() as work:
            jobs.cancel(work, job.id)
        (context.checkpoint.folder / "generator.note").write_text("half")
        raise Stopped

    def asked(context: StepContext) -> Any:
        object.__setattr__(context.stop_reason.__self__, "_reason", runtime.StopReason.CANCELLED)  # type: ignore[attr-defined]
        return cancelled(context)

    run_steps(factory, "train_generator", handlers={"train_generator": asked})
    assert factories.job_now(factory, job.id).state == "cancelled"
    with factory.work() as work:
        jobs.retry(work, job.id)
    run_steps(factory, "train_generator")
    assert factories.job_now(factory, job.id).state == "succeeded"
