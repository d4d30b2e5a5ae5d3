"""The operator's directories that packages bring weights for: a frozen encoder, and what students may start from."""

import subprocess
import sys
from pathlib import Path

from cli.output import notices

ENCODER = "efficientnet_lite0"
"""The network whose ImageNet weights come with a package; the name under which the service registers it."""
IMAGENET_WEIGHTS = "efficientnet-lite0"
"""The same weights as what a student starts from: their name in the service."""
IMAGENET_STUDENT = "upernet_efficientnet_lite0"
"""The student whose backbone they fit."""


def make_encoder(folder: Path) -> str | None:
    """Make the encoder in the folder of generators and return its name; None where its package is not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ENCODER / "generator.json").exists():
        options = ["--network", ENCODER]
        if not _made("workers.make_encoder", folder / ENCODER, *options, without="a frozen encoder"):
            return None
    return ENCODER


def make_weights(folder: Path) -> str | None:
    """Make the ImageNet weights of students in this folder and return their name; None where there are none."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / IMAGENET_WEIGHTS
    if (made / "preprocessor_config.json").exists() or _made(
        "workers.make_weights", made, without="students from ImageNet weights"
    ):
        return IMAGENET_WEIGHTS
    return None


def _made(module: str, out_dir: Path, *options: str, without: str) -> bool:
    """Whether an operator's command could make its directory; if not, the reason is printed."""
    command = [sys.executable, "-m", module, str(out_dir), *options]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        notices.print(f"without {without}: {answer.stderr.strip().rpartition(chr(10))[2]}", markup=False)
    return answer.returncode == 0
