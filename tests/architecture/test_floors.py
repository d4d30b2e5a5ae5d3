"""No version with a known hole that reaches us: pins and requirements against the releases that closed it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]

FLOORS = {
    "torch": ("2.10", "CVE-2025-32434, CVE-2026-24747: weights_only loading runs code, corrupts memory"),
    "transformers": ("5.3", "CVE-2026-4372, CVE-2026-5241, CVE-2026-1839: a configuration runs code"),
    "diffusers": ("0.38.1", "CVE-2026-44513, CVE-2026-45804: a pipeline directory runs code"),
    "safetensors": ("0.8", "headers that overlap, leave holes or trail bytes are refused"),
    "pillow": ("12.3", "CVE-2026-40192, CVE-2026-54059, CVE-2026-55379, CVE-2026-55380: bombs pass the size check"),
    "python-multipart": (
        "0.0.30",
        "CVE-2026-24486, CVE-2026-40347, CVE-2026-42561: names that climb out, endless forms",
    ),
    "starlette": ("1.3.1", "CVE-2026-54283, PYSEC-2026-161: form limits ignored, the Host header believed"),
}
"""Package -> the first release without the hole, and which hole."""


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(name): Version(version)
        for name, _, version in (line.partition("==") for line in lines if "==" in line)
    }


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for group in project["optional-dependencies"].values() for text in group)]
    return [Requirement(text) for text in texts if not text.startswith("label-factory[")]


@pytest.mark.parametrize("name", FLOORS)
def test_pins_are_at_or_above_the_floor(name: str) -> None:
    floor, reason = FLOORS[name]
    assert pins()[name] >= Version(floor), reason


def test_requirements_admit_nothing_below_the_floor() -> None:
    """Whoever installs without the pins must not get the hole either."""
    for requirement in requirements():
        if (floor := FLOORS.get(canonicalize_name(requirement.name))) is not None:
            least = min(Version(part.version) for part in requirement.specifier if part.operator in (">=", "=="))
            assert least >= Version(floor[0]), floor[1]


def test_every_requirement_is_pinned_and_allowed_by_its_own_range() -> None:
    known = pins()
    for requirement in requirements():
        pinned = known[canonicalize_name(requirement.name)]
        assert pinned in requirement.specifier, f"{requirement} does not admit {pinned}"


def test_the_table_of_floors_is_in_the_security_page() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    for name, (floor, reason) in FLOORS.items():
        row = rf"^\| {re.escape(name)} \| {re.escape(floor)} \| {re.escape(reason)} \|$"
        assert re.search(row, page, re.MULTILINE), name
