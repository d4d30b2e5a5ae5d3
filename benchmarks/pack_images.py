"""A pack's annotated and unlabelled images for the benchmarks; none of them opens `test.zip`."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from models.contracts import ClassSpec
from models.examples import Example
from service.formats.annotation_upload import read_annotations
from service.formats.pool_upload import read_pool


def read_few(pack: Path) -> tuple[list[Example], list[ClassSpec]]:
    """Examples of `few.zip` in its order, and the classes."""
    upload = read_annotations(pack / "few.zip")
    classes = [ClassSpec(item.name, item.thing, item.background) for item in upload.classes]
    return [Example(item.image_HWC, item.label_HW, item.instances_HW) for item in upload.images], classes


def read_unlabelled(pack: Path, count: int, *, without: Collection[bytes] = ()) -> np.ndarray:
    """`count` random images of `unlabelled.zip`, uint8 BHWC, leaving out those whose bytes are given."""
    left_out = set(without)
    images = [image.image_HWC for image in read_pool(pack / "unlabelled.zip")]
    images = [image_HWC for image_HWC in images if image_HWC.tobytes() not in left_out]
    order = np.random.default_rng(0).permutation(len(images))[:count]
    return np.stack([images[index] for index in order])
