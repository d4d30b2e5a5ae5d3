"""`read_pool`: an uploaded zip of images without labels, streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

from service.formats.annotated_images import Image_HWC, PoolImage
from service.formats.archive import Archive
from service.formats.coco_links import image_entries
from service.formats.image_files import decode_image
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem, ProblemList
from service.formats.set_tally import SizeCheck

REFUSAL = "The images cannot be accepted"


def read_pool(
    zip_path: Path | str,
    limits: UploadLimits = UploadLimits(),
    *,
    size: tuple[int, int] | None = None,
    known: Collection[str] = frozenset(),
) -> PoolUpload:
    """Checks the archive's directory at once (`Invalid`); images are checked as they are iterated."""
    problems = ProblemList()
    with Archive(zip_path, limits) as archive:
        entries = image_entries(archive)
    if not entries:
        problems.add("archive", "holds no image; PNG, JPEG and WebP files are read")
    if len(entries) > limits.max_images:
        problems.add("archive", f"holds {len(entries):,} images; at most {limits.max_images:,} are allowed")
    problems.refuse_if_any(REFUSAL)
    return PoolUpload(zip_path, limits, size, known)


class PoolUpload:
    """Iterate to the end: yields good images, then raises one `Invalid` if any was bad, so keep nothing before.

    `size` (H, W) is demanded of each image (None: that of the first). An image whose pixels came before, in this zip
    or among the `known` digests, is skipped and counted, whatever its file name and encoding.
    """

    def __init__(
        self, zip_path: Path | str, limits: UploadLimits, size: tuple[int, int] | None, known: Collection[str]
    ) -> None:
        self._zip_path, self._limits, self._known, self._size = zip_path, limits, known, size
        self.size = size
        self.num_images = 0
        self.num_duplicates = 0

    def __iter__(self) -> Iterator[PoolImage]:
        problems, sizes, seen = ProblemList(), SizeCheck(self._size), set(self._known)
        self.num_images = self.num_duplicates = 0
        with Archive(self._zip_path, self._limits) as archive:
            for entry in image_entries(archive):
                image: Image_HWC | None = None
                with problems.at(entry.name):
                    image = self._sized(archive.read(entry, self._limits.max_image_bytes), sizes)
                if image is None:
                    continue
                self.size = sizes.size
                digest = pixel_digest(image)
                if digest in seen:
                    self.num_duplicates += 1
                    continue
                seen.add(digest)
                self.num_images += 1
                yield PoolImage(entry.name, image, digest)
        problems.refuse_if_any(REFUSAL)

    def _sized(self, data: bytes, sizes: SizeCheck) -> Image_HWC:
        image = decode_image(data, self._limits)
        if fault := sizes.fault(image):
            raise FileProblem(fault)
        return image


def pixel_digest(image_HWC: Image_HWC) -> str:
    """sha256 of height, width and RGB bytes."""
    head = f"{image_HWC.shape[0]}x{image_HWC.shape[1]}:".encode()
    return hashlib.sha256(head + image_HWC.tobytes()).hexdigest()
