"""Image pools by REST: made, filled, sealed."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi.testclient import TestClient

from service.bootstrap import Factory
from service.formats.shard import read_shard
from tests.api.archives import SIZE, ZIP, photo, zipped


def images(*numbers: int, size: int = SIZE) -> bytes:
    return zipped({f"images/{n}.png": photo(n, (size, size)) for n in numbers})


def test_from_empty_to_sealed(client: TestClient, factory: Factory) -> None:
    made = client.post("/v1/image-pools", json={"name": "cells"})
    assert made.status_code == 201
    url = made.headers["location"]
    assert client.post(f"{url}:seal").status_code == 409
    assert client.post(f"{url}/images", content=images(1, 2), headers=ZIP).status_code == 201
    assert client.post(f"{url}/images", content=images(3), headers=ZIP).json()["pool"]["num_images"] == 3
    sealed = client.post(f"{url}:seal").json()
    assert (sealed["state"], sealed["num_images"], sealed["image_height"]) == ("sealed", 3, SIZE)
    assert client.post(f"{url}:seal").status_code == 200
    assert client.get(url).json() == sealed
    assert client.get("/v1/image-pools").json()["items"] == [sealed]


def test_the_stored_part_is_a_tar_of_the_images(client: TestClient, factory: Factory) -> None:
    url = client.post("/v1/image-pools", json={"name": "cells"}).headers["location"]
    client.post(f"{url}/images", content=images(1, 2), headers=ZIP)
    (part,) = (factory.settings.data_dir / "objects" / "pools").rglob("*.tar")
    with part.open("rb") as file:
        samples = list(read_shard(file))
    assert [sample.meta["name"] for sample in samples] == ["images/1.png", "images/2.png"]


def test_the_same_zip_again_changes_nothing(client: TestClient) -> None:
    url = client.post("/v1/image-pools", json={"name": "cells"}).headers["location"]
    for _ in range(2):
        answer = client.post(f"{url}/images", content=images(1, 2), headers=ZIP)
        assert answer.json()["pool"]["num_images"] == 2


def test_another_size_is_422(client: TestClient) -> None:
    url = client.post("/v1/image-pools", json={"name": "cells"}).headers["location"]
    client.post(f"{url}/images", content=images(1), headers=ZIP)
    answer = client.post(f"{url}/images", content=images(2, size=8), headers=ZIP)
    assert answer.status_code == 422
    assert client.get(url).json()["num_images"] == 1


def test_an_unknown_or_sealed_pool_is_refused_before_the_body(client: TestClient) -> None:
    def never() -> Iterator[bytes]:
        yield b"PK"

    assert client.post("/v1/image-pools/pool_none/images", content=never(), headers=ZIP).status_code == 404
    url = client.post("/v1/image-pools", json={"name": "cells"}).headers["location"]
    client.post(f"{url}/images", content=images(1), headers=ZIP)
    client.post(f"{url}:seal")
    assert client.post(f"{url}/images", content=never(), headers=ZIP).status_code == 409
