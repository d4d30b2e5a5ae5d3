"""The device that a worker started here would compute on."""

from __future__ import annotations

import pytest
import torch

from workers import doctor


def test_a_device_that_computes_is_told_with_its_memory() -> None:
    finding = doctor.device()
    assert finding.ok
    assert "GB free" in finding.found
    assert torch.__version__ in finding.found


def test_a_device_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> torch.device:
        raise RuntimeError("CUDA driver version is insufficient\nand more")

    monkeypatch.setattr(doctor, "choose_device", broken)
    finding = doctor.device()
    assert not finding.ok
    assert finding.found == "CUDA driver version is insufficient"
    assert "nvidia-smi" in finding.what_to_do
