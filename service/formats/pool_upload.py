"""`read_pool`: an uploaded zip of images without labels, streamed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from service.formats.annotated_images import PoolImage
from service.formats.limits import UploadLimits


def read_pool(
    zip_path: Path | str,
    limits: UploadLimits = UploadLimits(),
    *,
    size: tuple[int, int] | None = None,
    known: Collection[str] = frozenset(),
) -> PoolUpload:
    """Checks the archive's directory at once; images are checked as they are iterated."""
    raise NotImplementedError


class PoolUpload:
    """Iterate once: yields good images, then raises one `Invalid` if any was bad, so keep nothing before the end.

    `size` (H, W) is demanded of each image (None: the size of the first); `known` digests are skipped as duplicates.
    """

    num_images: int
    num_duplicates: int
    size: tuple[int, int] | None

    def __iter__(self) -> Iterator[PoolImage]:
        raise NotImplementedError
