"""Each of the 62 bad inputs has a test that carries its number, and a row in docs/security.md that names its test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
NUMBERS = range(1, 63)
TEST = re.compile(r"^(?:async )?def (test_input_(\d\d)_\w+)", re.MULTILINE)


def numbered_tests() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name, number in TEST.findall(path.read_text()):
            found.setdefault(int(number), set()).add(name)
    return found


def rows() -> dict[int, str]:
    page = (ROOT / "docs" / "security.md").read_text()
    return {int(number): row for number, row in re.findall(r"^\| (\d+) (\|.*\|)$", page, re.MULTILINE)}


def test_the_table_has_every_number() -> None:
    assert list(rows()) == list(NUMBERS)


def test_every_row_names_its_tests_and_every_test_stands_in_its_row() -> None:
    known = numbered_tests()
    for number, row in rows().items():
        named = set(re.findall(r"`(test_input_\w+)`", row))
        assert named == known.get(number), f"input {number}"
