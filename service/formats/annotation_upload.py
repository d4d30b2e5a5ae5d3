"""`read_annotations`: an uploaded zip of annotated images, wholly validated or wholly refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from service.errors import Invalid, fault
from service.formats.annotated_images import AnnotationUpload, LabelClass
from service.formats.archive import Archive
from service.formats.coco_links import find_documents
from service.formats.coco_reader import CocoReading
from service.formats.limits import UploadLimits
from service.formats.mask_reader import MaskReading

Format = Literal["auto", "coco", "masks"]


def read_annotations(
    zip_path: Path | str,
    *,
    limits: UploadLimits = UploadLimits(),
    classes: Sequence[LabelClass | str] | None = None,
    things: Sequence[str] | None = None,
    format: Format = "auto",
    first: int | None = None,
) -> AnnotationUpload:
    """Reads the whole zip once and raises one `Invalid` with every problem found, or returns a set that can be iterated.

    `classes` overrides the class list of the zip; `things` names the classes with instances (None: as the zip says);
    `first` takes the first N image entries in zip order. A zip with both COCO JSON and masks is read as COCO.
    The zip must stay on disk while `images` is iterated.
    """
    if first is not None and first < 1:
        raise Invalid("At least one image has to be taken.", [fault("first", "is less than 1")])
    with Archive(zip_path, limits) as archive:
        if format == "auto":
            format = _format_of(archive)
        reading = CocoReading if format == "coco" else MaskReading
        return reading(archive, limits, classes, things).upload(zip_path, first)


def _format_of(archive: Archive) -> Format:
    if find_documents(archive):
        return "coco"
    if any(True for _ in archive.within("masks")):
        return "masks"
    message = "holds neither annotations.json (COCO) nor masks/*.png; add one of them beside images/"
    raise Invalid("The archive holds no annotations.", [fault("archive", message)])
