"""Datasets by REST: lists, pictures from shards by byte range, downloads."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service import datasets, sealing
from service.bootstrap import Factory
from service.datasets import NewExport, NewImage, NewShard
from service.formats.shard import ShardSample, ShardWriter
from tests import factories

SIDE = 64
CLASSES = [
    {"name": "background", "thing": False, "color": "#000000", "background": True},
    {"name": "cell", "thing": True, "color": "#ff0000", "background": False},
]


def sample(index: int) -> ShardSample:
    """Noise with two squares that touch."""
    image = np.random.default_rng(index).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    instances = np.zeros((SIDE, SIDE), np.uint16)
    instances[8:24, 8:24], instances[8:24, 24:40] = 1, 2
    label = (instances > 0).astype(np.uint8)
    return ShardSample(f"{index:06}", image, label, instances, soft=b"soft", meta={"name": f"{index:06}"})


@pytest.fixture
def dataset_id(factory: Factory) -> str:
    """A sealed dataset of one real shard with four images, one of them dropped, and an export."""
    with factory.work() as work:
        few = factories.make_annotation_set(work, classes=CLASSES)
    job = factories.make_job(factory, annotation_set_id=few.id)
    tar = io.BytesIO()
    with ShardWriter(tar) as writer:
        spans = [writer.add(sample(index)) for index in range(4)]
    with factory.work() as work:
        dataset = datasets.open_for_job(work, work.session.merge(job))
        stored = factory.storage.put_stream(f"datasets/{dataset.id}/shards/00000-1.tar", [tar.getvalue()])
        shard = NewShard(
            0, f"datasets/{dataset.id}/shards/00000-1.tar", stored.sha256, stored.num_bytes, 4, "synthesized"
        )
        images = [
            NewImage(
                i, f"{i:06}", (0.3, 0.1, 0.4, 0.2)[i], [4000, 96], span.image_offset, span.image_bytes, *label(span)
            )
            for i, span in enumerate(spans)
        ]
        datasets.record_shard(work, dataset.id, shard, images)
        kept = np.array([True, True, False, True])
        sealing.seal(work, dataset.id, sealing.SealDecisions(kept, kept * 4 / 3), {"seed": 0})
        zipped = factory.storage.put_stream("datasets/x/exports/coco-1.zip", [b"zip bytes"])
        export = NewExport("coco", "datasets/x/exports/coco-1.zip", zipped.sha256, zipped.num_bytes, {"errors": []})
        datasets.record_export(work, dataset.id, export)
        return dataset.id


def label(span: object) -> tuple[int, int]:
    return span.label_offset, span.label_bytes  # type: ignore[attr-defined]


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def test_shown_and_listed(client: TestClient, dataset_id: str) -> None:
    shown = client.get(f"/v1/datasets/{dataset_id}").json()
    assert (shown["state"], shown["num_images"], shown["num_kept"]) == ("sealed", 4, 3)
    assert client.get("/v1/datasets?state=sealed").json()["items"] == [shown]
    assert client.get("/v1/datasets?state=building").json()["items"] == []
    assert client.get("/v1/datasets/ds_none").status_code == 404


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        ("", [0, 1, 2, 3]),
        ("sort=uncertainty", [2, 0, 3, 1]),
        ("sort=certainty", [1, 3, 0, 2]),
        ("kept=false", [2]),
        ("sort=uncertainty&kept=true", [0, 3, 1]),
    ],
)
def test_images_sorted_and_filtered_page_by_page(
    client: TestClient, dataset_id: str, query: str, indexes: list[int]
) -> None:
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        url = f"/v1/datasets/{dataset_id}/images?limit=2&{query}" + (f"&cursor={cursor}" if cursor else "")
        page = client.get(url).json()
        seen += [item["index"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == indexes


def test_a_picture_is_read_from_its_shard(client: TestClient, dataset_id: str) -> None:
    answer = client.get(f"/v1/datasets/{dataset_id}/images/2.png")
    assert np.array_equal(pixels(answer.content), sample(2).image_HWC)
    again = client.get(f"/v1/datasets/{dataset_id}/images/2.png", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_an_overlay_outlines_instances_that_touch(client: TestClient, dataset_id: str) -> None:
    shown = pixels(client.get(f"/v1/datasets/{dataset_id}/images/1.png?overlay=1&scale=2").content)
    assert shown.shape == (2 * SIDE, 2 * SIDE, 3)
    inside, border = shown[32, 32], shown[32, 46:50]
    assert inside.tolist() == [255, 0, 0]
    assert (border != inside).any()


@pytest.mark.parametrize(("path", "status"), [("4.png", 404), ("-1.png", 422), ("2147483648.png", 422)])
def test_pictures_that_are_not_there(client: TestClient, dataset_id: str, path: str, status: int) -> None:
    assert client.get(f"/v1/datasets/{dataset_id}/images/{path}").status_code == status


def test_downloads_match_their_digests(client: TestClient, dataset_id: str) -> None:
    manifest = client.get(f"/v1/datasets/{dataset_id}/manifest")
    assert manifest.headers["content-type"].startswith("application/json")
    (shard,) = manifest.json()["shards"]
    body = client.get(f"/v1/datasets/{dataset_id}/shards/0").content
    assert hashlib.sha256(body).hexdigest() == shard["sha256"]
    assert client.get(f"/v1/datasets/{dataset_id}/shards").json()["items"][0]["sha256"] == shard["sha256"]
    assert client.get(f"/v1/datasets/{dataset_id}/exports/coco").content == b"zip bytes"
    (export,) = client.get(f"/v1/datasets/{dataset_id}/exports").json()["items"]
    assert (export["format"], export["validation"]) == ("coco", {"errors": []})


def test_what_is_not_there_yet(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    with factory.work() as work:
        dataset_id = datasets.open_for_job(work, work.session.merge(job)).id
    assert client.get(f"/v1/datasets/{dataset_id}/manifest").status_code == 409
    assert client.get(f"/v1/datasets/{dataset_id}/exports/coco").status_code == 404
    assert client.get(f"/v1/datasets/{dataset_id}/shards/0").status_code == 404
    assert client.get("/v1/datasets/ds_none/images").status_code == 404
