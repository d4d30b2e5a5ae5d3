"""The one loop: it learns, it stops, and it resumes to the same weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.contracts import Stopped
from models.training import FitConfig, fit

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


def test_a_budget_of_seconds_ends() -> None:
    result = fit(Line(), draw, FitConfig(steps=None, seconds=0.3), device=CPU)
    assert result.steps > 1
    assert 0.3 <= result.seconds < 3


@pytest.mark.parametrize("budget", [{"steps": None}, {"steps": 5, "seconds": 1.0}, {"steps": -1}])
def test_a_budget_is_one_of_steps_and_seconds(budget: dict[str, float | None]) -> None:
    with pytest.raises(ValueError, match="steps"):
        FitConfig(**budget)  # type: ignore[arg-type]
