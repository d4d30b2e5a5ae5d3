"""Where a step computes, how it gives way when memory runs out, and what it used."""

import gc
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

from service.settings import Settings

Result = TypeVar("Result")

RESET_PEAK = "5"
"""Written to Linux' clear_refs: the peak of the resident set starts anew."""
OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


MAX_BATCH = {"cpu": 16, "cuda": 64}
BATCH_PIXELS = {"cpu": 16 * 128 * 128, "cuda": 64 * 256 * 256}
"""Pixels of a batch that is labelled or evaluated: larger images come in smaller batches."""


def choose_device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def training_processes(settings: Settings) -> int:
    """Processes that may train one thing together: as many as the operator says, or one for each accelerator seen."""
    return settings.training_processes or max(1, torch.cuda.device_count())


def limit_threads(threads: int | None) -> None:
    """Let torch use this many cores; None = all of them."""
    if threads is not None:
        torch.set_num_threads(threads)


def inference_batch(device: torch.device, height: int, width: int) -> int:
    """Images of a size that are labelled or evaluated at once; the same on every machine of a kind."""
    return max(1, min(MAX_BATCH[device.type], BATCH_PIXELS[device.type] // (height * width)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the allocator of the processor or the accelerator had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS)


def give_memory_back() -> None:
    """Drop what nothing refers to and return the accelerator's cached blocks."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halving(batch_size: int, run: Callable[[int], Result]) -> Result:
    """`run(batch_size)`; after each out-of-memory the batch is halved, until even one image does not fit."""
    while True:
        try:
            return run(batch_size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or batch_size <= 1:
                raise
        # Outside the handler: the traceback held the frames, and they the tensors.
        give_memory_back()
        batch_size //= 2


class PeakMemory:
    """Peak memory from its making on: the accelerator's where there is one, else the resident set's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)

    def num_bytes(self) -> int:
        """Bytes at the peak."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _resident_peak()


def _resident_peak() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
