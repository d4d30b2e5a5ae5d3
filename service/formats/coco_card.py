"""The README.md inside a COCO zip."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from service.formats.annotated_images import LabelClass
from service.formats.coco_layout import category_ids


def data_card(classes: Sequence[LabelClass], info: dict[str, Any], counts: dict[str, Any]) -> str:
    """Markdown; names are a sender's text, so they are escaped."""
    ids = category_ids(classes)
    rows = [
        f"| {index} | {ids.get(index, '')} | {_cell(c.name)} | {_kind(c)} | {counts['class_annotations'][index]:,} "
        f"| {counts['class_pixels'][index]:,} |"
        for index, c in enumerate(classes)
    ]
    facts = [f"- {_cell(key)}: {_cell(value)}" for key, value in info.items() if isinstance(value, str | int | float)]
    return "\n".join(
        [
            f"# {_cell(info.get('description', 'Labelled dataset'))}",
            "",
            f"{counts['num_images']:,} images, {counts['num_annotations']:,} annotations.",
            "",
            *facts,
            "",
            "| mask value | category id | class | kind | annotations | pixels |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"{counts['ignore_pixels']:,} pixels are ignored (mask value 255; `ignore` in the image record, as RLE).",
            "",
            "- `annotations.json`: COCO. `file_name` is relative to `images/`; masks are compressed RLE with their true",
            "  area, holes and parts; boxes are x, y, width, height in pixels, half-open; `iscrowd` is 0. A thing has one",
            "  annotation per object, any other class one per image; the background has none.",
            "- `masks/`: indexed PNG, the value is the position in `classes.json`.",
            "- `validation.json`: what the validator found when it read this archive again.",
            "",
        ]
    )


def _kind(c: LabelClass) -> str:
    return "background" if c.background else "thing" if c.thing else "region"


def _cell(value: object) -> str:
    return html.escape(str(value), quote=False).replace("|", "\\|").replace("\n", " ")
