"""Backbones that the operator offers for students to start from: the sub-folders of `LABEL_FACTORY_WEIGHTS_DIR`.

A folder is a transformers directory: `config.json`, `model.safetensors` and, for the units of its images,
`preprocessor_config.json`. Users name a folder and never a path. Its files must not change: other weights, other name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import fault
from service.settings import Settings

PLACE = "student.weights"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Backbone:
    """What a folder's `config.json` must say to fit an architecture; `models/students/weights.py` checks every tensor."""

    model_type: str
    """Kind of network, as transformers names it."""
    sizes: Mapping[str, Any]
    """Key of the configuration -> its value."""


def _backbone(model_type: str, **sizes: Any) -> Backbone:
    return Backbone(model_type, sizes)


BACKBONES: dict[str, Backbone] = {
    "upernet_textnet": _backbone("textnet", hidden_sizes=[32, 48, 64, 96, 128]),
    "upernet_convnext": _backbone("convnext", hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 4, 2]),
    "upernet_convnext_tiny": _backbone("convnext", hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 9, 3]),
    "upernet_convnext_small": _backbone("convnext", hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 27, 3]),
    "upernet_convnext_base": _backbone("convnext", hidden_sizes=[128, 256, 512, 1024], depths=[3, 3, 27, 3]),
    "upernet_swin_tiny": _backbone("swin", embed_dim=96, depths=[2, 2, 6, 2]),
    "upernet_swin_small": _backbone("swin", embed_dim=96, depths=[2, 2, 18, 2]),
    "upernet_swin_base": _backbone("swin", embed_dim=128, depths=[2, 2, 18, 2]),
    "upernet_resnet": _backbone("resnet", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2]),
    "upernet_resnet_50": _backbone("resnet", hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 6, 3]),
    "upernet_resnet_101": _backbone("resnet", hidden_sizes=[256, 512, 1024, 2048], depths=[3, 4, 23, 3]),
    "upernet_efficientnet_lite0": _backbone("pp_lcnet", stem_channels=32, hidden_act="relu6"),
    "segformer_nano": _backbone("segformer", hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1]),
    "segformer_b0": _backbone("segformer", hidden_sizes=[32, 64, 160, 256], depths=[2, 2, 2, 2]),
    "segformer_b1": _backbone("segformer", hidden_sizes=[64, 128, 320, 512], depths=[2, 2, 2, 2]),
    "segformer_b2": _backbone("segformer", hidden_sizes=[64, 128, 320, 512], depths=[3, 4, 6, 3]),
    "segformer_b3": _backbone("segformer", hidden_sizes=[64, 128, 320, 512], depths=[3, 4, 18, 3]),
    "segformer_b4": _backbone("segformer", hidden_sizes=[64, 128, 320, 512], depths=[3, 8, 27, 3]),
    "segformer_b5": _backbone("segformer", hidden_sizes=[64, 128, 320, 512], depths=[3, 6, 40, 3]),
    "mask2former_nano": _backbone("swin", embed_dim=24, depths=[1, 1, 2, 1]),
    "mask2former_swin_tiny": _backbone("swin", embed_dim=96, depths=[2, 2, 6, 2]),
    "rtdetr_nano": _backbone("textnet", hidden_sizes=[32, 48, 64, 96, 128]),
    "rtdetr_resnet_18": _backbone("rt_detr_resnet", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2]),
}
"""Architecture -> the backbone it can start from."""

UNSAID = ("upernet_convnext_tiny", "upernet_swin_tiny", "upernet_resnet_50", "segformer_b0")
"""Architectures whose sizes transformers leaves out of `config.json`, because they are its defaults."""


def weights_folder(settings: Settings, name: str) -> Path | None:
    """The folder of that name, or None."""
    folder = None if settings.weights_dir is None else settings.weights_dir / name
    return (
        folder
        if folder is not None and all((folder / file).is_file() for file in (CONFIG_FILE, WEIGHTS_FILE))
        else None
    )


def weights_faults(settings: Settings, architecture: str, name: str | None) -> list[dict[str, str]]:
    """What keeps a student of this architecture from starting from the weights of that name; empty when nothing does."""
    if name is None:
        return []
    folder = weights_folder(settings, name)
    if folder is None:
        return [fault(PLACE, f"There are no weights {name} here; there are: {_names(settings) or 'none'}.")]
    wanted, found = BACKBONES[architecture], _read(folder)
    if found is None:
        return [fault(PLACE, f"The weights {name} have a config.json that cannot be read.")]
    if found.model_type != wanted.model_type:
        said = f"The weights {name} are of a {found.model_type}; {architecture} has a {wanted.model_type}."
        return [fault(PLACE, said)]
    wrong = [
        f"{key} {found.sizes[key]}, {architecture} has {value}"
        for key, value in wanted.sizes.items()
        if key in found.sizes and found.sizes[key] != value
    ]
    return [fault(PLACE, f"The weights {name} have {'; '.join(wrong)}.")] if wrong else []


def _read(folder: Path) -> Backbone | None:
    try:
        document = json.loads((folder / CONFIG_FILE).read_text())
        document = document.get("backbone_config", document)
        model_type = str(document["model_type"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    unsaid = next((BACKBONES[name].sizes for name in UNSAID if BACKBONES[name].model_type == model_type), {})
    return Backbone(model_type, {**unsaid, **document})


def _names(settings: Settings) -> str:
    if settings.weights_dir is None or not settings.weights_dir.is_dir():
        return ""
    return ", ".join(
        sorted(path.name for path in settings.weights_dir.iterdir() if weights_folder(settings, path.name))
    )
