"""The page that sums up the benchmark says what the packs' records say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "docs/results"
COLUMNS = ("few", "self_training", "encoder_head", "encoder", "ensemble")
LINE = re.compile(
    r"^\| \[(?P<pack>[a-z-]+)\]\([a-z-]+/README\.md\) \| (?P<labels>\d+) \| (?P<cells>.*) \|$", re.MULTILINE
)
TABLE = [
    (line["pack"], int(line["labels"]), line["cells"]) for line in LINE.finditer((RESULTS / "README.md").read_text())
]


@pytest.mark.parametrize(("pack", "labels", "cells"), TABLE)
def test_the_sum_of_the_results_is_theirs(pack: str, labels: int, cells: str) -> None:
    rows = {
        (row["row"], row["labels"]): row for row in json.loads((RESULTS / pack / "results.json").read_text())["rows"]
    }
    assert [cell.strip() for cell in cells.split("|")] == [said(rows.get((column, labels))) for column in COLUMNS]


def test_every_pack_of_the_table_is_there_with_both_numbers_of_labels() -> None:
    packs = {folder.parent.name for folder in RESULTS.glob("*/results.json")} - {"tissue-short"}
    assert {(pack, labels) for pack, labels, _ in TABLE} == {(pack, labels) for pack in packs for labels in (5, 10)}


def said(row: dict[str, Any] | None) -> str:
    """`.670 ± .007 *2.8*`; the labels alone have no multiplier, and nothing was measured where there is no row.

    Two seeds are named, `(2)`; one has no deviation.
    """
    if row is None:
        return ""
    deviation = "" if row["miou_sd"] is None else f" ± {row['miou_sd']:.3f}"
    seeds = " (2)" if len(row["seeds"]) == 2 else ""
    score = re.sub(r"\b0\.", ".", f"{row['miou_mean']:.3f}{deviation}") + seeds
    return score if row["row"] == "few" else f"{score} *{row['label_multiplier']}*"
