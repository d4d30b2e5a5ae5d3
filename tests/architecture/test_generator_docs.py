"""The page for operators says what the code reads."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from models.encoders.image_encoder import EncoderFacts
from models.generators.dit import ClassFacts
from models.generators.families import FAMILIES
from models.generators.latent_diffusion import PromptFacts
from models.generators.stylegan2 import StyleFacts
from models.generators.unet_diffusion import GeneratorFacts
from service.generators import CARD_FILE

PAGE = (Path(__file__).parents[2] / "docs" / "generators.md").read_text()
EXAMPLES: list[dict[str, Any]] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
FACTS: dict[str, type] = {
    "unet_diffusion": GeneratorFacts,
    "latent_diffusion": PromptFacts,
    "dit": ClassFacts,
    "stylegan2": StyleFacts,
    "encoder": EncoderFacts,
}


def test_every_family_has_an_example() -> None:
    assert [example["family"] for example in EXAMPLES] == list(FACTS)
    assert set(FACTS) == set(FAMILIES)
    assert f"## {CARD_FILE}" in PAGE


@pytest.mark.parametrize("example", EXAMPLES, ids=list(FACTS))
def test_the_example_has_keys_that_are_read(example: dict[str, Any]) -> None:
    known = fields(FACTS[example["family"]])
    assert set(example) - {"family", "card"} <= {field.name for field in known}
    needed = {field.name for field in known if field.default is MISSING and field.default_factory is MISSING}
    assert needed - {"tap_names"} <= set(example)


def test_the_table_says_what_the_families_can_do() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (yes|no) \|", PAGE, re.MULTILINE)
    said = {name: (draws == "yes", encodes == "yes") for name, draws, encodes in rows}
    assert said == {name: (family.can_sample, family.can_encode) for name, family in FAMILIES.items()}
