"""Small budgets: real networks, one core, seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.heads.fusion_training import FusionTrainConfig
from service.job_spec import LabelSpec
from tests import tiny
from workers import fit_head
from workers.artifacts import AnnotatedSet


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
    real = fit_head.head_config

    def quick(spec: LabelSpec, few: AnnotatedSet) -> Any:
        config = real(spec, few)
        if not isinstance(config, FusionTrainConfig):
            return config
        return replace(config, steps=2, tap_timestep=50, members=2, width=16)

    monkeypatch.setattr(fit_head, "head_config", quick)


@pytest.fixture(scope="session")
def generators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's folder with the tiny generator; this is the generator's directory."""
    return tiny.generator_folder(tmp_path_factory.mktemp("generators"))
