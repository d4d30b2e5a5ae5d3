"""The one loop: it learns, it stops, and it resumes to the same weights."""

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from models.contracts import Stopped
from models.training import CURVE_POINTS, FitConfig, fit, thinned

CPU = torch.device("cpu")


class Line(nn.Module):
    """Fits y = 3x through a layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layers(x) - 3 * x).square().mean()}


def draw(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(8, 1, generator=generator)


def test_it_learns_and_reports() -> None:
    seen: list[tuple[int, int]] = []
    result = fit(
        Line(),
        draw,
        FitConfig(steps=200, learning_rate=1e-2),
        device=CPU,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert result.steps == 200
    assert result.curves["loss"][-1] < result.curves["loss"][0] / 4
    assert seen[-1] == (200, 200)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    config = FitConfig(steps=40, learning_rate=1e-2)
    whole, parts = Line(), Line()
    fit(whole, draw, config, device=CPU)
    polls = iter([False] * 17 + [True])
    path = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        fit(parts, draw, config, device=CPU, stop=lambda: next(polls), checkpoint_path=path)
    resumed = Line()
    result = fit(resumed, draw, config, device=CPU, checkpoint_path=path)
    assert result.steps == 40
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name


def test_the_next_batch_is_made_meanwhile_and_from_its_own_generator() -> None:
    threads: set[int] = set()
    drawn: list[torch.Tensor] = []

    def watched(generator: torch.Generator) -> torch.Tensor:
        threads.add(threading.get_ident())
        drawn.append(draw(generator))
        return drawn[-1]

    fit(Line(), watched, FitConfig(steps=3, seed=5), device=CPU)
    assert threads.isdisjoint({threading.get_ident()})
    expected = [draw(torch.Generator().manual_seed(5 * 1_000_003 + step)) for step in range(3)]
    assert torch.equal(torch.stack(drawn), torch.stack(expected))  # and none beyond the last step


def test_the_network_learns_while_the_next_batch_is_made() -> None:
    class Waiting(Line):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            assert second_begun.wait(timeout=20)
            return super().forward(x)

    second_begun = threading.Event()
    begun = 0

    def signalling(generator: torch.Generator) -> torch.Tensor:
        nonlocal begun
        begun += 1
        if begun == 2:
            second_begun.set()
        return draw(generator)

    assert fit(Waiting(), signalling, FitConfig(steps=2), device=CPU).steps == 2


def test_a_batch_that_cannot_be_made_ends_the_run() -> None:
    def broken(generator: torch.Generator) -> torch.Tensor:
        raise MemoryError("no room for a batch")

    with pytest.raises(MemoryError, match="no room"):
        fit(Line(), broken, FitConfig(steps=3), device=CPU)


def test_a_budget_of_seconds_ends() -> None:
    result = fit(Line(), draw, FitConfig(steps=None, seconds=0.3), device=CPU)
    assert result.steps > 1
    assert 0.3 <= result.seconds < 3


@pytest.mark.parametrize("budget", [{"steps": None}, {"steps": 5, "seconds": 1.0}, {"steps": -1}])
def test_a_budget_is_one_of_steps_and_seconds(budget: dict[str, float | None]) -> None:
    with pytest.raises(ValueError, match="steps"):
        FitConfig(**budget)  # type: ignore[arg-type]


def test_long_curves_are_thinned_alike_and_keep_their_end() -> None:
    curves = thinned({"step": [float(i) for i in range(1001)], "loss": [-float(i) for i in range(1001)], "few": [1.0]})
    assert len(curves["step"]) <= CURVE_POINTS
    assert curves["step"][-1] == 1000
    assert curves["loss"] == [-value for value in curves["step"]]
    assert curves["few"] == [1.0]
