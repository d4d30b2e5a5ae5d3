"""Drives jobs into every state through the real step protocol, as workers would."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from service import datasets, events, jobs, object_keys, reports, sealing, steps
from service import students as students_
from service.ids import new_id
from service.job_spec import EvaluateSpec, LabelSpec, TrainGeneratorSpec, parse
from service.steps import ClaimedStep, Progress
from service.unit_of_work import Work
from tests.api.dashboard.scenery import HOSTILE, Scene, count_pixels, sheet, write_shard

LONG = 540.0  # as far away as a lease may end
TAPS: dict[str, Any] = {
    "source": HOSTILE,
    "timesteps": [10, 50, 120, 250, 400, 600],
    "blocks": [
        {"name": "up0.2", "stride": 8, "channels": 128},
        {"name": HOSTILE, "stride": 4, "channels": 80},
        {"name": "up2.0", "stride": 2, "channels": 48},
    ],
    "miou": [
        [0.274, 0.325, 0.259],
        [0.278, 0.322, 0.268],
        [0.280, 0.325, 0.268],
        [0.281, 0.349, 0.257],
        [0.256, 0.366, 0.260],
        [0.242, 0.327, None],
    ],
    "num_folds": 5,
    "num_images": 5,
    "read": {"timesteps": [50, 120, 250], "blocks": ["up0.2", HOSTILE, "up2.0"]},
}
CURVE: dict[str, Any] = {
    "shares": [step / 20 for step in range(11)],
    "images": [0.690, 0.694, 0.697, 0.700, 0.702, 0.701, 0.707, 0.711, 0.709, None, None],
    "pixels": [0.690, 0.722, 0.749, 0.771, 0.789, 0.803, 0.815, 0.824, 0.831, 0.838, 0.844],
    "num_images": 150,
    "estimated": False,
    "dropped": {"drop_share": 0.12, "ignore_pixel_share": 0.0},
}


def label_job(scene: Scene, name: str, *, num_images: int | None = None, stop_after: str = "student") -> str:
    """Submit a label job."""
    spec = LabelSpec.model_validate(
        {
            "kind": "label",
            "name": name,
            "annotation_set_id": scene.annotation_set_id,
            "evaluation_set_id": scene.held_out_id,
            "generator": scene.generator_id,
            "image_pool_id": scene.pool_id,
            "num_images": num_images or len(scene.pictures),
            "stop_after": stop_after,
        }
    )
    with scene.factory.work() as work:
        return jobs.create(work, spec).job.id


def train_job(scene: Scene, name: str) -> str:
    """Submit a train_generator job."""
    spec = TrainGeneratorSpec(kind="train_generator", name=name, image_pool_id=scene.pool_id, minutes=25.0)
    with scene.factory.work() as work:
        return jobs.create(work, spec).job.id


def submit(scene: Scene, kind: str, name: str, **references: str) -> str:
    """Submit a job that is measured on the held-out images."""
    document = {"kind": kind, "name": name, "evaluation_set_id": scene.held_out_id, **references}
    with scene.factory.work() as work:
        return jobs.create(work, parse(document)).job.id


def other_kinds(scene: Scene, label_job_id: str) -> dict[str, str]:
    """A finished job of each kind that begins with what a label job made."""
    with scene.factory.read() as work:
        result = jobs.get(work, label_job_id).result
    dataset, student = ({name: str(result[name])} for name in ("dataset_id", "student_id"))
    wishes = {
        "train_student": ("train_student", {"annotation_set_id": scene.annotation_set_id}),
        "distill": ("distill", dataset),
        "evaluate a student": ("evaluate", student),
        "evaluate a head": ("evaluate", dataset),
    }
    return {
        words: finished(scene, submit(scene, kind, f"{HOSTILE} {words}", **references))
        for words, (kind, references) in wishes.items()
    }


def claim(scene: Scene) -> ClaimedStep:
    """Take the next step, for a long time."""
    with scene.factory.work() as work:
        step = steps.claim(work, queues=["gpu", "cpu"], owner="worker-1", lease_seconds=LONG)
    assert step is not None
    return step


def learn(scene: Scene, step: ClaimedStep, share: float = 1.0, total: int = 2000, points: int = 40) -> None:
    """Report a learning step's progress, loss falling, score rising."""
    for done in np.linspace(total / points, total * share, points).astype(int).tolist():
        wave = 0.05 * math.sin(done / 37)
        metrics = {"loss": 1.4 * math.exp(-done / (total / 4)) + 0.18 + wave * 0.6}
        if step.kind != "train_generator":
            metrics["miou"] = 0.68 * (1 - math.exp(-done / (total / 5))) + wave * 0.2
        report = Progress(done, total, "steps", 38.4, (total - done) / 38.4, "learning", metrics)
        with scene.factory.work() as work:
            steps.heartbeat(work, step.id, step.token, lease_seconds=LONG, progress=report)


def label_shard(scene: Scene, step: ClaimedStep) -> None:
    """Store and record one shard of pictures with labels."""
    first, count = int(step.params["first_index"]), int(step.params["count"])
    pictures = [scene.pictures[(first + i) % len(scene.pictures)] for i in range(count)]
    file = io.BytesIO()
    offsets = write_shard(file, pictures, first)
    file.seek(0)
    dataset_id = str(step.job_result["dataset_id"])
    index = int(step.params["shard_index"])
    generator = np.random.default_rng(index)
    images = [
        datasets.NewImage(
            first + i,
            f"{first + i:06}",
            float(generator.gamma(2.0, 0.05)),
            [int(n) for n in count_pixels(picture, scene.classes)],
            offset.image_offset,
            offset.image_bytes,
            int(offset.label_offset or 0),
            int(offset.label_bytes or 0),
        )
        for i, (picture, offset) in enumerate(zip(pictures, offsets, strict=True))
    ]
    with scene.factory.work() as work:
        stored = work.storage.put_stream(object_keys.dataset_shard(dataset_id, index, step.token), file)
        key = object_keys.dataset_shard(dataset_id, index, step.token)
        shard = datasets.NewShard(index, key, stored.sha256, stored.num_bytes, count, "synthesized")
        datasets.record_shard(work, dataset_id, shard, images)
        steps.record_success(work, step.id, step.token, {"num_images": count}, peak_memory_bytes=812_000_000)


def seal(scene: Scene, step: ClaimedStep) -> None:
    """Drop the most uncertain tenth."""
    with scene.factory.work() as work:
        dataset_id = str(step.job_result["dataset_id"])
        scores = sealing.image_scores(work, dataset_id)
        kept = scores.uncertainties <= np.quantile(scores.uncertainties, 0.9)
        card = {"generator": "portraits", "licence": "CC BY 4.0", "temperature": 4.0}
        sealing.seal(work, dataset_id, sealing.SealDecisions(kept, kept.astype(np.float64)), card)
        steps.record_success(work, step.id, step.token, {})


def export(scene: Scene, step: ClaimedStep) -> None:
    """A zip that is none."""
    with scene.factory.work() as work:
        dataset_id = str(step.job_result["dataset_id"])
        key = object_keys.dataset_export(dataset_id, "coco", step.token)
        stored = work.storage.put_stream(key, [b"zip"])
        new = datasets.NewExport("coco", key, stored.sha256, 48_200_000, {"problems": []})
        datasets.record_export(work, dataset_id, new)
        steps.record_success(work, step.id, step.token, {})


def distil(scene: Scene, step: ClaimedStep) -> None:
    """A student with files."""
    student_id = new_id("stu")
    names = {"config.json": 2_100, "model.safetensors": 14_900_000, "model.onnx": 15_100_000, "README.md": 4_000}
    with scene.factory.work() as work:
        files = []
        for name, num_bytes in names.items():
            key = object_keys.student_file(student_id, step.token, name)
            stored = work.storage.put_stream(key, [name.encode()])
            files.append(students_.StudentFile(name, key, num_bytes, stored.sha256))
        new = students_.NewStudent(
            id=student_id,
            dataset_id=step.job_result.get("dataset_id"),
            name="SegFormer B0",
            architecture="segformer_b0",
            num_parameters=3_716_000,
            classes=scene.classes,
            files=files,
            archive_key=files[0].key,
            num_bytes=sum(file.num_bytes for file in files),
            card={"distillation": {"steps": 4000, "temperature": 4.0, "mode": "label"}, "finetune_steps": 400},
        )
        students_.record(work, step.job_id, new)
        steps.record_success(work, step.id, step.token, {}, peak_memory_bytes=1_640_000_000)


def evaluate(scene: Scene, step: ClaimedStep) -> None:
    """A report in which the student wins, where the job has somebody to win against."""
    names = [str(item["name"]) for item in scene.classes]
    base = {"student": 0.74}
    student_id = step.job_result.get("student_id")
    if isinstance(step.spec, LabelSpec):
        base |= {"head": 0.69, "baseline": 0.61}
    if isinstance(step.spec, EvaluateSpec):
        student_id = step.spec.student_id
        base = {"student": 0.74} if student_id else {"head": 0.69}
    titles = {"student": "Student", "head": "Head on the generator", "baseline": "Same student, few labels only"}
    rows = [_measured(name, titles[name], names, score) for name, score in base.items()]
    words = "The student (mIoU 0.740) beats the same network trained on the 5 annotated images alone (0.610)."
    with scene.factory.work() as work:
        folds = [{"tap_timesteps": t, "miou": 0.6 - t[0] / 2000, "folds": [0.5, 0.6]} for t in ([50, 120], [50], [120])]
        content: dict[str, Any] = {"rows": rows, "verdict": words, "num_images": 150}
        content |= {"cross_validation": folds, "device": "cpu"}
        if not isinstance(step.spec, EvaluateSpec):  # as if those were measured before reports had pictures
            content |= _worst_and_best(scene, work, step)
        if "head" in base:
            content |= {"taps": [TAPS], "filter_curve": CURVE}
        reports.record(work, step.job_id, content, student_id=student_id)
        steps.record_success(work, step.id, step.token, {})


def _worst_and_best(scene: Scene, work: Work, step: ClaimedStep) -> dict[str, Any]:
    key = object_keys.step_file(step.id, step.token, "extremes.png")
    work.storage.put_stream(key, [sheet(scene.pictures)])
    images = [{"index": index, "miou": miou} for index, miou in ((17, 0.213), (4, 0.351), (0, 0.905), (112, 0.948))]
    return {"images": images, "sheet": {"key": key, "images": [17, 112]}}


def _measured(name: str, title: str, names: list[str], score: float) -> dict[str, Any]:
    generator = np.random.default_rng(len(name))
    per_class = np.clip(score + generator.normal(0, 0.09, len(names)), 0.05, 0.99)
    matrix = generator.integers(0, 400, (len(names), len(names)))
    np.fill_diagonal(matrix, (per_class * 6000).astype(int))
    return {
        "name": name,
        "title": title,
        "num_images": 150,
        "miou": score,
        "per_class_iou": dict(zip(names, per_class.tolist(), strict=True)),
        "boundary_iou": score - 0.11,
        "per_class_boundary_iou": dict(zip(names, (per_class * 0.8).tolist(), strict=True)),
        "accuracy": score + 0.2,
        "expected_calibration_error": 0.031 if name == "student" else 0.08,
        "ap": None,
        "ap50": None,
        "confusion_matrix": matrix.tolist(),
    }


def succeed(scene: Scene, step: ClaimedStep) -> None:
    """Whatever this step makes, in one call."""
    if step.kind in ("fit_head", "distil", "train_baseline", "train_student"):
        learn(scene, step)
    record = {
        "label_shard": label_shard,
        "seal_dataset": seal,
        "export_dataset": export,
        "distil": distil,
        "train_student": distil,
        "evaluate": evaluate,
    }.get(step.kind)
    if record is not None:
        record(scene, step)
        return
    with scene.factory.work() as work:
        steps.record_success(work, step.id, step.token, {}, peak_memory_bytes=1_100_000_000)


def fail(scene: Scene, step: ClaimedStep, detail: str) -> None:
    """The step's end, and its job's."""
    error = {"type": "storage-full", "title": "No space left", "status": 507, "detail": detail}
    with scene.factory.work() as work:
        events.log(work, step.job_id, step.id, f"gave up: {detail}", level="error")
        steps.record_failure(work, step.id, step.token, error)


def finished(scene: Scene, job_id: str) -> str:
    """A job driven to its end."""
    while True:
        with scene.factory.work() as work:
            if jobs.get(work, job_id).state == "succeeded":
                return job_id
        succeed(scene, claim(scene))


def training_job(scene: Scene, name: str) -> str:
    """A generator that learns, with a sheet of samples."""
    job_id = train_job(scene, name)
    step = claim(scene)
    learn(scene, step, share=0.62, total=30_000)
    key = object_keys.step_file(step.id, step.token, "samples.png")
    scene.factory.storage.put_stream(key, [sheet(scene.pictures)])
    with scene.factory.work() as work:
        events.sample(work, job_id, step.id, key, caption="after 18 000 steps")
        events.log(work, job_id, step.id, "drew a sheet of samples")
    return job_id


def labelling_job(scene: Scene, name: str, shards: int = 3) -> str:
    """A job in the middle of its shards."""
    job_id = label_job(scene, name, num_images=8 * scene.factory.settings.shard_size)
    for _ in range(1 + shards):  # the head before them
        succeed(scene, claim(scene))
    step = claim(scene)
    report = Progress(5, int(step.params["count"]), "images", 6.2, 31.0, "sampling", {"uncertainty": 0.071})
    with scene.factory.work() as work:
        steps.heartbeat(work, step.id, step.token, lease_seconds=LONG, progress=report)
    return job_id


def everything(scene: Scene) -> dict[str, str]:
    """A job in every state; the order keeps the queue's next step that of the newest job."""
    made = {"succeeded": finished(scene, label_job(scene, f"{HOSTILE} finished"))}
    made |= other_kinds(scene, made["succeeded"])
    made["training"] = training_job(scene, "newcomer")
    made["failed"] = label_job(scene, "disk full")
    fail(scene, claim(scene), "The disk of the object store is full. Free space, then retry the job.")
    made["cancelled"] = label_job(scene, "not wanted")
    with scene.factory.work() as work:
        jobs.cancel(work, made["cancelled"])
    made["cancelling"] = labelling_job(scene, "stopping", shards=1)
    with scene.factory.work() as work:
        jobs.cancel(work, made["cancelling"])
    made["labelling"] = labelling_job(scene, "eight shards")
    made["queued"] = label_job(scene, "waits", stop_after="dataset")
    return made
