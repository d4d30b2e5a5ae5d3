from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from service.formats.limits import UploadLimits
from service.formats.pool_upload import pixel_digest, read_pool
from tests.service.formats.uploads import faults, picture, png, write_zip


def pool_zip(folder: Path, change: dict[str, bytes] | None = None) -> Path:
    return write_zip(folder / "pool.zip", {**{f"{n}.png": png(picture(n)) for n in range(4)}, **(change or {})})


def test_images_stream_in_order_with_digests(tmp_path: Path) -> None:
    pool = read_pool(pool_zip(tmp_path, {"readme.txt": b"x"}))
    images = list(pool)
    assert [i.name for i in images] == ["0.png", "1.png", "2.png", "3.png"]
    assert np.array_equal(images[2].image_HWC, picture(2))
    assert images[2].digest == pixel_digest(picture(2))
    assert (pool.num_images, pool.num_duplicates, pool.size) == (4, 0, (12, 10))


def test_the_same_pixels_come_once(tmp_path: Path) -> None:
    webp = io.BytesIO()
    Image.fromarray(picture(1)).save(webp, "WEBP", lossless=True)
    pool = read_pool(pool_zip(tmp_path, {"again.webp": webp.getvalue()}), known={pixel_digest(picture(0))})
    assert [i.name for i in pool] == ["1.png", "2.png", "3.png"]
    assert pool.num_duplicates == 2


def test_bad_images_are_refused_together_at_the_end(tmp_path: Path) -> None:
    path = pool_zip(tmp_path, {"x.png": b"no", "y.png": png(picture(9, 5, 7)), "z.bmp": b"BM"})
    places = faults(lambda: list(read_pool(path)))
    assert places.keys() == {"x.png", "y.png", "z.bmp"}
    assert "7x5" in places["y.png"]


def test_a_pool_keeps_its_size_and_its_limits(tmp_path: Path) -> None:
    path = pool_zip(tmp_path)
    assert len(faults(lambda: list(read_pool(path, size=(64, 64))))) == 4
    assert "archive" in faults(lambda: read_pool(path, UploadLimits(max_images=3)))
    assert "archive" in faults(lambda: read_pool(write_zip(tmp_path / "a.zip", {"a.txt": b"x"})))
