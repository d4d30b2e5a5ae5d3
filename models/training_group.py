"""Several processes, one per accelerator, that train one objective together through accelerate.

Every process draws the same batches and learns from its own rows of each; gradients are averaged. That is the training
of one process up to rounding wherever the loss is a mean over images and nothing else sees the batch as a whole, as with
denoising; Dice losses and batch norms do (docs/decisions/0007).
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import nn

PATIENCE = timedelta(days=1)
"""Followers wait while the leader looks at the generator. That a process died is noticed at once, by its connections."""


class Group(Protocol):
    """What the training loop asks of those who train beside it."""

    leads: bool
    """Whether this process reports, looks and writes checkpoints."""

    def rows(self, batch_size: int) -> slice:
        """This process's part of every batch."""

    def learner(self, objective: nn.Module) -> nn.Module:
        """The objective, called through what averages the gradients of its backward pass."""

    def agree(self, share: float, stopping: bool) -> tuple[float, bool]:
        """The leader's share of the budget and wish to stop, for everyone."""

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The mean of everyone's metrics."""


class Alone:
    """A process that trains by itself."""

    leads = True

    def rows(self, batch_size: int) -> slice:
        """The whole batch."""
        return slice(0, batch_size)

    def learner(self, objective: nn.Module) -> nn.Module:
        """The objective itself."""
        return objective

    def agree(self, share: float, stopping: bool) -> tuple[float, bool]:
        """What it thinks itself."""
        return share, stopping

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Its own metrics."""
        return dict(metrics)


class TrainingGroup:
    """One of `count` processes of this machine; all of them make theirs at the same time. Rank 0 leads."""

    def __init__(self, rank: int, count: int, port: int) -> None:
        """Meets the others at a free port of this machine, which the one who starts them all has chosen."""
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
        waits = InitProcessGroupKwargs(timeout=PATIENCE)
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[waits])
        self._numbers = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        """Numbers travel beside the accelerators, which need not be waited for."""
        self._rank, self._count = rank, count
        self.leads = rank == 0

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        device: torch.device = self._accelerator.device
        return device

    def rows(self, batch_size: int) -> slice:
        """An equal part of every batch. Raises ValueError where there is none."""
        if batch_size % self._count:
            raise ValueError(f"{batch_size} images cannot be shared out evenly among {self._count} processes")
        each = batch_size // self._count
        return slice(self._rank * each, (self._rank + 1) * each)

    def learner(self, objective: nn.Module) -> nn.Module:
        """The objective in torch's DistributedDataParallel."""
        prepared: nn.Module = self._accelerator.prepare_model(objective)
        return prepared

    def agree(self, share: float, stopping: bool) -> tuple[float, bool]:
        """The leader's."""
        numbers = torch.tensor([share, float(stopping)], dtype=torch.float64)
        torch.distributed.broadcast(numbers, src=0, group=self._numbers)
        return float(numbers[0]), bool(numbers[1])

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Over all processes, which name the same metrics in the same order."""
        values = torch.tensor(list(metrics.values()), dtype=torch.float64)
        torch.distributed.all_reduce(values, group=self._numbers)
        return dict(zip(metrics, (values / self._count).tolist(), strict=True))
