"""The operator's weights that a student of this step starts from."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from service.spec_parts import StudentSpec
from service.student_weights import WEIGHTS_FILE, weights_folder
from workers.context import StepContext
from workers.problems import StepError


@dataclass(frozen=True)
class StartingWeights:
    """A folder of weights, and what cards say of it."""

    name: str
    """What users call it."""
    folder: Path
    """Where it lies on this machine."""

    @cached_property
    def origin(self) -> dict[str, str]:
        """`{name, sha256}` of the weights."""
        with (self.folder / WEIGHTS_FILE).open("rb") as file:
            return {"name": self.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def starting_weights(context: StepContext, student: StudentSpec) -> StartingWeights | None:
    """What the student's backbone starts from; None: afresh. Raises StepError where this machine lacks the folder."""
    if student.weights is None:
        return None
    folder = weights_folder(context.factory.settings, student.weights)
    if folder is None:
        raise StepError(
            "no-weights",
            f"This worker has no weights {student.weights}.",
            "Give every worker the folder of LABEL_FACTORY_WEIGHTS_DIR that the API has, then retry the job.",
        )
    return StartingWeights(student.weights, folder)
