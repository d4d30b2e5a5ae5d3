"""Tiny real things: a diffusion generator of a few thousand weights, annotated images and pools of discs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.generators.network import NetworkConfig
from models.generators.unet_diffusion import UNetDiffusionGenerator
from service import annotation_sets, generators, image_pools
from service.annotation_sets import NewAnnotationSet
from service.formats.shard import ShardSample, ShardWriter
from service.tables import AnnotationSet, Generator, ImagePool
from service.unit_of_work import Work

SIZE = 32
CLASSES = [
    {"name": "background", "thing": False, "color": "#000000", "background": True},
    {"name": "disc", "thing": False, "color": "#e69f00", "background": False},
]
THINGS = [CLASSES[0], {**CLASSES[1], "thing": True}]
HEAD = {"steps": 2, "tap_timestep": 50, "members": 2}
"""A head that is fitted in seconds and learns next to nothing."""
STUDENT_BUDGET = {"steps": 2, "finetune_steps": 1, "batch_size": 2}


def tiny_generator(*, seed: int = 0) -> UNetDiffusionGenerator:
    """Random weights, 32x32 colour images."""
    network = NetworkConfig(block_out_channels=(8, 16), layers_per_block=1, patch_size=2, attention=False)
    return UNetDiffusionGenerator.build((3, SIZE, SIZE), network, seed=seed)


def generator_folder(parent: Path, name: str = "tiny") -> Path:
    """An operator's folder with one generator directory in it; returns that directory."""
    directory = parent / name
    tiny_generator().save(directory)
    return directory


def disc(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(image HWC, label HW): one bright disc on a dark, noisy ground."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centre, radius = draw.uniform(10, 22, 2), draw.uniform(5, 9)
    label_HW = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2).astype(np.uint8)
    noise = draw.normal(0, 12, (SIZE, SIZE, 3))
    image_HWC = np.where(label_HW[..., None] > 0, [220, 180, 60], [40, 40, 70]) + noise
    return image_HWC.clip(0, 255).astype(np.uint8), label_HW


def make_generator(work: Work, directory: Path) -> Generator:
    """Register a tiny generator."""
    return generators.register_bundled(work, directory.name, directory)


def make_annotation_set(work: Work, *, count: int = 3, first: int = 0, things: bool = False) -> AnnotationSet:
    """A stored annotation set of discs."""
    file = io.BytesIO()
    with ShardWriter(file) as writer:
        for index in range(first, first + count):
            image_HWC, label_HW = disc(index)
            instances = label_HW.astype(np.uint16) if things else None
            writer.add(ShardSample(f"{index:04}", image_HWC, label_HW, instances))
    file.seek(0)
    new = NewAnnotationSet(
        name=f"discs {first}",
        kind="instance" if things else "semantic",
        classes=THINGS if things else CLASSES,
        num_images=count,
        image_height=SIZE,
        image_width=SIZE,
        statistics={},
    )
    return annotation_sets.create(work, new, file)


def make_pool(work: Work, *, parts: tuple[int, ...] = (5, 4), seal: bool = True) -> ImagePool:
    """A pool of discs in parts of so many images."""
    pool = image_pools.create(work, "discs")
    first = 1000
    for count in parts:
        file = io.BytesIO()
        with ShardWriter(file) as writer:
            for index in range(first, first + count):
                writer.add(ShardSample(f"{index:06}", disc(index)[0]))
        file.seek(0)
        image_pools.add_part(work, pool.id, file, num_images=count, image_height=SIZE, image_width=SIZE)
        first += count
    return image_pools.seal(work, pool.id) if seal else pool
