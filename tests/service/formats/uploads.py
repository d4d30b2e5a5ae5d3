"""Builders of upload zips: each makes a valid one, a test changes one thing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import Invalid
from service.formats import rle

HEIGHT, WIDTH = 12, 10


def png(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def rectangle(top: int, left: int, bottom: int, right: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def rle_list(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": rle.counts_from_mask(mask).tolist()}


def rle_text(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": rle.compress(rle.counts_from_mask(mask)).decode()}


def coco_document() -> dict[str, Any]:
    """Three images, two categories: one compressed RLE, one plain RLE, one polygon."""
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2, 3)]
    masks: list[Any] = [
        rle_text(rectangle(0, 0, 5, 5)),
        rle_list(rectangle(2, 2, 9, 9)),
        [[1.0, 1.0, 8.0, 1.0, 8.0, 8.0, 1.0, 8.0]],
    ]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": masks[n - 1], "iscrowd": 0}
        for n in (1, 2, 3)
    ]
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "wall"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_members(document: Any) -> dict[str, bytes]:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {**{f"images/{n}.png": png(picture(n)) for n in (1, 2, 3)}, "annotations.json": text}


def mask_members() -> dict[str, bytes]:
    """Three images with masks of three classes."""
    members = {f"images/{n}.png": png(picture(n)) for n in (1, 2, 3)}
    for n in (1, 2, 3):
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        label[n : n + 4, 2:6], label[8:, :3], label[0, 0] = 1, 2, 255
        members[f"masks/{n}.png"] = png(label)
    return {**members, "classes.json": b'["background", "cell", "wall"]'}


def faults(call: Callable[[], object]) -> dict[str, str]:
    """Place -> message of the `Invalid` that the call must raise."""
    with pytest.raises(Invalid) as caught:
        call()
    return {error["place"]: error["message"] for error in caught.value.errors}
