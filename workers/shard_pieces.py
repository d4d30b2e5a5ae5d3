"""A shard in the making: one piece of tar per finished batch, so that a killed worker loses one batch at most.

Pieces are tars without their end; all of them one after another, and the end, are the shard. Names of pieces sort in
the order of their images.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from service.datasets import NewImage
from service.formats.shard import ShardSample, ShardWriter, end_of_shard
from service.storage import CHUNK_BYTES


@dataclass(frozen=True)
class PieceImage:
    """A sample and what the dataset's row needs to know of it."""

    index: int
    """Place in the dataset."""
    sample: ShardSample
    uncertainty: float
    class_pixels: list[int]


class ShardPieces:
    """The pieces in a checkpoint's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def num_images(self) -> int:
        """Images in finished pieces: where to go on."""
        return sum(len(json.loads(path.read_bytes())) for path in self._rows())

    def write(self, images: list[PieceImage]) -> None:
        """Write the next piece; it counts once its rows are there."""
        name = f"{images[0].index:010}"
        rows = []
        with (self._folder / f"{name}.piece").open("wb") as file:
            writer = ShardWriter(file)
            for image in images:
                offsets = writer.add(image.sample)
                row = NewImage(
                    index=image.index,
                    name=image.sample.key,
                    uncertainty=image.uncertainty,
                    class_pixels=image.class_pixels,
                    image_offset=offsets.image_offset,
                    image_bytes=offsets.image_bytes,
                    label_offset=offsets.label_offset or 0,
                    label_bytes=offsets.label_bytes or 0,
                )
                rows.append(asdict(row))
        partial = self._folder / f"{name}.partial"
        partial.write_text(json.dumps(rows))
        partial.replace(self._folder / f"{name}.json")

    def images(self) -> list[NewImage]:
        """Rows of all images, with offsets into the whole shard."""
        found: list[NewImage] = []
        before = 0
        for path in self._rows():
            rows = [NewImage(**row) for row in json.loads(path.read_bytes())]
            found += [
                replace(row, image_offset=before + row.image_offset, label_offset=before + row.label_offset)
                for row in rows
            ]
            before += path.with_suffix(".piece").stat().st_size
        return found

    def stream(self) -> Iterator[bytes]:
        """The bytes of the whole shard."""
        num_bytes = 0
        for path in self._rows():
            with path.with_suffix(".piece").open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    num_bytes += len(chunk)
                    yield chunk
        yield end_of_shard(num_bytes)

    def _rows(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))
