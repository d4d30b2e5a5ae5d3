"""Annotation sets by REST: what a sound zip becomes, and its pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.bootstrap import Factory
from tests.api.archives import SIZE, ZIP, coco_files, mask_files, photo, zipped

MASKS = "/v1/annotation-sets?name=few&classes=background,cell"


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def test_masks_become_a_set(client: TestClient) -> None:
    answer = client.post(MASKS, content=zipped(mask_files()), headers=ZIP)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["kind"], made["num_images"], made["image_height"]) == ("semantic", 3, SIZE)
    assert [item["name"] for item in made["classes"]] == ["background", "cell"]
    assert client.get(answer.headers["location"]).json() == made
    assert client.get("/v1/annotation-sets").json()["items"] == [made]


def test_coco_becomes_a_set_with_or_without_instances(client: TestClient) -> None:
    body = zipped(coco_files())
    semantic = client.post("/v1/annotation-sets?name=a&kind=semantic", content=body, headers=ZIP).json()
    assert (semantic["kind"], any(item["thing"] for item in semantic["classes"])) == ("semantic", False)
    instance = client.post("/v1/annotation-sets?name=a&kind=instance&things=cell", content=body, headers=ZIP).json()
    assert instance["kind"] == "instance"
    assert [item["name"] for item in instance["classes"] if item["thing"]] == ["cell"]
    every = client.post("/v1/annotation-sets?name=a&kind=instance&format=coco", content=body, headers=ZIP).json()
    assert all(item["thing"] or item["background"] for item in every["classes"])


def test_only_the_first_images(client: TestClient) -> None:
    made = client.post(f"{MASKS}&first=2", content=zipped(mask_files(5)), headers=ZIP).json()
    assert made["num_images"] == 2


def test_an_unknown_thing_is_422(client: TestClient) -> None:
    answer = client.post("/v1/annotation-sets?name=a&things=ghost", content=zipped(coco_files()), headers=ZIP)
    assert answer.status_code == 422


@pytest.fixture
def pictures(client: TestClient) -> str:
    """Where the pictures of a set of three masks are."""
    return client.post(MASKS, content=zipped(mask_files()), headers=ZIP).headers["location"] + "/images"


def test_the_image_alone_is_what_was_sent(client: TestClient, pictures: str) -> None:
    answer = client.get(f"{pictures}/1.png")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(pixels(answer.content), pixels(photo(1)))


def test_labels_change_only_their_pixels(client: TestClient, pictures: str) -> None:
    plain = pixels(client.get(f"{pictures}/1.png").content)
    shown = pixels(client.get(f"{pictures}/1.png?overlay=1").content)
    changed = (plain != shown).any(axis=-1)
    assert changed[5, 5]
    assert not changed[0].any()


def test_scale_enlarges(client: TestClient, pictures: str) -> None:
    large = pixels(client.get(f"{pictures}/0.png?overlay=0.5&scale=4").content)
    assert large.shape == (4 * SIZE, 4 * SIZE, 3)


def test_pictures_are_kept_by_caches(client: TestClient, pictures: str) -> None:
    first = client.get(f"{pictures}/0.png?overlay=0.5")
    assert "immutable" in first.headers["cache-control"]
    again = client.get(f"{pictures}/0.png?overlay=0.5", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"{pictures}/0.png?overlay=0.6", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200


def test_instances_are_outlined(client: TestClient) -> None:
    body = zipped(coco_files())
    urls = [
        client.post(f"/v1/annotation-sets?name=a&kind={kind}", content=body, headers=ZIP).headers["location"]
        for kind in ("semantic", "instance")
    ]
    semantic, instance = (client.get(f"{url}/images/0.png?overlay=1").content for url in urls)
    assert not np.array_equal(pixels(semantic), pixels(instance))


@pytest.mark.parametrize(("name", "status"), [("3.png", 404), ("99999999999.png", 422), ("x.png", 422), ("0.gif", 404)])
def test_images_that_are_not_there(client: TestClient, factory: Factory, pictures: str, name: str, status: int) -> None:
    assert client.get(f"{pictures}/{name}").status_code == status
