"""The parts of a diffusers directory, each a folder: read one by one by classes that we name, never by those it names.

Weights come as safetensors from the local folder; nothing is looked for elsewhere.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import nn


def load_network(root: Path, part: str, network_class: Any) -> Any:
    """A diffusers or transformers network in float32, frozen. Raises OSError for missing files."""
    network = network_class.from_pretrained(
        root / part, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    return network.eval().requires_grad_(False)


def load_tokenizer(root: Path, part: str, tokenizer_class: Any) -> Any:
    """A tokenizer of transformers. Raises OSError for missing files."""
    return tokenizer_class.from_pretrained(root / part, local_files_only=True)


def load_latent_scheduler(root: Path) -> DDIMScheduler:
    """The noise schedule of a latent pipeline as DDIM; latents know no range to be clipped to."""
    return DDIMScheduler.from_pretrained(
        root / "scheduler", local_files_only=True, clip_sample=False, thresholding=False
    )


def save_parts(root: Path, pipeline: str, parts: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Writes every part (networks in float16) and the `model_index.json` that diffusers' class `pipeline` reads."""
    index: dict[str, Any] = {"_class_name": pipeline, **options}
    for name, part in parts.items():
        saved = copy.deepcopy(part).half() if isinstance(part, nn.Module) else part
        saved.save_pretrained(root / name)
        index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    (root / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
