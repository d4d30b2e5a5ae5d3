"""The whole path on SQLite, a folder and one worker process without a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.bootstrap import build_factory, prepare
from service.settings import Settings
from tests import tiny
from tests.clients import api_client
from tests.path import journey


@pytest.mark.timeout(240)
def test_few_annotated_images_in_dataset_and_student_out(tmp_path: Path) -> None:
    tiny.generator_folder(tmp_path / "generators")
    environment = {
        "LABEL_FACTORY_DATA_DIR": str(tmp_path / "data"),
        "LABEL_FACTORY_BUNDLED_GENERATORS_DIR": str(tmp_path / "generators"),
        "LABEL_FACTORY_SHARD_SIZE": str(journey.SHARD_SIZE),
        "LABEL_FACTORY_TORCH_THREADS": "1",
        "LABEL_FACTORY_POLL_SECONDS": "0.2",
    }
    factory = build_factory(
        Settings(
            data_dir=tmp_path / "data",
            bundled_generators_dir=tmp_path / "generators",
            shard_size=journey.SHARD_SIZE,
        )
    )
    prepare(factory)
    log = tmp_path / "worker.log"
    with (
        api_client(factory, raise_server_exceptions=True) as client,
        journey.process(["-m", "workers.embedded"], environment, log) as worker,
    ):
        uploads = journey.upload(client)
        job = journey.wait(client, journey.submit(client, **uploads), 200, worker)
        assert job["state"] == "succeeded", job["error"] or log.read_text()[-3000:]
        steps = journey.steps_of(client, job["id"])
        assert sum(step["kind"] == "label_shard" for step in steps) == 5
        assert all(step["seconds"] > 0 and step["peak_memory_bytes"] > 0 for step in steps)
        report = journey.check_take_home(client, job, tmp_path / "home")
        assert report["num_images"] == 4
        sets, made = journey.annotated(uploads), job["result"]
        again = {"kind": "distill", "dataset_id": made["dataset_id"], "student": journey.STUDENT, "pools": ["encoded"]}
        for document, words in (
            ({"kind": "train_student", "student": journey.STUDENT, **sets}, "The student trained on 3 labels alone"),
            ({**again, **sets}, "The student distilled from the encoded images of label with tiny"),
            ({"kind": "evaluate", "student_id": made["student_id"]}, "The student label with tiny"),
            ({"kind": "evaluate", "dataset_id": made["dataset_id"]}, "The head that labelled label with tiny"),
        ):
            wish = {"evaluation_set_id": sets["evaluation_set_id"], **document}
            assert journey.verdict_of(client, wish, worker).startswith(f"{words} reaches mIoU 0.")
        assert worker.poll() is None
    assert worker.returncode == 0
    factory.close()
