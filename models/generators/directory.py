"""Which directories may be loaded as a generator: local, safetensors only, nothing that runs or unpickles."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

REFUSED_SUFFIXES = frozenset(
    {".py", ".pyc", ".so", ".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".h5", ".msgpack"}
)
FACTS_FILE = "generator.json"
Facts = TypeVar("Facts", bound="DataclassInstance")

PartClasses = Mapping[str, frozenset[str]]
"""Part of a diffusers directory -> the classes it may be of, each as `library.Class`."""

# What matters of a scheduler is its noise schedule, which these share: all are read as DDIM.
SCHEDULERS = frozenset(
    {
        "diffusers.DDIMScheduler",
        "diffusers.DDPMScheduler",
        "diffusers.PNDMScheduler",
        "diffusers.LMSDiscreteScheduler",
        "diffusers.EulerDiscreteScheduler",
        "diffusers.EulerAncestralDiscreteScheduler",
        "diffusers.DPMSolverMultistepScheduler",
    }
)


class UnsafeDirectory(ValueError):  # noqa: N818 - named for what was found
    """The directory holds something that a generator directory must not hold."""


def check_files(directory: Path) -> Path:
    """Refuses what could run code or reach outside; returns the directory, resolved.

    Raises UnsafeDirectory for code, pickles and links that leave the directory; FileNotFoundError when there is none.
    """
    root = directory.resolve(strict=True)
    for path in sorted(root.rglob("*")):
        if not path.resolve().is_relative_to(root):
            raise UnsafeDirectory(f"{path.relative_to(root)} is a link that leaves the directory")
        if path.suffix.lower() in REFUSED_SUFFIXES:
            raise UnsafeDirectory(f"{path.relative_to(root)}: only safetensors and json are loaded, not {path.suffix}")
    return root


def check_directory(directory: Path, parts: PartClasses) -> dict[str, Any]:
    """`check_files`, and every part of a diffusers directory is of a class we know; returns `model_index.json`.

    Parts that the family does not name are never opened. Raises UnsafeDirectory, also for classes other than ours;
    FileNotFoundError when there is no `model_index.json`.
    """
    root = check_files(directory)
    index: dict[str, Any] = json.loads((root / "model_index.json").read_text())
    for part, known in parts.items():
        named = index.get(part)
        if not (isinstance(named, list) and all(isinstance(word, str) for word in named) and ".".join(named) in known):
            raise UnsafeDirectory(f"model_index.json: {part} is {named}, expected one of {sorted(known)}")
    return index


def read_facts(directory: Path, facts_class: type[Facts], **defaults: Any) -> Facts:
    """`generator.json` as a family's facts; `family`, and `card`, which is for people, are left aside.

    Raises FileNotFoundError when it is missing, ValueError for values of the wrong kind and for unknown keys: a misspelt
    one would be ignored.
    """
    said: dict[str, Any] = json.loads((directory / FACTS_FILE).read_text())
    said = {key: value for key, value in said.items() if key not in ("family", "card")}
    known = sorted(field.name for field in fields(facts_class))
    if unknown := sorted(set(said) - set(known)):
        raise ValueError(f"{FACTS_FILE}: {unknown} are not known, only {known}; notes belong in card")
    try:
        return TypeAdapter(facts_class).validate_json(json.dumps({**defaults, **said}), strict=True)
    except ValidationError as error:
        faults = "; ".join(f"{_place(fault['loc'])}{fault['msg']}" for fault in error.errors())
        raise ValueError(f"{FACTS_FILE}: {faults}") from None


def _place(parts: Sequence[int | str]) -> str:
    return f"{'.'.join(str(part) for part in parts)}: " if parts else ""


def write_facts(directory: Path, family: str, facts: Mapping[str, Any]) -> None:
    """Writes `generator.json`."""
    (directory / FACTS_FILE).write_text(json.dumps({"family": family, **facts}, indent=1) + "\n")
