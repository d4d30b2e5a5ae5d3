"""A student as a directory: transformers' `from_pretrained` reads it, without network or our code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Mask2FormerConfig, RTDetrConfig

from models.contracts import ClassSpec
from models.registry import Task
from models.students.tasks import TASKS, parts_of

USAGE = """\
    import numpy, torch
    from PIL import Image
    from transformers import AutoImageProcessor, {auto_class}

    processor = AutoImageProcessor.from_pretrained(".")
    student = {auto_class}.from_pretrained(".").eval()
    image = Image.open("image.png").convert("RGB")
{lines}"""

PREPROCESSING = {
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
    preprocessing = {"image_processor_type": parts_of(student).image_processor, **PREPROCESSING}
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
    write_card(directory, card)


def write_card(directory: Path, card: dict[str, Any]) -> None:
    """Write README.md, the model card of the student in the directory."""
    (directory / "README.md").write_text(render_card(card, _task(directory)))


def load_student(directory: Path) -> nn.Module:
    """Read a student's directory, ready to predict; never touches the network."""
    student: nn.Module = TASKS[_task(directory)].auto_class.from_pretrained(directory, local_files_only=True)
    return student.eval()


def _task(directory: Path) -> Task:
    kind = json.loads((directory / "config.json").read_text())["model_type"]
    tasks: dict[str, Task] = {Mask2FormerConfig.model_type: "instance", RTDetrConfig.model_type: "detection"}
    return tasks.get(kind, "semantic")


def render_card(card: dict[str, Any], task: Task = "semantic") -> str:
    """Markdown with the front matter that model hubs read."""
    facts = dict(card)
    title, licence = facts.pop("title", "Student"), facts.pop("licence", "unknown")
    summary = facts.pop("summary", "A segmentation network.")
    classes: Sequence[ClassSpec | dict[str, Any] | str] = facts.pop("classes", [])
    report: dict[str, Any] = facts.pop("report", {})
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {'object-detection' if task == 'detection' else 'image-segmentation'}",
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
    lines += ["## Use", "", USAGE.format(auto_class=TASKS[task].auto_class.__name__, lines=TASKS[task].usage)]
    lines += [f"Outputs, in order: {', '.join(map(_class_name, classes))}." if classes else "Outputs: see `id2label`."]
    if task == "semantic":
        lines += ['A label "X contour" is the border of an object of class X: count it to X.', ""]
    if report:
        lines += [
            "## Measured on held-out labels",
            "",
            "| | mIoU | boundary IoU | AP50 | box AP50 |",
            "|---|---|---|---|---|",
        ]
        lines += [f"| {name} | {_cells(scores)} |" for name, scores in report.items()] + [""]
    if facts:
        lines += ["## Lineage and recipe", "", "```json", json.dumps(facts, indent=2, default=str), "```", ""]
    return "\n".join(lines)


def _cells(scores: dict[str, Any]) -> str:
    values = (scores.get(name) for name in ("miou", "boundary_iou", "ap50", "box_ap50"))
    return " | ".join("" if value is None else f"{value:.3f}" for value in values)


def _class_name(spec: ClassSpec | dict[str, Any] | str) -> str:
    if isinstance(spec, ClassSpec):
        return spec.name
    return str(spec["name"]) if isinstance(spec, dict) else spec


def _slug(licence: str) -> str:
    return licence.lower().replace(" ", "-")
