"""The operator's folder of weights: what is on offer, and what keeps a student from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.student_weights import weights_faults, weights_folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "weights").mkdir()
    return Settings(data_dir=tmp_path / "data", weights_dir=tmp_path / "weights")


def offer(settings: Settings, name: str, config: Any) -> None:
    assert settings.weights_dir is not None
    folder = settings.weights_dir / name
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")


def why(settings: Settings, architecture: str, name: str | None) -> str | None:
    found = weights_faults(settings, architecture, name)
    assert all(item["place"] == "student.weights" for item in found)
    return found[0]["message"] if found else None


def test_weights_that_fit_have_no_fault(settings: Settings) -> None:
    offer(settings, "mit-b1", {"model_type": "segformer", "hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2]})
    assert why(settings, "segformer_b1", "mit-b1") is None
    assert why(settings, "segformer_b1", None) is None
    assert why(settings, "segformer_b2", "mit-b1") == (
        "The weights mit-b1 have depths [2, 2, 2, 2], segformer_b2 has [3, 4, 6, 3]."
    )
    assert why(settings, "upernet_swin_tiny", "mit-b1") == (
        "The weights mit-b1 are of a segformer; upernet_swin_tiny has a swin."
    )


def test_sizes_that_are_left_out_are_the_defaults_of_transformers(settings: Settings) -> None:
    offer(settings, "swin", {"model_type": "swin"})
    assert why(settings, "upernet_swin_tiny", "swin") is None
    assert why(settings, "upernet_swin_small", "swin") is not None


def test_the_backbone_inside_an_upernet_counts(settings: Settings) -> None:
    offer(settings, "net", {"model_type": "upernet", "backbone_config": {"model_type": "swin", "embed_dim": 128}})
    message = why(settings, "upernet_swin_base", "net")
    assert message is not None
    assert "depths" in message
    assert "embed_dim" not in message


def test_names_that_are_not_there_are_refused_with_those_that_are(settings: Settings) -> None:
    assert why(settings, "segformer_b0", "nothing") == "There are no weights nothing here; there are: none."
    offer(settings, "b", {"model_type": "swin"})
    offer(settings, "a", {"model_type": "swin"})
    assert settings.weights_dir is not None
    (settings.weights_dir / "not-weights").mkdir()
    assert why(settings, "segformer_b0", "nothing") == "There are no weights nothing here; there are: a, b."
    assert weights_folder(settings, "not-weights") is None
    nowhere = settings.model_copy(update={"weights_dir": None})
    assert why(nowhere, "segformer_b0", "a") == "There are no weights a here; there are: none."


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"model_type": "upernet", "backbone_config": null}', '"text"'])
def test_a_configuration_that_cannot_be_read_is_a_fault(settings: Settings, config: str) -> None:
    offer(settings, "broken", config)
    assert why(settings, "segformer_b0", "broken") == "The weights broken have a config.json that cannot be read."
