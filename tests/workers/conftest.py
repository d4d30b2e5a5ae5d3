"""Small budgets: real networks, one core, seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.heads.fusion_training import FusionTrainConfig
from tests import tiny
from workers import fit_head


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """Tiny networks are slower on several cores, and other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _quick_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps instead of hundreds."""
    config = FusionTrainConfig(steps=2, tap_timestep=50, members=2, width=16)
    real = fit_head.head_config
    monkeypatch.setattr(fit_head, "head_config", lambda spec: config if spec.head.kind == "fusion" else real(spec))


@pytest.fixture(scope="session")
def generators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's folder with the tiny generator; this is the generator's directory."""
    return tiny.generator_folder(tmp_path_factory.mktemp("generators"))
