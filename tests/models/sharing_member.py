"""One process that trains a student on known batches, alone or in a group: `python -m tests.models.sharing_member FOLDER RANK`."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.group_processes import Asker, take_part
from models.students.build import build_student
from models.students.tasks import label_objective
from models.training import FitConfig, fit
from models.training_group import Group, TrainingGroup, rows_of
from tests.models.tiny import STUFF

BATCH = 8
TRAINED = "trained.safetensors"


class Float32(nn.Module):
    """An objective without mixed precision, whose rounding would hide small differences."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        with torch.autocast("cpu", enabled=False):
            losses: dict[str, Tensor] = self.objective(batch)
        return losses


def batches(rows: slice) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    """Of random batches these rows; images differ in how many of their pixels are labelled, and with what."""

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        image_BCHW = torch.rand(BATCH, 3, 32, 32, generator=generator) * 2 - 1
        rare_BHW = torch.rand(BATCH, 32, 32, generator=generator) < torch.linspace(0, 0.5, BATCH)[:, None, None]
        image_BCHW += 0.5 * rare_BHW[:, None] * torch.tensor([1.0, -1.0, 0.5])[:, None, None]
        labelled_BHW = torch.rand(BATCH, 32, 32, generator=generator) < torch.linspace(0.1, 1, BATCH)[:, None, None]
        target_BCHW = torch.stack([~rare_BHW, rare_BHW], dim=1).float() * labelled_BHW[:, None]
        return image_BCHW[rows], target_BCHW[rows]

    return draw


def trained(architecture: str, steps: int, group: Group) -> tuple[dict[str, Tensor], list[float]]:
    """The student's weights and statistics after so many steps, and the losses on the way."""
    student = build_student(architecture, STUFF, (32, 32))
    result = fit(
        Float32(label_objective(student, STUFF, dice_weight=1.0, group=group)),
        batches(rows_of(group, BATCH)),
        FitConfig(steps=steps, report_every=1, ema_decay=0.5),
        device=torch.device("cpu"),
        group=group,
    )
    return {name: value.contiguous() for name, value in student.state_dict().items()}, result.curves.get("loss", [])


def member(folder: Path, group: TrainingGroup, asker: Asker) -> None:
    """What each process of a group does."""
    architecture, steps = (folder / "what").read_text().split()
    weights, losses = trained(architecture, int(steps), group)
    if group.rank == 0:
        save_file(weights, folder / TRAINED)
        asker.done(losses)


if __name__ == "__main__":
    take_part(member, {})
