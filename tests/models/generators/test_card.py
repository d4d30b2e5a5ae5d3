"""The card of a trained generator."""

from typing import Any

from models.generators.card import render_card, trend

LOOKS = {
    "look_step": [150.0, 500.0, 1000.0, 1500.0, 2000.0],
    "train_loss": [0.5, 0.3, 0.2, 0.2, 0.2],
    "holdout_loss": [0.5, 0.3, 0.2, 0.2, 0.2],
    "kernel_distance": [40.0, 20.0, 10.0, 6.0, 5.0],
    "nearest_ratio": [0.8, 0.9, 1.0, 1.0, 1.0],
    "copied_share": [0.0, 0.0, 0.0, 0.0, 0.03],
}


def facts(**training: Any) -> dict[str, Any]:
    return {"family": "unet_diffusion", "image_size": [3, 16, 16], "training": {"steps": 2000, **training}}


def test_the_card_tells_whether_longer_training_helps() -> None:
    assert "kernel distance 10.00 around half of the training, 5.50 at its end" in trend(LOOKS)
    assert "may help" in trend(LOOKS)
    assert "not likely to help" in trend({**LOOKS, "kernel_distance": [40.0, 6.0, 5.0, 6.0, 4.0]})
    assert trend({"look_step": [150.0, 1000.0], "kernel_distance": [2.0, 1.0]}) == ""
    assert trend({}) == ""


def test_the_card_has_the_looks_as_a_table() -> None:
    card = render_card("tissue", facts(looks=LOOKS, outlook=trend(LOOKS)))
    assert "| 150 | 0.5 | 0.5 | 40 | 0.8 | 0 |" in card
    assert "longer training may help" in card


def test_a_card_without_held_out_images_says_so() -> None:
    card = render_card("tissue", facts(looks={"look_step": [150.0]}, warnings=["Beware."]))
    assert "No images were held out" in card
    assert "- Warning: Beware." in card
    assert "While it trained" not in card
