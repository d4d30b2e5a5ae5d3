"""The one training loop: cosine schedule, averaged weights, resumable at any step.

An objective is a module that owns the network it trains and answers `forward(batch) -> {"loss": tensor, ...parts}`.
`batches(generator)` makes the batch of a step from that step's own random generator, so a run that was
interrupted and resumed sees the same batches as one that was not. The next step's batch is made in another thread while
the network learns from this one's.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from models.contracts import Progress, Stop, Stopped
from models.precision import mixed_precision
from models.training_group import ALONE, Group, own_seed

Batches = Callable[[torch.Generator], Any]
"""`batches(generator)` draws one batch, in a thread of its own; all randomness is from the generator, which is the step's."""

Observe = Callable[[int, Callable[[], AbstractContextManager[None]]], Mapping[str, float]]
"""`observe(step, averaged)`: called at every report; inside `with averaged():` the objective holds its averaged
weights. The metrics it answers join the report."""
CURVE_POINTS = 400
"""Points of a curve that is kept in a card."""


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train. Exactly one of `steps` and `seconds` is the budget."""

    steps: int | None = 400
    """Optimiser steps; deterministic."""
    seconds: float | None = None
    """Wall-clock budget instead of steps; depends on the machine."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_share: float = 0.08
    """Share of the budget over which the learning rate rises from zero."""
    final_share: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    ema_decay: float = 0.99
    """Decay of the averaged weights that are the result; 0 = the last weights."""
    gradient_clip: float = 1.0
    seed: int = 0
    report_every: int = 10
    """Steps between progress reports and curve points."""
    checkpoint_seconds: float = 15.0
    """Seconds between checkpoints."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("Give exactly one of steps and seconds as the budget.")
        if self.steps is not None and self.steps < 0:
            raise ValueError("steps must not be negative.")


@dataclass
class FitResult:
    """What a finished run leaves beside the trained weights (which are in the objective, averaged)."""

    steps: int
    seconds: float
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Metric name -> one value per report; `step` is among them."""


def thinned(curves: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Every n-th value of curves longer than CURVE_POINTS and always the last, so that a card stays readable."""
    kept = {}
    for name, values in curves.items():
        stride = -(-len(values) // CURVE_POINTS) or 1
        kept[name] = values[::-stride][::-1]
    return kept


def fit(
    objective: nn.Module,
    batches: Batches,
    config: FitConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
    observe: Observe | None = None,
    group: Group = ALONE,
) -> FitResult:
    """Train the objective's parameters in place and leave the averaged weights in it.

    A file at `checkpoint_path` is continued from; it is written every few seconds and when `stop` answers true, which
    ends the run with `Stopped`. In a group every process calls this with the same budget and its own part of the batches;
    the leader's alone stops, observes, reports and writes.
    """
    run = _Run(objective.to(device).train(), config)
    if checkpoint_path is not None and checkpoint_path.exists():
        run.load(checkpoint_path, device)
    learner, leads = group.learner(run.objective), group.rank == 0
    saved_at = time.monotonic()
    with torch.random.fork_rng(devices=[]), _BatchesAhead(batches, config) as ahead:
        while True:
            share, stopping = group.agree(run.share(), leads and stop is not None and stop())
            if share >= 1.0:
                break
            if stopping:
                if checkpoint_path is not None and leads:
                    run.save(checkpoint_path)
                raise Stopped
            parts = _step(run, learner, ahead, device, share, group)
            metrics = run.report(parts, group, observe)
            if not leads:
                continue
            if checkpoint_path is not None and time.monotonic() - saved_at > config.checkpoint_seconds:
                run.save(checkpoint_path)
                saved_at = time.monotonic()
            # After the checkpoint: who sends it away when told of progress sends the newest.
            if progress is not None and metrics is not None:
                progress(run.step, run.total(), metrics)
    run.finish()
    return FitResult(steps=run.step, seconds=run.elapsed(), curves=run.curves)


def _step(
    run: "_Run", learner: nn.Module, batches: "_BatchesAhead", device: torch.device, share: float, group: Group
) -> dict[str, torch.Tensor]:
    config = run.config
    batch = batches.take(run.step)
    torch.manual_seed(own_seed(_step_seed(config, run.step), group))  # each process drops out others
    for parameters in run.optimizer.param_groups:
        parameters["lr"] = config.learning_rate * schedule(share, config)
    with mixed_precision(device):
        parts: dict[str, torch.Tensor] = learner(batch)
    run.optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()
    if config.gradient_clip > 0:
        nn.utils.clip_grad_norm_(run.parameters, config.gradient_clip)
    run.optimizer.step()
    run.average()
    run.step += 1
    return parts


def _step_seed(config: FitConfig, step: int) -> int:
    return config.seed * 1_000_003 + step


class _BatchesAhead:
    """The batch of a step, while that of the next is in the making; what goes wrong there is raised by `take`."""

    def __init__(self, batches: Batches, config: FitConfig) -> None:
        self._batches, self._config = batches, config
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def take(self, step: int) -> Any:
        """The batch of this step; steps are asked for one after another."""
        batch = (self._next or self._begin(step)).result()
        last = self._config.steps is not None and step + 1 >= self._config.steps
        self._next = None if last else self._begin(step + 1)
        return batch

    def _begin(self, step: int) -> Future[Any]:
        generator = torch.Generator().manual_seed(_step_seed(self._config, step))
        return self._thread.submit(self._batches, generator)


def schedule(share: float, config: FitConfig) -> float:
    """Learning-rate factor in (0, 1] at a share of the budget in [0, 1): linear warm-up, then cosine."""
    if share < config.warmup_share:
        return (share + 1e-3) / (config.warmup_share + 1e-3)
    rest = (share - config.warmup_share) / max(1e-9, 1.0 - config.warmup_share)
    return config.final_share + (1.0 - config.final_share) * 0.5 * (
        1.0 + float(torch.cos(torch.tensor(rest * torch.pi)))
    )


class _Run:
    """The mutable state of a run and its safetensors checkpoint."""

    def __init__(self, objective: nn.Module, config: FitConfig) -> None:
        self.objective, self.config = objective, config
        named = {name: value for name, value in objective.named_parameters() if value.requires_grad}
        self.names, self.parameters = list(named), list(named.values())
        decayed = [value for value in self.parameters if value.ndim > 1]
        plain = [value for value in self.parameters if value.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=config.betas,
        )
        self.averaged = {name: value.detach().clone() for name, value in self._live().items()}
        self.step = 0
        self.curves: dict[str, list[float]] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._summed = 0
        self._before = 0.0
        self._started = time.monotonic()

    def _live(self) -> dict[str, torch.Tensor]:
        """Trained parameters and floating buffers (running statistics) by name."""
        buffers = {name: value for name, value in self.objective.named_buffers() if value.is_floating_point()}
        return dict(zip(self.names, self.parameters, strict=True)) | buffers

    def _state(self) -> dict[str, torch.Tensor]:
        """What is averaged, and counters."""
        return self._live() | dict(self.objective.named_buffers())

    def elapsed(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self._before + time.monotonic() - self._started

    def share(self) -> float:
        """Share of the budget that is spent."""
        if self.config.steps is not None:
            return self.step / self.config.steps if self.config.steps else 1.0
        return self.elapsed() / max(1e-9, self.config.seconds or 0.0)

    def average(self) -> None:
        decay = min(self.config.ema_decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            live = self._live()
            torch._foreach_lerp_(
                list(self.averaged.values()), [live[name].detach() for name in self.averaged], 1.0 - decay
            )

    def finish(self) -> None:
        if self.config.ema_decay > 0 and self.step > 0:
            self._put(self.averaged)
        self.objective.eval()

    @contextmanager
    def with_averaged(self) -> Iterator[None]:
        """Puts the averaged weights into the objective, and the live ones back afterwards."""
        live = {name: value.detach().clone() for name, value in self._live().items()}
        self._put(self.averaged)
        self.objective.eval()
        try:
            yield
        finally:
            self._put(live)
            self.objective.train()

    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._live().items():
                value.copy_(weights[name])

    def total(self) -> int:
        """Steps in all, as far as one can tell."""
        return self.config.steps or max(self.step, int(self.step / max(1e-6, self.share())))

    def report(self, parts: dict[str, torch.Tensor], group: Group, observe: Observe | None) -> dict[str, float] | None:
        """Sums the parts on their device and fetches their means only every `report_every` steps; None between."""
        for name, value in parts.items():
            self._sums[name] = self._sums[name] + value.detach() if name in self._sums else value.detach()
        self._summed += 1
        if self.step % self.config.report_every:
            return None
        metrics = group.mean({name: float(value) / self._summed for name, value in self._sums.items()})
        self._sums, self._summed = {}, 0
        if observe is not None and group.rank == 0:
            metrics |= observe(self.step, self.with_averaged)
        for name, value in {"step": float(self.step), **metrics}.items():
            self.curves.setdefault(name, []).append(value)
        return metrics

    def save(self, path: Path) -> None:
        tensors = {f"live/{name}": value.detach().cpu().contiguous() for name, value in self._state().items()}
        tensors |= {f"averaged/{name}": value.cpu().contiguous() for name, value in self.averaged.items()}
        for name, value in zip(self.names, self.parameters, strict=True):
            for key, state in self.optimizer.state.get(value, {}).items():
                packed = torch.as_tensor(state).detach().cpu().clone(memory_format=torch.contiguous_format)
                tensors[f"optimizer/{key}/{name}"] = packed
        tensors |= {f"curve/{name}": torch.tensor(values, dtype=torch.float64) for name, values in self.curves.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"step": str(self.step), "seconds": str(self.elapsed())})
        partial.replace(path)

    def load(self, path: Path, device: torch.device) -> None:
        with safe_open(path, "pt", device=str(device)) as file:
            self.step, self._before = int(file.metadata()["step"]), float(file.metadata()["seconds"])
            keys = set(file.keys())
            with torch.no_grad():
                for name, value in self._state().items():
                    value.copy_(file.get_tensor(f"live/{name}"))
                for name, value in self.averaged.items():
                    value.copy_(file.get_tensor(f"averaged/{name}"))
            for name, value in zip(self.names, self.parameters, strict=True):
                found = {key: f"optimizer/{key}/{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
                if found["step"] in keys:
                    state = {key: file.get_tensor(full) for key, full in found.items()}
                    self.optimizer.state[value] = {**state, "step": state["step"].cpu()}
            self.curves = {
                key.split("/", 1)[1]: file.get_tensor(key).tolist() for key in keys if key.startswith("curve/")
            }
        self._started = time.monotonic()
