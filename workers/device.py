"""Where a step computes, and how it gives way when memory runs out."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from service.settings import Settings

Result = TypeVar("Result")

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
