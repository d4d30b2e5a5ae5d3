"""What the API offers by name is what models can build."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import get_args

from models.generators import pool
from models.generators.diffusion import DiffusionGenerator
from models.generators.families import FAMILIES
from models.generators.network import NetworkConfig
from models.generators.training import GeneratorTrainConfig
from models.heads.kinds import HEAD_KINDS
from models.registry import STUDENTS
from models.students import detector
from models.students.training import StudentTrainConfig
from models.students.weights import UnfitWeights, fitting_stride
from service import job_checks
from service.generator_families import GENERATOR_FAMILIES
from service.job_spec import TrainGeneratorSpec
from service.settings import Settings
from service.spec_parts import (
    DETECTOR_SIDE,
    DETECTORS,
    FIXED_STRIDES,
    INSTANCE_NETWORKS,
    Architecture,
    HeadKind,
    HeadSpec,
    NetworkSpec,
    StudentSpec,
)
from service.student_weights import BACKBONES, UNSAID, weights_faults


def names(config: type) -> set[str]:
    return {field.name for field in fields(config)}


def test_every_student_on_offer_can_be_built() -> None:
    assert list(get_args(Architecture)) == list(STUDENTS)
    assert {name for name, student in STUDENTS.items() if student.task != "semantic"} == INSTANCE_NETWORKS
    assert {name for name, student in STUDENTS.items() if student.task == "detection"} == DETECTORS
    assert DETECTOR_SIDE == detector.SIDE


def test_jobs_are_checked_against_what_the_families_of_generators_can_do() -> None:
    known = {name: (facts.can_sample, facts.can_encode) for name, facts in GENERATOR_FAMILIES.items()}
    assert known == {name: (family.can_sample, family.can_encode) for name, family in FAMILIES.items()}
    assert all(family.family == name for name, family in FAMILIES.items())


def test_every_number_a_user_may_pin_is_one_that_models_know() -> None:
    assert set(get_args(HeadKind)) == set(HEAD_KINDS)
    for kind, head in HEAD_KINDS.items():
        refused = {"tap_timestep", "tap_blocks"} if kind == "student" else set()
        assert set(HeadSpec.model_fields) - {"kind"} - refused <= names(head.config)
        assert {"members", "steps", "batch_size", "learning_rate", "seed"} <= names(head.config)
    assert set(StudentSpec.model_fields) - {"architecture", "first_stride", "weights", "mode"} <= names(
        StudentTrainConfig
    )
    assert set(NetworkSpec.model_fields) <= names(NetworkConfig)
    elsewhere = {"kind", "name", "image_pool_id", "base_generator", "network"}
    assert set(TrainGeneratorSpec.model_fields) - elsewhere <= names(GeneratorTrainConfig)


def test_jobs_know_which_families_can_be_trained_and_how_many_images_that_needs() -> None:
    trainable = {name for name, family in FAMILIES.items() if issubclass(family, DiffusionGenerator)}
    assert {name for name, facts in GENERATOR_FAMILIES.items() if facts.can_train} == trainable
    assert job_checks.SMALLEST_POOL == pool.SMALLEST_POOL


def test_every_stride_on_offer_can_be_built() -> None:
    assert {
        name: student.strides[0] for name, student in STUDENTS.items() if len(student.strides) == 1
    } == FIXED_STRIDES
    assert all(student.strides == (1, 2, 4) for name, student in STUDENTS.items() if name not in FIXED_STRIDES)


def test_a_job_knows_which_weights_an_architecture_takes_as_models_do(tmp_path: Path) -> None:
    settings = Settings(weights_dir=tmp_path)
    for name, student in STUDENTS.items():
        config = student.configure({0: "any"}, 4)
        getattr(config, "backbone_config", config).save_pretrained(tmp_path / name)
        (tmp_path / name / "model.safetensors").touch()
    for wanted in STUDENTS:
        for offered in STUDENTS:
            accepted = not weights_faults(settings, wanted, offered)
            same = {wanted, offered} in (
                {"upernet_swin_tiny", "mask2former_swin_tiny"},
                {"upernet_textnet", "rtdetr_nano"},
                {wanted},
            )
            assert accepted == _fits(wanted, tmp_path / offered) == same


def _fits(wanted: str, folder: Path) -> bool:
    try:
        return fitting_stride(STUDENTS[wanted], folder) == STUDENTS[wanted].strides[-1]
    except UnfitWeights:
        return False


def test_the_sizes_that_weights_leave_unsaid_are_the_defaults_of_transformers() -> None:
    for name in UNSAID:
        config = STUDENTS[name].configure({0: "any"}, 4)
        plain = type(getattr(config, "backbone_config", config))()
        found = {key: json.loads(json.dumps(getattr(plain, key))) for key in BACKBONES[name].sizes}
        assert found == BACKBONES[name].sizes
