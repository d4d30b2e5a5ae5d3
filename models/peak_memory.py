"""How much memory a piece of work needed at its peak."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

RESET_PEAK = "5"
"""Written to Linux' clear_refs: the peak of the resident set starts anew."""


class PeakMemory:
    """Peak memory from its making on: the accelerator's where there is one, else the resident set's; and that of
    processes which worked for this one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._noted = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)

    def note(self, num_bytes: int) -> None:
        """What others used for this one, all of them together on a processor, each on its own accelerator."""
        self._noted = max(self._noted, num_bytes)

    def num_bytes(self) -> int:
        """Bytes at the peak."""
        own = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else _resident_peak()
        return max(int(own), self._noted)


def _resident_peak() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
