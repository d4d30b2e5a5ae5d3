"""A sealed dataset as training sees it: memory-mapped files in scratch, soft labels inflated when they are drawn.

Memory stays bounded by what the system keeps of the files; a million images need disk, not memory.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.formats import soft_labels
from service.formats.annotated_images import IGNORE
from service.formats.shard import ShardSample

IMAGES, IGNORED, SOFT, ENDS = "images.npy", "ignored.npy", "soft.bin", "ends.npy"


class LocalSoftDataset:
    """Pairs (image uint8 HWC, channel probabilities float32 CHW) by index; ignored pixels are all zero."""

    def __init__(self, folder: Path) -> None:
        """A folder that was filled before."""
        self.folder = folder
        self._images = np.lib.format.open_memmap(folder / IMAGES, "r")
        self._ignored = np.lib.format.open_memmap(folder / IGNORED, "r")
        self._soft = np.memmap(folder / SOFT, np.uint8, "r")
        self._ends: NDArray[np.int64] = np.load(folder / ENDS)

    @classmethod
    def filled(cls, folder: Path, samples: Iterable[ShardSample], count: int, size: tuple[int, int]) -> Self:
        """A new folder with these samples of (height, width) in order. Raises ValueError unless there are `count`, each
        with a soft label."""
        folder.mkdir(parents=True, exist_ok=True)
        height, width = size
        images = np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, (count, height, width, 3))
        ignored = np.lib.format.open_memmap(folder / IGNORED, "w+", np.bool_, (count, height, width))
        ends = np.zeros(count + 1, dtype=np.int64)
        filled = 0
        with (folder / SOFT).open("wb") as file:
            for index, sample in enumerate(samples):
                if sample.soft is None or sample.label_HW is None:
                    raise ValueError(f"the sample {sample.key} has no soft label")
                images[index] = sample.image_HWC
                ignored[index] = sample.label_HW == IGNORE
                file.write(sample.soft)
                ends[index + 1] = ends[index] + len(sample.soft)
                filled = index + 1
        if filled != count:
            raise ValueError(f"{filled} samples where {count} were promised")
        images.flush()
        ignored.flush()
        np.save(folder / ENDS, ends)
        return cls(folder)

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
