"""`write_coco_zip`: a dataset's shards -> one COCO zip, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any

from service.formats.annotated_images import LabelClass
from service.formats.shard import ShardSample


def write_coco_zip(
    fileobj: IO[bytes],
    *,
    classes: Sequence[LabelClass],
    shards: Iterable[ShardSample],
    info: dict[str, Any],
    keep: Callable[[ShardSample], bool] | None = None,
) -> dict[str, Any]:
    """Writes to a seekable file open for reading and writing (`w+b`); the validator's report goes inside.

    `shards` is the samples of all shards one after another. Returns `{num_images, num_annotations, num_skipped,
    num_bytes, class_annotations, class_pixels, validation}`. Raises `CocoExportError` when the report finds a fault.
    """
    raise NotImplementedError
