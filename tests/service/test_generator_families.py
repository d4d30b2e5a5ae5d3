"""What a family of generators allows a job to ask."""

from __future__ import annotations

import pytest

from service import generator_families
from service.generator_families import GENERATOR_FAMILIES, GeneratorFamily, label_faults


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families beside ours, so that this test does not depend on which ship."""
    both = {
        "painter": GeneratorFamily("Painter", can_encode=False),
        "reader": GeneratorFamily("Reader", can_sample=False),
    }
    monkeypatch.setattr(generator_families, "GENERATOR_FAMILIES", GENERATOR_FAMILIES | both)


@pytest.mark.parametrize(
    ("family", "pools", "places"),
    [
        ("unet_diffusion", ["synthesized", "encoded"], []),
        ("reader", ["encoded"], []),
        ("reader", ["synthesized", "encoded"], ["pools"]),
        ("painter", ["synthesized"], ["generator"]),
        ("painter", ["synthesized", "encoded"], ["pools", "generator"]),
    ],
)
def test_a_job_asks_only_for_what_the_family_can_do(
    families: None, family: str, pools: list[str], places: list[str]
) -> None:
    found = label_faults("mine", family, pools)
    assert [fault["place"] for fault in found] == places
    assert all("mine" in fault["message"] for fault in found)


def test_beside_an_encoder_a_painter_draws_and_real_images_are_read(families: None) -> None:
    assert label_faults("mine", "painter", ["synthesized", "encoded"], encoder=True) == []
    assert [fault["place"] for fault in label_faults("mine", "reader", ["synthesized"], encoder=True)] == ["pools"]
