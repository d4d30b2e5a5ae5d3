"""`read_annotations`: an uploaded zip of annotated images, wholly validated or wholly refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from service.formats.annotated_images import AnnotationUpload, LabelClass
from service.formats.limits import UploadLimits

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
    `first` takes the first N image entries in zip order. The zip must stay on disk while `images` is iterated.
    """
    raise NotImplementedError
