"""A user's whole way by REST: upload a few annotated images and a pool, submit, wait, take the results home."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from tests import tiny

ROOT = Path(__file__).parents[2]
ZIP = {"content-type": "application/zip"}
CLASSES = [{"name": "background", "background": True}, {"name": "disc"}]
SHARD_SIZE = 8
STUDENT = {"architecture": "segformer_nano", **tiny.STUDENT_BUDGET}
Json = dict[str, Any]


def annotated_zip(numbers: Sequence[int]) -> bytes:
    """Discs with index masks."""
    files: dict[str, bytes] = {"classes.json": json.dumps(CLASSES).encode()}
    for number in numbers:
        image_HWC, label_HW = tiny.disc(number)
        files[f"images/{number:04}.png"] = png(image_HWC)
        files[f"masks/{number:04}.png"] = png(label_HW)
    return zipped(files)


def pool_zip(numbers: Sequence[int]) -> bytes:
    """Discs without labels."""
    return zipped({f"{number:05}.png": png(tiny.disc(number)[0]) for number in numbers})


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def upload(client: TestClient) -> Json:
    """Everything a job refers to; returns the references."""
    few = answer(client.post("/v1/annotation-sets?name=few", content=annotated_zip(range(3)), headers=ZIP))
    held_out = answer(client.post("/v1/annotation-sets?name=test", content=annotated_zip(range(50, 54)), headers=ZIP))
    pool = answer(client.post("/v1/image-pools", json={"name": "discs"}))
    answer(client.post(f"/v1/image-pools/{pool['id']}/images", content=pool_zip(range(100, 111)), headers=ZIP))
    answer(client.post(f"/v1/image-pools/{pool['id']}:seal"))
    return {"annotation_set_id": few["id"], "evaluation_set_id": held_out["id"], "image_pool_id": pool["id"]}


def submit(client: TestClient, **spec: Any) -> str:
    """A label job on both pools, small in every way."""
    document = {
        "kind": "label",
        "generator": "tiny",
        "pools": ["synthesized", "encoded"],
        "num_images": 20,
        "sampling_steps": 2,
        "head": tiny.HEAD,
        "student": STUDENT,
        **spec,
    }
    return str(answer(client.post("/v1/jobs", json=document))["id"])


def train_generator(client: TestClient) -> str:
    """A generator of a pool of its own, small in every way."""
    pool = answer(client.post("/v1/image-pools", json={"name": "many discs"}))
    answer(client.post(f"/v1/image-pools/{pool['id']}/images", content=pool_zip(range(200, 220)), headers=ZIP))
    answer(client.post(f"/v1/image-pools/{pool['id']}:seal"))
    network = {"block_out_channels": [8, 16], "layers_per_block": 1, "attention": False}
    document = {"kind": "train_generator", "name": "discs", "image_pool_id": pool["id"], "steps": 2}
    return str(answer(client.post("/v1/jobs", json={**document, "batch_size": 4, "network": network}))["id"])


def annotated(uploads: Json) -> Json:
    """The annotation sets among the references of a label job."""
    return {name: uploads[name] for name in ("annotation_set_id", "evaluation_set_id")}


def verdict_of(client: TestClient, document: Json, worker: subprocess.Popen[bytes]) -> str:
    """Run a job of any kind to its end; its report's sentence."""
    job = wait(client, str(answer(client.post("/v1/jobs", json=document))["id"]), 100, worker)
    assert job["state"] == "succeeded", job["error"]
    return str(answer(client.get(f"/v1/reports/{job['result']['report_id']}"))["content"]["verdict"])


def wait(client: TestClient, job_id: str, seconds: float, *workers: subprocess.Popen[bytes]) -> Json:
    """The job once it has ended; no worker may end before."""
    deadline = time.monotonic() + seconds
    while True:
        job = answer(client.get(f"/v1/jobs/{job_id}"))
        if job["state"] in ("succeeded", "failed", "cancelled"):
            return job
        assert all(worker.poll() is None for worker in workers), "a worker has ended"
        assert time.monotonic() < deadline, f"after {seconds} s: {steps_of(client, job_id)}"
        time.sleep(0.5)


def steps_of(client: TestClient, job_id: str) -> list[Json]:
    found: list[Json] = answer(client.get(f"/v1/jobs/{job_id}/steps?limit=200"))["items"]
    return found


def check_take_home(client: TestClient, job: Json, folder: Path) -> Json:
    """Download everything and hold it against tools that are not ours; returns the report."""
    result = job["result"]
    dataset = f"/v1/datasets/{result['dataset_id']}"
    folder.mkdir(parents=True, exist_ok=True)
    coco = saved(client, f"{dataset}/exports/coco", folder / "coco.zip")
    shards = [
        saved(client, f"{dataset}/shards/{shard['index']}", folder / f"{shard['index']:05}.tar")
        for shard in answer(client.get(f"{dataset}/shards"))["items"]
    ]
    assert verified("coco.py", coco, *shards)["average_precision"] == 1.0
    manifest = json.loads(saved(client, f"{dataset}/manifest", folder / "manifest.json").read_bytes())
    assert len(manifest["shards"]) == len(shards)
    archive = saved(client, f"/v1/students/{result['student_id']}/archive", folder / "student.zip")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / "student")
    test_zip = folder / "test.zip"
    test_zip.write_bytes(annotated_zip(range(50, 54)))
    report: Json = answer(client.get(f"/v1/reports/{result['report_id']}"))["content"]
    scores = {row["name"]: row["miou"] for row in report["rows"]}
    assert set(scores) == {"student", "head", "baseline"}
    assert report["verdict"]
    found = verified("student.py", folder / "student", test_zip, "--expect", f"{scores['student']:.6f}")
    assert abs(found["miou"] - scores["student"]) < 1e-3
    assert (folder / "student" / "model.onnx").stat().st_size > 10_000
    assert "Measured on held-out labels" in (folder / "student" / "README.md").read_text()
    return report


def verified(script: str, *arguments: Path | str) -> Json:
    """One of the stand-alone checks that ship with the examples."""
    command = [sys.executable, str(ROOT / "examples" / "verify" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: Json = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def saved(client: TestClient, path: str, file: Path) -> Path:
    got = client.get(path)
    assert got.status_code == 200, got.text
    file.write_bytes(got.content)
    return file


def answer(got: Any) -> Json:
    assert got.status_code < 300, got.text
    document: Json = got.json() if got.content else {}
    return document


@contextmanager
def process(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the service; ended by SIGTERM, which it must obey within 30 seconds."""
    with log.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, **environment}, cwd=ROOT, stdout=file, stderr=file
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise AssertionError(f"it did not end: {log.read_text()[-3000:]}") from None
