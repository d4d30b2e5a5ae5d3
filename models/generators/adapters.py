"""Low-rank adapters: of a large denoiser only small matrices beside its attention learn (Hu et al. 2021, "LoRA").

Trained, they are added into the weights they stood beside, so that the generator is a directory like any other. Needs the
extra `lora` (peft).
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Projections of diffusers' attention, to whose ends names are matched."""
RATE = 1e-4
"""Learning rate of adapters: they begin at zero and bear more than whole weights do."""


class AdaptersMissing(RuntimeError):  # noqa: N818 - named for what is missing
    """peft is not installed."""


@contextmanager
def adapted(denoiser: nn.Module, rank: int | None, *, seed: int = 0) -> Iterator[None]:
    """Inside, only adapters of this rank have gradients; on leaving well they are merged. None: all weights have gradients.

    When an exception leaves, the adapters stay: such a denoiser is of no further use. Raises AdaptersMissing without
    peft, ValueError for a denoiser without attention.
    """
    denoiser.requires_grad_(rank is None)
    if rank is not None:
        _add(denoiser, rank, seed)
    yield
    if rank is not None:
        _merge(denoiser)
    denoiser.requires_grad_(False)


def _add(denoiser: nn.Module, rank: int, seed: int) -> None:
    if find_spec("peft") is None:
        raise AdaptersMissing("low-rank adapters need peft: pip install 'label-factory[lora]' where the worker runs")
    if not any(name.endswith(ATTENTION) for name, _ in denoiser.named_modules()):
        raise ValueError("this denoiser has no attention that adapters could stand beside")
    peft: Any = importlib.import_module("peft")
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ATTENTION), init_lora_weights="gaussian")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, denoiser)


def _merge(denoiser: nn.Module) -> None:
    """Adds every adapter into the layer it stands beside, and puts that layer back in its place."""
    for parent in list(denoiser.modules()):
        for name, child in list(parent.named_children()):
            layer: Any = child
            if hasattr(layer, "lora_A"):
                layer.merge(safe_merge=True)
                setattr(parent, name, layer.get_base_layer())
