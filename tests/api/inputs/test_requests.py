"""Inputs 60 to 62: too much of it, the same again, and things in a state that does not allow it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service import jobs
from tests import factories
from tests.api.archives import mask_files, zipped
from tests.api.inputs.served import Served


def spec(served: Served, **changes: Any) -> dict[str, Any]:
    """A sound label job."""
    with served.factory.work() as work:
        return factories.label_spec(work).model_dump(mode="json", exclude_defaults=True) | {"kind": "label"} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"num_images": 10**12},
        {"num_images": 0},
        {"num_images": -1},
        {"head": {"batch_size": 0}},
        {"head": {"batch_size": -1}},
        {"student": {"batch_size": 10**9}},
        {"student": {"steps": 10**12}},
        {"seed": -1},
    ],
)
def test_input_60_a_job_beyond_all_bounds_is_422(served: Served, changes: dict[str, Any]) -> None:
    body = spec(served, **changes)
    served.refused(422, url="/v1/jobs", json=body)


def test_input_60_ten_thousand_classes_are_422(served: Served) -> None:
    names = ",".join(f"c{number}" for number in range(10_000))
    files = {**mask_files(), "classes.json": ('["' + names.replace(",", '","') + '"]').encode()}
    errors = served.refused_zip(zipped(files), url="/v1/annotation-sets?name=few")
    assert any("10,000 classes" in error["message"] for error in errors)


def test_input_61_a_key_with_another_body_is_409(served: Served) -> None:
    body, headers = spec(served), {"idempotency-key": "once"}
    made = served.http.post("/v1/jobs", json=body, headers=headers)
    assert made.status_code == 202, made.text
    problem = served.refused(409, url="/v1/jobs", json={**body, "seed": 7}, headers=headers)
    assert made.json()["id"] in problem["detail"]


def test_input_61_the_same_body_50_times_at_once_is_one_job(served: Served) -> None:
    body, headers = spec(served), {"idempotency-key": "fifty"}
    rows = served.everything()[0]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: served.http.post("/v1/jobs", json=body, headers=headers), range(50)))
    assert Counter(answer.status_code for answer in answers) == {202: 50}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert served.everything()[0]["jobs"] == rows["jobs"] + 1


def test_input_61_a_refused_job_leaves_its_key_free(served: Served) -> None:
    """The key is written in the job's own transaction."""
    headers = {"idempotency-key": "tried before"}
    served.refused(422, url="/v1/jobs", json=spec(served, generator="nobody"), headers=headers)
    assert served.http.post("/v1/jobs", json=spec(served), headers=headers).status_code == 202


def test_input_62_what_the_state_does_not_allow_is_409(served: Served) -> None:
    job = served.http.post("/v1/jobs", json=spec(served)).json()["id"]
    served.refused(409, url=f"/v1/jobs/{job}:retry")
    with served.factory.work() as work:
        jobs.get(work, job).state = "succeeded"
    served.refused(409, url=f"/v1/jobs/{job}:cancel")
    served.refused(409, url=f"/v1/jobs/{job}:retry")
    pool = served.http.post("/v1/image-pools", json={"name": "empty"}).json()["id"]
    served.refused(409, url=f"/v1/image-pools/{pool}:seal")


def test_input_62_what_is_not_there_yet_is_404_or_409(served: Served) -> None:
    job = served.http.post("/v1/jobs", json=spec(served)).json()["id"]
    dataset = served.http.get(f"/v1/jobs/{job}").json()["result"].get("dataset_id", "ds_none")
    for path in ("manifest", "exports/coco", "shards/0", "images/0.png"):
        served.refused(404, 409, method="GET", url=f"/v1/datasets/{dataset}/{path}")
    served.refused(404, method="GET", url="/v1/students/stu_none/archive")


def test_input_62_a_range_past_the_end_is_416(served: Served) -> None:
    from service import students
    from tests.factories import new_student

    with served.factory.work() as work:
        job = jobs.create(work, factories.label_spec(work)).job
        new = new_student(None)  # type: ignore[arg-type]
        work.storage.put_stream(new.files[0].key, [b"{}"])
        students.record(work, job.id, new)
    url = f"/v1/students/{new.id}/files/config.json"
    problem = served.refused(416, method="GET", url=url, headers={"range": "bytes=99-"})
    assert "2 bytes" in problem["detail"]
    assert served.http.get(url, headers={"range": "bytes=1-99"}).content == b"}"


def test_input_60_a_thousand_jobs_at_once_are_429_beyond_the_budget(served: Served) -> None:
    body = spec(served)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: served.http.post("/v1/jobs", json=body), range(1_000)))
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) == {202, 429}
    assert counted[202] < 500
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["content-type"] == "application/problem+json"
