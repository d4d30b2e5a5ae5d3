"""The card of a trained generator in a few rows."""

from __future__ import annotations

from typing import Any

from api.dashboard.trained_generator import trained_rows

TRAINING: dict[str, Any] = {
    "steps": 1200,
    "batch_size": 8,
    "seconds": 240.0,
    "seed": 0,
    "train_images": 199,
    "holdout_images": 11,
    "symmetry": {"horizontal": True, "vertical": False, "diagonal": False},
    "network": {"block_out_channels": [48, 80], "patch_size": 2},
    "train_loss": 0.2,
    "holdout_loss": 0.3,
    "outlook": "Longer training may help.",
    "warnings": ["It begins to learn its pool by heart."],
    "quality": {
        "kernel_distance": 5.0,
        "kernel_distance_of_real": 0.25,
        "nearest_median": 0.2,
        "nearest_median_of_real": 0.21,
        "copied_share": 0.03125,
        "copied_share_of_real": 0.0,
    },
}
CARD: dict[str, Any] = {"pool": {"id": "pool_1", "name": "blood"}, "training": TRAINING}


def test_what_it_learned_from_how_near_it_comes_and_what_to_do() -> None:
    rows = dict(trained_rows(CARD))
    assert rows["Learned from"] == "blood: 199 images"
    assert rows["Mirrors used"] == "horizontal"
    assert rows["Distance to held-out images"] == "5.000 (real images: 0.250)"
    assert rows["Copies among samples"] == "3.1 % (real images: 0 %)"
    assert rows["Longer training"] == "Longer training may help."
    assert rows["Warning"] == "It begins to learn its pool by heart."


def test_a_base_is_linked_and_its_name_does_no_harm() -> None:
    base = {"id": "gen_1", "name": "<b>painter</b>", "digest": "0123456789abcdef"}
    rows = dict(trained_rows({**CARD, "training": {**TRAINING, "base": base, "lora_rank": 4, "network": None}}))
    assert rows["Began with"] == '<a href="/generators/gen_1">&lt;b&gt;painter&lt;/b&gt;</a> (0123456789ab)'
    assert rows["Learned"] == "adapters of rank 4, merged"
    assert rows["Network"] is None


def test_cards_from_elsewhere_and_older_ones_have_what_they_have() -> None:
    assert trained_rows({"licence": "CC0"}) == []
    assert trained_rows({"training": {"steps": 3}}) == []
    rows = dict(trained_rows({"pool": {"name": "p"}, "training": {"steps": 3, "quality": None}}))
    assert "Distance to held-out images" not in rows
