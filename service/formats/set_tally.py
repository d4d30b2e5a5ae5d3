"""What both readers of annotated images keep count of, and the faults that only the whole set shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.formats.annotated_images import IGNORE, AnnotatedImage, Image_HWC, LabelClass
from service.formats.archive import Archive
from service.formats.limits import UploadLimits
from service.formats.problems import ProblemList


class ZipImages:
    """The images of a validated zip, read anew at each iteration; holds one at a time."""

    def __init__(
        self, zip_path: Path | str, limits: UploadLimits, count: int, read: Callable[[Archive, int], AnnotatedImage]
    ) -> None:
        self._zip_path, self._limits, self._count, self._read = zip_path, limits, count, read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[AnnotatedImage]:
        with Archive(self._zip_path, self._limits) as archive:
            for index in range(self._count):
                yield self._read(archive, index)


class SizeCheck:
    """Every image of a set has the size of the first."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self.size = size

    def fault(self, image_HWC: Image_HWC) -> str | None:
        """Why this image's size is refused."""
        size = image_HWC.shape[0], image_HWC.shape[1]
        if self.size is None:
            self.size = size
        if size == self.size:
            return None
        return (
            f"is {size[1]}x{size[0]} (width x height), the others are {self.size[1]}x{self.size[0]}; one size per set"
        )


class SetTally:
    """Counts pixels per label value and instances over a set."""

    def __init__(self) -> None:
        self.sizes = SizeCheck()
        self.num_images = 0
        self.num_instances = 0
        self._pixels = np.zeros(256, np.int64)
        self._digests: set[bytes] = set()

    def add_image(self, image_HWC: Image_HWC) -> None:
        self.num_images += 1
        self._digests.add(hashlib.sha256(image_HWC.tobytes()).digest())

    def add_pixels(self, pixels_256: NDArray[np.int64]) -> None:
        """Pixels per label value."""
        self._pixels += pixels_256

    def check(self, classes: Sequence[LabelClass], problems: ProblemList) -> None:
        """Adds the faults of a set that nothing can be learnt from."""
        if not self.num_images:
            problems.add("images", "there is no annotated image")
            return
        seen = [c for c, count in zip(classes, self._pixels.tolist(), strict=False) if count]
        if len(classes) < 2:
            problems.add("classes", "there is one class only; a background counts as one, so two are needed")
        elif not seen:
            problems.add("masks", "no pixel has a class")
        elif len(seen) == 1:
            what = "the background" if seen[0].background else f"{seen[0].name!r}"
            problems.add("masks", f"every labelled pixel is {what}; at least two classes must occur")

    def statistics(self, classes: Sequence[LabelClass]) -> dict[str, Any]:
        return {
            "num_images": self.num_images,
            "class_pixels": self._pixels[: len(classes)].tolist(),
            "ignore_pixels": int(self._pixels[IGNORE]),
            "num_instances": self.num_instances,
            "duplicate_images": self.num_images - len(self._digests),
        }
