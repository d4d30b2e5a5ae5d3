"""A sealed dataset as training sees it: memory-mapped files in scratch, soft labels inflated when they are drawn.

Memory stays bounded by what the system keeps of the files; a million images need disk, not memory.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.formats import soft_labels
from service.formats.annotated_images import IGNORE
from service.formats.shard import ShardSample


class LocalSoftDataset:
    """Pairs (image uint8 HWC, channel probabilities float32 CHW) by index; ignored pixels are all zero."""

    def __init__(self, folder: Path, count: int, size: tuple[int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        height, width = size
        self._images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, height, width, 3))
        self._ignored = np.lib.format.open_memmap(folder / "ignored.npy", "w+", np.bool_, (count, height, width))
        self._path = folder / "soft.bin"
        self._ends = np.zeros(count + 1, dtype=np.int64)
        self._soft: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

    def fill(self, samples: Iterable[ShardSample]) -> None:
        """Take the samples in order; exactly as many as there are places."""
        filled = 0
        with self._path.open("wb") as file:
            for index, sample in enumerate(samples):
                if sample.soft is None or sample.label_HW is None:
                    raise ValueError(f"the sample {sample.key} has no soft label")
                self._images[index] = sample.image_HWC
                self._ignored[index] = sample.label_HW == IGNORE
                file.write(sample.soft)
                self._ends[index + 1] = self._ends[index] + len(sample.soft)
                filled = index + 1
        if filled != len(self):
            raise ValueError(f"{filled} samples where {len(self)} were promised")
        self._soft = np.memmap(self._path, np.uint8, "r")

    def images(self, count: int) -> NDArray[np.uint8]:
        """The first few images, BHWC."""
        return np.array(self._images[:count])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        begin, end = self._ends[index : index + 2]
        probabilities_CHW = soft_labels.decode(self._soft[begin:end].tobytes())
        ignored_HW = self._ignored[index]
        if ignored_HW.any():
            probabilities_CHW = np.where(ignored_HW, np.float32(0), probabilities_CHW)
        return np.array(self._images[index]), probabilities_CHW
