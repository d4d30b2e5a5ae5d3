"""Whether a generator fits into the memory there is, asked before any of its weights is read."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from service.tables import Generator
from workers.problems import StepError

BYTES_PER_WEIGHT = 4
"""Weights are held as float32, whatever their file has."""
BYTES_PER_PIXEL = 8 * 1024
"""Of one image on its way: Stable Diffusion's autoencoder was measured to take 6 KB per pixel to decode one."""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")

FreeMemory = Callable[[torch.device], int]
"""Device -> bytes that can still be had there."""


def free_memory(device: torch.device) -> int:
    """Bytes free on the accelerator, or in the machine."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else host_memory()


def host_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes that the machine has to give, or its container where that allows less; where neither says, all there are."""
    rooms = [room for room in (_available(meminfo), _allowed(cgroup)) if room is not None]
    return min(rooms) if rooms else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_in_use(device: torch.device, meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> tuple[int, int]:
    """(Bytes taken by whomever, bytes in all) of the accelerator, or of the machine or the container it allows less."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total - free), int(total)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        total = min(total, int((cgroup / "memory.max").read_text()))
    return max(total - host_memory(meminfo, cgroup), 0), total


def needed_memory(generator: Generator) -> int:
    """Bytes for the weights, as the headers of their files count them, and for one image on its way."""
    pixels = (generator.image_height or 0) * (generator.image_width or 0)  # of an encoder of any size: its weights
    return (generator.num_parameters or 0) * BYTES_PER_WEIGHT + pixels * BYTES_PER_PIXEL


def shortage(generator: Generator, device: torch.device, free: FreeMemory) -> StepError | None:
    """Why the generator does not fit, or None; the machine holds the weights before the accelerator does."""
    needed = needed_memory(generator)
    for place in dict.fromkeys((torch.device("cpu"), device)):
        room = free(place)
        if needed > room:
            return StepError(
                "generator-too-large",
                f"The generator {generator.name} has {generator.num_parameters:,} weights and needs {_gigabytes(needed)} "
                f"of memory with one image; {_gigabytes(room)} are free on {place}.",
                "Use a smaller generator or a worker with more memory, then retry the job.",
            )
    return None


def _available(meminfo: Path) -> int | None:
    with suppress(OSError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _allowed(cgroup: Path) -> int | None:
    """Room below a container's limit; files it has read and could forget are no use of it."""
    with suppress(OSError, ValueError, KeyError):  # no limit reads "max"
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return limit - used + int(counts["inactive_file"])
    return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
