"""The carriers every format speaks: a class, an annotated image, an upload that was found valid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Image_HWC = NDArray[np.uint8]
Labels_HW = NDArray[np.uint8]
Instances_HW = NDArray[np.uint16]

IGNORE = 255
"""The label value of pixels nobody has decided about: not learnt from, not measured."""

BACKGROUND_NAME = "background"


@dataclass(frozen=True)
class LabelClass:
    """One entry of a class list; its position in the list is its value in a label map."""

    name: str
    thing: bool = False
    """Countable objects with instance ids; otherwise a region."""
    color: str = "#000000"
    """`#rrggbb`."""
    background: bool = False
    """What is left when nothing else is annotated; at most one per list, never in COCO categories."""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "thing": self.thing, "color": self.color, "background": self.background}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LabelClass:
        return cls(value["name"], bool(value["thing"]), value["color"], bool(value["background"]))


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with the class, and for things the instance, of each pixel."""

    name: str
    """The file name inside the upload; a label for people, never a path."""
    image_HWC: Image_HWC
    label_HW: Labels_HW
    """Class index, 255 = ignore."""
    instances_HW: Instances_HW | None = None
    """Instance id from 1 on pixels of thing classes, 0 elsewhere; None when the set has no thing class."""


@dataclass(frozen=True)
class PoolImage:
    """An image without labels."""

    name: str
    image_HWC: Image_HWC
    digest: str
    """sha256 of the size and the RGB pixels: the same picture in another file has the same digest."""


class AnnotatedImages(Protocol):
    """Images read anew from the upload at each iteration, in the order of the zip."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[AnnotatedImage]: ...


@dataclass(frozen=True)
class AnnotationUpload:
    """A wholly validated set of annotated images."""

    classes: tuple[LabelClass, ...]
    images: AnnotatedImages
    format: str
    """`coco` or `masks`."""
    height: int
    width: int
    statistics: dict[str, Any] = field(default_factory=dict)
    """num_images, class_pixels (in class order), ignore_pixels, num_instances and what the format adds."""

    @property
    def kind(self) -> str:
        return "instance" if any(c.thing for c in self.classes) else "semantic"


def background_index(classes: Iterable[LabelClass]) -> int | None:
    """The label value of the background class, or None for a list that covers every pixel."""
    return next((index for index, c in enumerate(classes) if c.background), None)
