"""Streamed zip bodies: what is refused leaves no row, no object and no file in scratch. More bad ones: `inputs`."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from service.bootstrap import Factory, build_factory
from service.doorbell import ListDoorbell
from service.settings import Settings
from tests.api import archives
from tests.api.archives import SIZE, ZIP, coco_files, mask, mask_files, photo, zipped
from tests.clients import api_client

MASKS = "/v1/annotation-sets?name=few&classes=background,cell"
COCO = "/v1/annotation-sets?name=few"


def changed_masks(**files: bytes) -> bytes:
    names = {name.replace("__", "/").replace("_png", ".png"): data for name, data in files.items()}
    return zipped(mask_files() | names)


PIXELS = Image.new("RGB", (SIZE, SIZE), (10, 20, 30))
BAD_ZIPS = {
    "not a zip": b"this is no zip, " * 20,
    "cut in half": zipped(mask_files())[:700],
}
BAD_IMAGES = {
    "image of another size": changed_masks(images__0_png=photo(0, (8, 8)), masks__0_png=mask(0, (8, 8))),
}
BAD_MASKS = {
    "mask without image": zipped({**mask_files(), "masks/9.png": mask()}),
    "image without mask": zipped({**mask_files(), "images/9.png": photo(9)}),
    "only images": zipped({f"images/{i}.png": photo(i) for i in range(3)}),
}
BAD_COCO = {
    "document is not JSON": zipped({**coco_files(), "annotations.json": b"{"}),
    "document is a list": zipped({**coco_files(), "annotations.json": b"[]"}),
    "file that is not there": zipped(
        coco_files(images=[{"id": 1, "file_name": "../../etc/passwd", "height": SIZE, "width": SIZE}])
    ),
    "declared size lies": zipped(
        coco_files(
            images=[{"id": i + 1, "file_name": f"images/{i}.png", "height": 99, "width": SIZE} for i in range(2)]
        )
    ),
    "class name twice": zipped(coco_files(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}])),
}


@pytest.fixture
def nothing_stored(factory: Factory, client: TestClient) -> Iterator[None]:
    """After the test: no rows, no objects, an empty scratch folder."""
    yield
    assert client.get("/v1/annotation-sets").json()["items"] == []
    stored = [path for path in (factory.settings.data_dir / "objects").rglob("*") if path.is_file()]
    assert stored == []
    assert list(factory.settings.resolved_scratch_dir.iterdir()) == []


def assert_refused(client: TestClient, url: str, body: bytes) -> None:
    answer = client.post(url, content=body, headers=ZIP)
    assert answer.status_code in {413, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"], problem
    assert all(error["message"] for error in problem["errors"])


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("name", BAD_ZIPS | BAD_IMAGES | BAD_MASKS)
def test_bad_mask_zips_are_refused_whole(client: TestClient, name: str) -> None:
    assert_refused(client, MASKS, (BAD_ZIPS | BAD_IMAGES | BAD_MASKS)[name])


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("name", BAD_COCO)
def test_bad_coco_zips_are_refused_whole(client: TestClient, name: str) -> None:
    assert_refused(client, COCO, BAD_COCO[name])


@pytest.mark.parametrize("name", BAD_ZIPS | BAD_IMAGES)
def test_bad_pool_zips_are_refused_whole(client: TestClient, factory: Factory, name: str) -> None:
    pool = client.post("/v1/image-pools", json={"name": "pool"}).json()
    body = (BAD_ZIPS | BAD_IMAGES)[name]
    assert_refused(client, f"/v1/image-pools/{pool['id']}/images", body)
    assert client.get(f"/v1/image-pools/{pool['id']}").json()["num_images"] == 0
    assert list(factory.settings.resolved_scratch_dir.iterdir()) == []


@pytest.mark.usefixtures("nothing_stored")
def test_every_fault_is_listed_with_its_place(client: TestClient) -> None:
    files = mask_files() | {"images/0.png": b"no image", "masks/1.png": mask(1, (4, 4)), "masks/2.png": mask(value=9)}
    errors = client.post(MASKS, content=zipped(files), headers=ZIP).json()["errors"]
    places = " ".join(error["place"] for error in errors)
    assert all(name in places for name in ("images/0.png", "masks/1.png", "masks/2.png")), errors


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=x", ""])
def test_another_media_type_is_415(client: TestClient, kind: str, factory: Factory) -> None:
    factory.settings.resolved_scratch_dir.mkdir(parents=True)
    answer = client.post(MASKS, content=zipped(mask_files()), headers={"content-type": kind})
    assert answer.status_code == 415


@pytest.mark.usefixtures("nothing_stored")
def test_an_empty_body_is_400(client: TestClient) -> None:
    assert client.post(MASKS, content=b"", headers=ZIP).status_code == 400


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_413(settings: Settings, migrated_sqlite: object, announced: bool) -> None:
    from service.bootstrap import prepare

    small = settings.model_copy(update={"max_upload_bytes": 100_000})
    factory = build_factory(small, doorbell=ListDoorbell())
    prepare(factory)
    body = b"x" * 200_000 if announced else (b"x" * 10_000 for _ in range(20))
    with api_client(factory) as client:
        answer = client.post(MASKS, content=body, headers=ZIP)
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("too-large")
    scratch = small.resolved_scratch_dir
    assert not scratch.exists() or list(scratch.iterdir()) == []


def test_a_full_disk_is_507(settings: Settings) -> None:
    from service.bootstrap import prepare

    factory = build_factory(settings.model_copy(update={"min_free_bytes": 2**50}), doorbell=ListDoorbell())
    prepare(factory)
    with api_client(factory) as client:
        assert client.post(MASKS, content=zipped(mask_files()), headers=ZIP).status_code == 507


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("query", ["", "name=", "name=a%00b", "name=x&first=0", "name=x&first=9223372036854775808"])
def test_a_bad_query_is_422_before_the_body_is_read(client: TestClient, query: str, factory: Factory) -> None:
    factory.settings.resolved_scratch_dir.mkdir(parents=True)

    def never() -> Iterator[bytes]:
        yield b"PK"

    answer = client.post(f"/v1/annotation-sets?{query}", content=never(), headers=ZIP)
    assert answer.status_code == 422


@pytest.mark.usefixtures("nothing_stored")
def test_a_semantic_set_with_things_is_422(client: TestClient) -> None:
    answer = client.post(f"{MASKS}&kind=semantic&things=cell", content=zipped(mask_files()), headers=ZIP)
    assert answer.json()["errors"][0]["place"] == "things"


def test_strange_but_sound_zips_are_taken(client: TestClient) -> None:
    polyglot = archives.encoded(PIXELS, "JPEG") + zipped({"a": b"b"})
    sound = {
        "JPEG and ZIP in one": mask_files() | {"images/0.png": polyglot},
        "grey image": mask_files() | {"images/0.png": archives.encoded(PIXELS.convert("L"))},
        "palette image": mask_files() | {"images/0.png": archives.encoded(PIXELS.convert("P"))},
        "CMYK image": mask_files() | {"images/0.png": archives.encoded(PIXELS.convert("CMYK"), "JPEG")},
        "image with alpha": mask_files() | {"images/0.png": archives.encoded(PIXELS.convert("RGBA"))},
    }
    for name, files in sound.items():
        answer = client.post(MASKS, content=zipped(files, method=zipfile.ZIP_DEFLATED), headers=ZIP)
        assert answer.status_code == 201, (name, answer.text)


def test_a_pool_upload_names_the_digest_of_what_came(client: TestClient) -> None:
    pool = client.post("/v1/image-pools", json={"name": "pool"}).json()
    body = zipped({f"images/{i}.png": photo(i % 4) for i in range(5)})
    answer = client.post(f"/v1/image-pools/{pool['id']}/images", content=body, headers=ZIP)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["sha256"] == hashlib.sha256(body).hexdigest()
    assert (made["num_images"], made["num_duplicates"]) == (4, 1)
    assert json.dumps(made["pool"]["num_images"]) == "4"
