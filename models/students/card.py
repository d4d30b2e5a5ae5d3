"""A student as a directory: `AutoModelForSemanticSegmentation.from_pretrained` reads it, without network or our code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForSemanticSegmentation

from models.contracts import ClassSpec

USAGE = """\
    import numpy, torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    processor = AutoImageProcessor.from_pretrained(".")
    student = AutoModelForSemanticSegmentation.from_pretrained(".").eval()
    image = Image.open("image.png").convert("RGB")
    with torch.inference_mode():
        logits = student(**processor(image, return_tensors="pt")).logits
    logits = torch.nn.functional.interpolate(logits, size=image.size[::-1], mode="bilinear", align_corners=False)
    labels = logits.argmax(1)[0]
"""

PREPROCESSING = {
    "image_processor_type": "SegformerImageProcessor",
    "do_resize": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_reduce_labels": False,
}
"""uint8 RGB -> float in [-1, 1], at the image's own size."""


def save_student(student: nn.Module, directory: Path, card: dict[str, Any]) -> None:
    """Write config.json, model.safetensors, preprocessor_config.json and README.md (the model card).

    `card` is JSON-ready facts; `title`, `summary`, `licence`, `classes` and `report` are shown on top, everything else below.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # save_pretrained moves a model's `training` flag nowhere, but half-open gradients would keep memory alive.
    student.eval().save_pretrained(directory, safe_serialization=True)
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING, indent=2) + "\n")
    (directory / "README.md").write_text(render_card(card))


def load_student(directory: Path) -> nn.Module:
    """Read a student's directory, ready to predict; never touches the network."""
    student: nn.Module = AutoModelForSemanticSegmentation.from_pretrained(directory, local_files_only=True)
    return student.eval()


def render_card(card: dict[str, Any]) -> str:
    """Markdown with the front matter that model hubs read."""
    facts = dict(card)
    title, licence = facts.pop("title", "Student"), facts.pop("licence", "unknown")
    summary = facts.pop("summary", "A semantic segmentation network.")
    classes: Sequence[ClassSpec | dict[str, Any] | str] = facts.pop("classes", [])
    report: dict[str, Any] = facts.pop("report", {})
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-segmentation",
        f"license: {_slug(licence)}",
        "---",
        "",
    ]
    lines += [
        f"# {title}",
        "",
        summary,
        "",
    ]
    lines += ["## Use", "", USAGE]
    lines += [f"Outputs, in order: {', '.join(map(_class_name, classes))}." if classes else "Outputs: see `id2label`."]
    lines += ['A label "X contour" is the border of an object of class X: count it to X.', ""]
    if report:
        lines += ["## Measured on held-out labels", "", "| | mIoU | boundary IoU | AP50 |", "|---|---|---|---|"]
        lines += [f"| {name} | {_cells(scores)} |" for name, scores in report.items()] + [""]
    if facts:
        lines += ["## Lineage and recipe", "", "```json", json.dumps(facts, indent=2, default=str), "```", ""]
    return "\n".join(lines)


def _cells(scores: dict[str, Any]) -> str:
    values = (scores.get(name) for name in ("miou", "boundary_iou", "ap50"))
    return " | ".join("" if value is None else f"{value:.3f}" for value in values)


def _class_name(spec: ClassSpec | dict[str, Any] | str) -> str:
    if isinstance(spec, ClassSpec):
        return spec.name
    return str(spec["name"]) if isinstance(spec, dict) else spec


def _slug(licence: str) -> str:
    return licence.lower().replace(" ", "-")
