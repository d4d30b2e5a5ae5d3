"""Which directories may be loaded as a generator: local, safetensors only, nothing that runs or unpickles."""

import json
from pathlib import Path
from typing import Any

REFUSED_SUFFIXES = frozenset(
    {".py", ".pyc", ".so", ".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".h5", ".msgpack"}
)
ALLOWED_CLASSES = frozenset({"UNet2DModel", "DDIMScheduler", "DDPMScheduler"})


class UnsafeDirectory(ValueError):  # noqa: N818 - named for what was found
    """The directory holds something that a generator directory must not hold."""


def check_files(directory: Path) -> Path:
    """Refuses what could run code or reach outside; returns the directory's real path.

    Raises UnsafeDirectory for code, pickles and links that leave the directory, FileNotFoundError when there is none.
    """
    root = directory.resolve(strict=True)
    for path in sorted(root.rglob("*")):
        if not path.resolve().is_relative_to(root):
            raise UnsafeDirectory(f"{path.relative_to(root)} is a link that leaves the directory")
        if path.suffix.lower() in REFUSED_SUFFIXES:
            raise UnsafeDirectory(f"{path.relative_to(root)}: only safetensors and json are loaded, not {path.suffix}")
    return root


def check_directory(directory: Path) -> dict[str, Any]:
    """Checks a diffusers directory's files and classes; returns the parsed `model_index.json`.

    Raises UnsafeDirectory for code, pickles, links that leave the directory and classes other than ours;
    FileNotFoundError when there is no `model_index.json`.
    """
    root = check_files(directory)
    index: dict[str, Any] = json.loads((root / "model_index.json").read_text())
    for part in ("unet", "scheduler"):
        named = index.get(part)
        if not (
            isinstance(named, list) and len(named) == 2 and named[0] == "diffusers" and named[1] in ALLOWED_CLASSES
        ):
            raise UnsafeDirectory(f"model_index.json: {part} is {named}, expected one of {sorted(ALLOWED_CLASSES)}")
    return index
