"""The readers on real packs: those shipped as examples, and the benchmark packs where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.formats.annotation_upload import read_annotations
from service.formats.pool_upload import read_pool

ROOT = Path(__file__).parents[3]
PACKS = sorted(p.parent for folder in ("examples", "../shared/benchmarks") for p in (ROOT / folder).glob("*/pack.json"))


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_coco_and_masks_give_the_same_label_maps(pack: Path) -> None:
    about = json.loads((pack / "pack.json").read_bytes())
    names = [c if isinstance(c, str) else c["name"] for c in about["classes"]]
    coco = read_annotations(pack / "few.zip")
    masks = read_annotations(pack / "few.zip", format="masks", classes=names)
    assert [c.name for c in coco.classes] == names
    assert coco.kind == about["kind"]
    assert [coco.height, coco.width] == about["size"] or [coco.width, coco.height] == about["size"]
    for a, b in zip(coco.images, masks.images, strict=True):
        assert a.name == b.name
        assert np.array_equal(a.image_HWC, b.image_HWC)
        assert np.array_equal(a.label_HW, b.label_HW)
    assert coco.statistics["class_pixels"] == masks.statistics["class_pixels"]


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.name)
def test_the_first_images_are_those_of_the_whole_set(pack: Path) -> None:
    whole, some = read_annotations(pack / "few.zip"), read_annotations(pack / "few.zip", first=3)
    assert whole.classes == some.classes
    assert [i.name for i in some.images] == [i.name for i in whole.images][:3]


@pytest.mark.parametrize("pack", [p for p in PACKS if (p / "unlabelled.zip").exists()], ids=lambda pack: pack.name)
def test_pools_are_read(pack: Path) -> None:
    pool = read_pool(pack / "unlabelled.zip")
    assert sum(1 for _ in pool) + pool.num_duplicates == json.loads((pack / "pack.json").read_bytes())["unlabelled"]
