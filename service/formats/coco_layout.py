"""The layout of a COCO zip that this project writes, so that a million images are written and checked in flat memory.

images/{key}.png         RGB
masks/{key}.png          indexed; value = position in classes.json, 255 = ignore; image and mask alternate, in the
                         order of `file_order`
annotations.json         COCO, one record per line, images in the order of their files, annotations in that of images
classes.json             the class list with the background
README.md                the data card
validation.json          the validator's report
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import orjson

from service.formats.annotated_images import LabelClass
from service.formats.colors import rgb

ANNOTATIONS, CLASSES, CARD, VALIDATION = "annotations.json", "classes.json", "README.md", "validation.json"
CHUNK_RECORDS = 500
COPY_BYTES = 1024**2
MAX_LINE = 512 * 1024**2
IMAGES_LINE, ANNOTATIONS_LINE, BETWEEN, END = b'"images":[\n', b'"annotations":[\n', b"],\n", b"]}\n"


class LayoutError(ValueError):
    """The zip is not of this layout."""


def file_order(name: str) -> tuple[int, str]:
    """Names, or keys, ascend by this, so that one comparison finds what comes twice: 9 < 10, as numbers do."""
    return len(name), name


def category_ids(classes: Sequence[LabelClass]) -> dict[int, int]:
    """Label value -> category id: 1, 2, ... in class order, the background left out."""
    shown = [index for index, c in enumerate(classes) if not c.background]
    return {index: number for number, index in enumerate(shown, start=1)}


def categories(classes: Sequence[LabelClass]) -> list[dict[str, Any]]:
    """The COCO records of a class list."""
    return [
        {
            "id": number,
            "name": classes[index].name,
            "supercategory": "thing" if classes[index].thing else "stuff",
            "isthing": int(classes[index].thing),
            "color": list(rgb(classes[index].color)),
        }
        for index, number in category_ids(classes).items()
    ]


class RecordLines:
    """JSON records on a scratch file, one per line, with commas between."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._waiting: list[bytes] = []
        self.count = 0

    def add(self, record: dict[str, Any]) -> None:
        self._waiting.append(orjson.dumps(record))
        self.count += 1
        if len(self._waiting) >= CHUNK_RECORDS:
            self._flush(b",\n")

    def chunks(self) -> Iterator[bytes]:
        """Everything added so far."""
        self._flush(b"\n")
        self._file.seek(0)
        while chunk := self._file.read(COPY_BYTES):
            yield chunk

    def _flush(self, end: bytes) -> None:
        if self._waiting:
            self._file.write(b",\n".join(self._waiting) + end)
            self._waiting.clear()
        elif end == b"\n" and self.count:  # the last chunk ended with a comma
            self._file.seek(-2, 2)
            self._file.write(b"\n")
            self._file.truncate()


def document(head: dict[str, Any], images: RecordLines, annotations: RecordLines) -> Iterator[bytes]:
    """The bytes of `ANNOTATIONS`; `head` is info, licenses and categories."""
    yield orjson.dumps(head)[:-1] + b",\n" + IMAGES_LINE
    yield from images.chunks()
    yield BETWEEN + ANNOTATIONS_LINE
    yield from annotations.chunks()
    yield END


def read_head(stream: IO[bytes]) -> dict[str, Any]:
    """info, licenses and categories from the beginning of the document. Raises `LayoutError`."""
    line = _line(stream)
    if not line.endswith(b",\n"):
        raise LayoutError("the first line is not the head of the document")
    return _record(line[:-2] + b"}")


def read_records(stream: IO[bytes], section: bytes) -> Iterator[dict[str, Any]]:
    """The records of `IMAGES_LINE` or `ANNOTATIONS_LINE`; reads the document to its end. Raises `LayoutError`."""
    _line(stream)
    for wanted, end in ((IMAGES_LINE, BETWEEN), (ANNOTATIONS_LINE, END)):
        if _line(stream) != wanted:
            raise LayoutError(f"the line {wanted.decode().strip()} is not where it belongs")
        more = True
        while (line := _line(stream)) != end:
            if not more:
                raise LayoutError("a comma between two records is missing")
            more = line.endswith(b",\n")
            if wanted == section:
                yield _record(line.rstrip(b",\n"))
    if stream.read(1):
        raise LayoutError("the document goes on behind its end")


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        raise LayoutError("the document ends too early")
    return line


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LayoutError(f"a line is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise LayoutError("a line is not an object")
    return record


def names_of(classes: Iterable[dict[str, Any]]) -> list[LabelClass]:
    """classes.json -> class list. Raises `LayoutError`."""
    try:
        return [LabelClass.from_json(c) for c in classes]
    except (KeyError, TypeError) as error:
        raise LayoutError(f"{CLASSES} is malformed: {error}") from error
