"""Giving way when memory runs out."""

from __future__ import annotations

import pytest
import torch

from models.peak_memory import PeakMemory
from workers.device import halving, is_out_of_memory


def test_the_batch_is_halved_until_it_fits() -> None:
    tried: list[int] = []

    def run(size: int) -> str:
        tried.append(size)
        if size > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return f"done with {size}"

    assert halving(16, run) == "done with 2"
    assert tried == [16, 8, 4, 2]


def test_one_image_that_does_not_fit_is_a_failure() -> None:
    def run(size: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        halving(4, run)


def test_other_errors_are_not_hidden() -> None:
    tried: list[int] = []

    def run(size: int) -> None:
        tried.append(size)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        halving(8, run)
    assert tried == [8]


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"))
    assert not is_out_of_memory(RuntimeError("expected 4 channels"))


def test_the_peak_is_of_this_step_alone() -> None:
    torch.ones(60_000_000).sum()
    memory = PeakMemory(torch.device("cpu"))
    before = memory.num_bytes()
    block = torch.ones(50_000_000)
    assert memory.num_bytes() - before > 150_000_000
    memory.note(before + 10**12)
    assert memory.num_bytes() == before + 10**12, "others worked for this one"
    del block
