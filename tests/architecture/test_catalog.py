"""What the API offers by name is what models can build."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

from models.generators.families import FAMILIES
from models.generators.network import NetworkConfig
from models.generators.training import GeneratorTrainConfig
from models.heads.kinds import HEAD_KINDS
from models.registry import STUDENTS
from models.students.training import StudentTrainConfig
from service.generator_families import GENERATOR_FAMILIES
from service.job_spec import (
    QUARTER_RESOLUTION,
    Architecture,
    HeadKind,
    HeadSpec,
    NetworkSpec,
    StudentSpec,
    TrainGeneratorSpec,
)


def names(config: type) -> set[str]:
    return {field.name for field in fields(config)}


def test_every_student_on_offer_can_be_built() -> None:
    assert list(get_args(Architecture)) == list(STUDENTS)


def test_jobs_are_checked_against_what_the_families_of_generators_can_do() -> None:
    known = {name: (facts.can_sample, facts.can_encode) for name, facts in GENERATOR_FAMILIES.items()}
    assert known == {name: (family.can_sample, family.can_encode) for name, family in FAMILIES.items()}
    assert all(family.family == name for name, family in FAMILIES.items())


def test_every_number_a_user_may_pin_is_one_that_models_know() -> None:
    assert set(get_args(HeadKind)) == set(HEAD_KINDS)
    for kind, head in HEAD_KINDS.items():
        refused = {"tap_timestep"} if kind == "student" else set()
        assert set(HeadSpec.model_fields) - {"kind"} - refused <= names(head.config)
        assert {"members", "steps", "batch_size", "learning_rate", "seed"} <= names(head.config)
    assert set(StudentSpec.model_fields) - {"architecture", "first_stride", "mode"} <= names(StudentTrainConfig)
    assert set(NetworkSpec.model_fields) <= names(NetworkConfig)
    assert set(TrainGeneratorSpec.model_fields) - {"kind", "name", "image_pool_id", "network"} <= names(
        GeneratorTrainConfig
    )


def test_every_stride_on_offer_can_be_built() -> None:
    assert {name for name, student in STUDENTS.items() if student.strides == (4,)} == QUARTER_RESOLUTION
    assert all(student.strides == (1, 2, 4) for name, student in STUDENTS.items() if name not in QUARTER_RESOLUTION)
