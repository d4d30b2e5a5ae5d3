"""How fast label maps become COCO annotations: masks and records per second, and the memory of many.

`python -m benchmarks.masks` draws maps of cells, makes every instance of a map a compressed mask with area and box in
one pass over it, compares all of them with pycocotools, and writes the records of a document.
Axes: H, W.
"""

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from benchmarks.paired import Figure, print_table
from models.peak_memory import PeakMemory
from service.formats.coco_layout import RecordLines, document
from service.formats.coco_writer import annotation_record
from service.formats.rle import Region, encode_regions
from workers.device import choose_device

CELLS = 40
MAPS = 8
ROUNDS = 5
"""Each rate is the best of so many rounds."""


def cells(side: int, count: int, seed: int) -> NDArray[np.int32]:
    """A map of touching cells, 1 .. count, between gaps of 0, HW."""
    centres = np.random.default_rng(seed).uniform(0, side, (count, 2))
    rows, columns = np.mgrid[:side, :side]
    distance = (rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2
    near = distance.min(axis=-1) < side**2 / count / 3
    return np.where(near, distance.argmin(axis=-1) + 1, 0).astype(np.int32)


def masks_by_pycocotools(map_HW: NDArray[np.int32]) -> list[Region]:
    """The same regions, each from its own binary mask."""
    regions = []
    for key in np.unique(map_HW[map_HW > 0]).tolist():
        encoded = coco_mask.encode(np.asfortranarray(map_HW == key, dtype=np.uint8))
        x, y, width, height = (int(value) for value in coco_mask.toBbox(encoded))
        regions.append(Region(key, encoded["counts"], int(coco_mask.area(encoded)), (x, y, width, height)))
    return regions


def mask_rate(side: int, num_cells: int) -> Figure:
    """Masks per second of one core; raises RuntimeError where one differs from pycocotools'."""
    maps = [cells(side, num_cells, seed) for seed in range(MAPS)]
    started = time.process_time()
    expected = [masks_by_pycocotools(map_HW) for map_HW in maps]
    theirs = sum(map(len, expected)) / (time.process_time() - started)
    best = 0.0
    for _ in range(ROUNDS):
        started = time.process_time()
        found = [encode_regions(map_HW, skip=(0,)) for map_HW in maps]
        best = max(best, sum(map(len, found)) / (time.process_time() - started))
    if found != expected:
        raise RuntimeError("masks differ from those of pycocotools")
    detail = f"{num_cells} cells in {side}x{side}; as pycocotools makes them, at {theirs:,.0f} masks/s one by one"
    return Figure("label map to masks, areas and boxes", best, "masks/s", at_least=15_000, detail=detail)


def assembly(side: int, num_cells: int, num_annotations: int) -> list[Figure]:
    """Records per second of one core, and what a document of so many takes in memory."""
    regions = encode_regions(cells(side, num_cells, 0), skip=(0,))
    images = -(-num_annotations // len(regions))
    peak = PeakMemory(choose_device())
    before = peak.num_bytes()
    started = time.process_time()
    with tempfile.TemporaryFile() as image_file, tempfile.TemporaryFile() as annotation_file:
        annotations = RecordLines(annotation_file)
        for image in range(1, images + 1):
            for region in regions:
                number = annotations.count + 1
                annotations.add(annotation_record(region, (side, side), number=number, image=image, category=1))
        deque(document({"categories": []}, RecordLines(image_file), annotations), maxlen=0)
    rate = annotations.count / (time.process_time() - started)
    written = f"{annotations.count:,} annotations"
    return [
        Figure("masks to a COCO document", rate, "annotations/s", at_least=500_000, detail=written),
        Figure("memory of that", (peak.num_bytes() - before) / 1e6, "MB", at_most=32, detail=written),
    ]


def figures(*, side: int = 256, num_cells: int = CELLS, num_annotations: int = 1_000_000) -> list[Figure]:
    """All rows."""
    return [mask_rate(side, num_cells), *assembly(side, num_cells, num_annotations)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--cells", type=int, default=CELLS, help="instances of a map")
    parser.add_argument("--annotations", type=int, default=1_000_000)
    args = parser.parse_args(arguments)
    print_table(figures(side=args.side, num_cells=args.cells, num_annotations=args.annotations))


if __name__ == "__main__":
    main()
