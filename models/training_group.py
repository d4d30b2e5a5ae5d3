"""Several processes, one per accelerator, that train one objective together through accelerate.

Gradients are averaged, and every process learns from its own part of each batch. What a loss or a batch norm takes from
the batch as a whole is summed over all of them, so that the training is that of one process up to rounding wherever the
parts together are its batches (docs/decisions/0007).
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

PATIENCE = timedelta(days=1)
"""Followers wait while the leader looks at the generator. That a process died is noticed at once, by its connections."""


class Group(Protocol):
    """What training asks of those who train beside it."""

    rank: int
    """0 leads: it reports, looks and writes checkpoints."""
    count: int
    """Processes in all."""

    def learner(self, objective: nn.Module) -> nn.Module:
        """The objective, called through what averages the gradients of its backward pass."""

    def total(self, part: Tensor) -> Tensor:
        """The sum of everyone's parts, with gradients; all ask in the same order."""

    def agree(self, share: float, stopping: bool) -> tuple[float, bool]:
        """The leader's share of the budget and wish to stop, for everyone."""

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The mean of everyone's metrics."""


class Alone:
    """A process that trains by itself."""

    rank, count = 0, 1

    def learner(self, objective: nn.Module) -> nn.Module:
        """The objective itself."""
        return objective

    def total(self, part: Tensor) -> Tensor:
        """Its own part."""
        return part

    def agree(self, share: float, stopping: bool) -> tuple[float, bool]:
        """What it thinks itself."""
        return share, stopping

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Its own metrics."""
        return dict(metrics)


ALONE: Group = Alone()


class TrainingGroup:
    """One of `count` processes of this machine; all of them make theirs at the same time."""

    def __init__(self, rank: int, count: int, port: int) -> None:
        """Meets the others at a free port of this machine, which the one who starts them all has chosen."""
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
        waits = InitProcessGroupKwargs(timeout=PATIENCE)
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[waits])
        self._numbers = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        """Numbers travel beside the accelerators, which need not be waited for."""
        self.rank, self.count = rank, count

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        device: torch.device = self._accelerator.device
        return device if device.type == "cuda" else torch.device("cpu")  # not "cpu:0", which safetensors does not know

    def learner(self, objective: nn.Module) -> nn.Module:
        """The objective in torch's DistributedDataParallel, its batch norms with the statistics of the whole batch.

        One that leaves some weights without gradients says so by an attribute `partial`.
        """
        share_batch_norms(objective, self)
        partial = getattr(objective, "partial", False)
        self._accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=partial)
        prepared: nn.Module = self._accelerator.prepare_model(objective)
        return prepared

    def total(self, part: Tensor) -> Tensor:
        """The sum of everyone's parts, with gradients."""
        summed: Tensor = _Total.apply(part)
        return summed

    def agree(self, share: float, stopping: bool) -> tuple[float, bool]:
        """The leader's."""
        numbers = torch.tensor([share, float(stopping)], dtype=torch.float64)
        torch.distributed.broadcast(numbers, src=0, group=self._numbers)
        return float(numbers[0]), bool(numbers[1])

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Over all processes, which name the same metrics in the same order."""
        values = torch.tensor(list(metrics.values()), dtype=torch.float64)
        torch.distributed.all_reduce(values, group=self._numbers)
        return dict(zip(metrics, (values / self.count).tolist(), strict=True))


def rows_of(group: Group, batch_size: int) -> slice:
    """A process's equal part of every batch: every `count`-th row. Raises ValueError where there is none."""
    if batch_size % group.count:
        raise ValueError(f"{batch_size} images cannot be shared out evenly among {group.count} processes")
    return slice(group.rank, batch_size, group.count)


def own_seed(seed: int, group: Group) -> int:
    """A step's seed for this process: the leader's is the step's. Of a seed the processor's generator reads 32 bits, in
    which multiples of an odd number are all different."""
    return seed + group.rank * 0x9E3779B1


class _Total(torch.autograd.Function):
    """The sum over all processes; a part's gradient is the sum of all sums' gradients."""

    @staticmethod
    def forward(_context: Any, part: Tensor) -> Tensor:
        summed = part.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Any:
        return _Total.apply(gradient)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the parts of all processes, on processors as well as on accelerators (torch's own
    SyncBatchNorm knows accelerators alone). Parts are of one size."""

    group: Group

    def forward(self, value_BCHW: Tensor) -> Tensor:
        """What `nn.BatchNorm2d` gives for the whole batch, of this part of it."""
        if not self.training:
            return super().forward(value_BCHW)
        float_BCHW = value_BCHW.float()
        variance_C, mean_C = torch.var_mean(float_BCHW, dim=(0, 2, 3), correction=0)
        mean_C, square_C = self.group.total(torch.stack([mean_C, variance_C + mean_C.square()])) / self.group.count
        variance_C = (square_C - mean_C.square()).clamp_min(0)
        self._remember(mean_C, variance_C, value_BCHW.numel() // len(mean_C) * self.group.count)
        scale_C = self.weight * torch.rsqrt(variance_C + self.eps)
        shift_C = self.bias - mean_C * scale_C
        normalised_BCHW = torch.addcmul(shift_C[:, None, None], float_BCHW, scale_C[:, None, None])
        return normalised_BCHW.to(value_BCHW.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor, count: int) -> None:
        statistics: Any = self
        statistics.num_batches_tracked += 1
        statistics.running_mean.lerp_(mean_C, statistics.momentum)
        statistics.running_var.lerp_(variance_C * (count / max(1, count - 1)), statistics.momentum)


def share_batch_norms(module: nn.Module, group: Group) -> None:
    """Let every batch norm in it, weights and statistics kept, see what all processes see."""
    for norm in module.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = SharedBatchNorm2d
            norm.group = group
