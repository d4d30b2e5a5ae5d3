"""The things that jobs refer to, named to do harm: pictures, annotation sets, a pool, a generator, an encoder."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service import (
    annotation_sets,
    image_pools,
    object_keys,
)
from service.bootstrap import Factory
from service.formats.png import encode_image_png
from service.formats.shard import MemberOffsets, ShardSample, ShardWriter
from service.ids import new_id
from service.tables import Generator
from tests import factories

HOSTILE = '<script>alert("x")</script>'
CLASSES: list[dict[str, Any]] = [
    {"name": "background", "thing": False, "color": "#20242c", "background": True},
    {"name": HOSTILE, "thing": False, "color": "#e69f00", "background": False},
    {"name": "cell & nucleus", "thing": True, "color": "#0072b2", "background": False},
]


@dataclass(frozen=True)
class Picture:
    """An image and its label map."""

    image_HWC: np.ndarray
    label_HW: np.ndarray


@dataclass
class Scene:
    """What was made, by id."""

    factory: Factory
    pictures: Sequence[Picture]
    classes: list[dict[str, Any]]
    generator_id: str = ""
    encoder_id: str = ""
    gan_id: str = ""
    annotation_set_id: str = ""
    held_out_id: str = ""
    pool_id: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all pictures."""
        height, width = self.pictures[0].label_HW.shape
        return int(height), int(width)


def drawn_pictures(count: int = 12, side: int = 16) -> list[Picture]:
    """Discs on noise."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    pictures = []
    for _ in range(count):
        image = generator.integers(60, 120, (side, side, 3), dtype=np.uint8)
        label = np.zeros((side, side), np.uint8)
        for value in (1, 2):
            y, x = generator.integers(3, side - 3, 2)
            disc = (rows - y) ** 2 + (columns - x) ** 2 < (side // 5) ** 2
            image[disc], label[disc] = (220, 90 * value, 60), value
        pictures.append(Picture(image, label))
    return pictures


def build(factory: Factory, pictures: Sequence[Picture], classes: list[dict[str, Any]], name: str = HOSTILE) -> Scene:
    """The things that jobs refer to."""
    scene = Scene(factory, pictures, classes)
    height, width = scene.size
    with factory.work() as work:
        scene.annotation_set_id = _annotation_set(work, scene, f"{name} few", pictures[:5])
        scene.held_out_id = _annotation_set(work, scene, f"{name} held out", pictures[5:])
        pool = image_pools.create(work, f"{name} unlabelled")
        pool.state, pool.num_images, pool.image_height, pool.image_width = "sealed", 4000, height, width
        scene.pool_id = pool.id
        row = Generator(
            id=new_id("gen"),
            name=name,
            state="ready",
            family="unet_diffusion",
            image_height=height,
            image_width=width,
            image_channels=3,
            num_parameters=3_412_000,
            digest="9f86d081884c7d659a2feaa0c55ad015" * 2,
            card={"licence": "CC BY 4.0", "recipe": "train_generator, 20000 steps", "frechet_distance": 14.2},
        )
        row.key_prefix = object_keys.generator_prefix(row.id, 1)
        work.storage.put_stream(row.key_prefix + "samples.png", [sheet(pictures)])
        work.session.add(row)
        scene.generator_id = row.id
        scene.encoder_id = factories.make_generator(work, name=f"{name} encoder", family="encoder").id
        scene.gan_id = factories.make_generator(work, name=f"{name} gan", family="stylegan2").id
    return scene


def _annotation_set(work: Any, scene: Scene, name: str, pictures: Sequence[Picture]) -> str:
    file = io.BytesIO()
    offsets = write_shard(file, pictures, 0)
    file.seek(0)
    height, width = scene.size
    pixels = sum(count_pixels(picture, scene.classes) for picture in pictures)
    new = annotation_sets.NewAnnotationSet(
        name=name,
        kind="semantic",
        classes=scene.classes,
        num_images=len(pictures),
        image_height=height,
        image_width=width,
        statistics={"num_images": len(pictures), "class_pixels": [int(n) for n in np.asarray(pixels)]},
    )
    row = annotation_sets.create(work, new, file)
    index = [{"name": f"{i}.png", "members": offset.members} for i, offset in enumerate(offsets)]
    work.storage.put_stream(object_keys.annotation_index(row.key), [json.dumps(index).encode()])
    return row.id


def write_shard(file: io.BytesIO, pictures: Sequence[Picture], first: int) -> list[MemberOffsets]:
    """A real shard; where its members lie."""
    with ShardWriter(file) as writer:
        return [
            writer.add(ShardSample(f"{first + i:06}", picture.image_HWC, picture.label_HW, meta={"seed": i}))
            for i, picture in enumerate(pictures)
        ]


def count_pixels(picture: Picture, classes: Sequence[Any]) -> np.ndarray:
    """Pixels of each class."""
    return np.bincount(picture.label_HW[picture.label_HW != 255], minlength=len(classes))


def sheet(pictures: Sequence[Picture], columns: int = 4) -> bytes:
    """PNG of the first pictures in a grid."""
    rows = [np.concatenate([p.image_HWC for p in pictures[i : i + columns]], axis=1) for i in (0, columns)]
    return encode_image_png(np.concatenate(rows))
