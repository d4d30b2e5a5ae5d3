"""What memory there is, and what a generator needs of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.tables import Generator
from workers.memory import free_memory, host_memory, needed_memory, shortage

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n")
    return path


def container(parent: Path, limit: str) -> Path:
    folder = parent / "cgroup"
    folder.mkdir()
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("3000000\n")
    (folder / "memory.stat").write_text("anon 1000000\ninactive_file 1500000\n")
    return folder


def generator(num_parameters: int) -> Generator:
    return Generator(name="large", num_parameters=num_parameters, image_height=512, image_width=512)


def test_the_machine_gives_what_is_available(meminfo: Path, tmp_path: Path) -> None:
    assert host_memory(meminfo, tmp_path / "none") == 8_000 * 1024
    assert host_memory(meminfo, container(tmp_path, "max")) == 8_000 * 1024


def test_a_container_gives_no_more_than_its_limit(meminfo: Path, tmp_path: Path) -> None:
    assert host_memory(meminfo, container(tmp_path, "4000000")) == 4_000_000 - 3_000_000 + 1_500_000


def test_a_machine_that_does_not_say_has_what_it_was_built_with(tmp_path: Path) -> None:
    everything = host_memory(tmp_path / "no", tmp_path / "no")
    assert everything >= free_memory(CPU) > 0


def test_weights_and_an_image_on_its_way_are_counted() -> None:
    assert needed_memory(generator(1_000_000)) - needed_memory(generator(0)) == 4_000_000
    assert 2e9 < needed_memory(generator(0)) < 2.5e9


def test_what_does_not_fit_is_said_with_its_figures() -> None:
    large = generator(10_000_000_000)
    found = shortage(large, CPU, lambda _device: 8_000_000_000)
    assert found is not None
    assert found.kind == "generator-too-large"
    assert "10,000,000,000 weights and needs 42.15 GB" in found.message
    assert "8.00 GB are free on cpu" in found.message
    assert not found.retryable
    assert shortage(large, CPU, lambda _device: 43_000_000_000) is None


def test_the_accelerator_must_hold_it_as_well_as_the_machine() -> None:
    rooms = {"cpu": 50_000_000_000, "cuda": 24_000_000_000}
    found = shortage(generator(10_000_000_000), CUDA, lambda device: rooms[device.type])
    assert found is not None
    assert "free on cuda:0" in found.message
    assert shortage(generator(3_000_000_000), CUDA, lambda device: rooms[device.type]) is None
