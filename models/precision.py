"""In which precision a device computes fastest."""

from typing import Any

import torch


def mixed_precision(device: torch.device) -> Any:
    """Autocast to bfloat16 where the device has instructions for it, else a context that does nothing.

    Weights, losses and optimiser stay float32. A processor without AVX512-BF16 emulates bfloat16, slower than float32.
    """
    if device.type == "cpu":
        enabled = bool(torch.cpu._is_avx512_bf16_supported())
    elif device.type == "cuda":
        enabled = torch.cuda.is_bf16_supported()
    else:
        enabled = False
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
