"""The job spec refuses what is unknown, unbounded or of another type."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import UnreadableSpec
from service.job_spec import dump, parse

LABEL: dict[str, Any] = {"kind": "label", "annotation_set_id": "ann_1", "generator": "g"}
TRAIN: dict[str, Any] = {"kind": "train_generator", "name": "n", "image_pool_id": "pool_1"}

TRAIN_STUDENT: dict[str, Any] = {"kind": "train_student", "annotation_set_id": "ann_1"}

DISTILL: dict[str, Any] = {"kind": "distill", "dataset_id": "ds_1"}
EVALUATE: dict[str, Any] = {"kind": "evaluate", "evaluation_set_id": "ann_1", "student_id": "stu_1"}

FEATURE: dict[str, Any] = {**LABEL, "student": {"mode": "feature", "finetune_steps": 5}}
HARD: dict[str, Any] = {**LABEL, "student": {"labels": "hard", "example_share": 0.0}}
PIXELS: dict[str, Any] = {
    **LABEL,
    "head": {"kind": "pixel_mlp", "members": 10, "tap_timestep": 50, "tap_blocks": ["up1.2"]},
}
STUDENTS: dict[str, Any] = {
    "kind": "label",
    "annotation_set_id": "ann_1",
    "image_pool_id": "pool_1",
    "pools": ["encoded"],
    "head": {"kind": "student", "members": 3},
}
MIX: dict[str, Any] = {**LABEL, "student": {"mode": "mix", "feature_weight": 0.5, "temperature": 4.0}}


@pytest.mark.parametrize(
    "document",
    [
        *(LABEL, TRAIN, TRAIN_STUDENT, DISTILL, EVALUATE),
        *({**LABEL, "filter": {"drop_share": 0}}, FEATURE, MIX, HARD, PIXELS, STUDENTS),
    ],
)
def test_a_spec_survives_its_stored_form(document: dict[str, Any]) -> None:
    spec = parse(document)
    assert parse(dump(spec)) == spec


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "dream"},
        {**LABEL, "colour": "red"},
        {**LABEL, "num_images": True},
        {**LABEL, "num_images": "5"},
        {**LABEL, "num_images": 5.0},
        {**LABEL, "num_images": 0},
        {**LABEL, "num_images": 2**63},
        {**LABEL, "seed": -1},
        {**LABEL, "seed": 2**31},
        {**LABEL, "pools": []},
        {**LABEL, "pools": ["synthesized", "synthesized"]},
        {**LABEL, "pools": ["encoded"]},
        {**LABEL, "name": ""},
        {**LABEL, "name": "a\nb"},
        {**TRAIN, "base_generator": "painter", "network": {"attention": False}},
        {**TRAIN, "lora_rank": 4},
        {**TRAIN, "base_generator": "painter", "lora_rank": 0},
        {**TRAIN, "network": {"patch_size": 3}},
        {**TRAIN, "network": {"block_out_channels": [12]}},
        {**LABEL, "filter": {"drop_share": float("nan")}},
        {**LABEL, "filter": {"drop_share": 1.0}},
        {**LABEL, "student": {"architecture": "../../etc/passwd"}},
        {**LABEL, "student": {"steps": 10, "seconds": 10.0}},
        {**LABEL, "student": {"temperature": float("inf")}},
        {**LABEL, "student": {"mode": "dream"}},
        {**LABEL, "student": {"weights": "../elsewhere"}},
        {**LABEL, "student": {"architecture": "mask2former_nano", "mode": "mix"}},
        {**LABEL, "student": {"architecture": "mask2former_nano", "temperature": 4.0}},
        {**STUDENTS, "student": {"architecture": "mask2former_nano"}},
        {**LABEL, "student": {"architecture": "rtdetr_nano", "mode": "mix"}},
        {**STUDENTS, "student": {"architecture": "rtdetr_nano"}},
        {**LABEL, "student": {"architecture": "rtdetr_resnet_18", "first_stride": 2}},
        {**LABEL, "student": {"architecture": "upernet_efficientnet_lite0", "first_stride": 4}},
        {**LABEL, "student": {"weights": "net", "first_stride": 2}},
        {**LABEL, "student": {"architecture": "upernet_resnet_50", "first_stride": 2}},
        {**LABEL, "student": {"mode": "label", "feature_weight": 1.0}},
        {**LABEL, "student": {"mode": "feature", "feature_weight": 1.0}},
        {**LABEL, "student": {"mode": "feature", "finetune_steps": 0}},
        {**LABEL, "student": {"mode": "feature", "temperature": 4.0}},
        {**LABEL, "student": {"mode": "mix", "feature_weight": -1.0}},
        {**LABEL, "student": {"mode": "feature", "labels": "hard"}},
        {**LABEL, "student": {"mode": "feature", "example_share": 0.5}},
        {**LABEL, "student": {"labels": "crisp"}},
        {**LABEL, "student": {"example_share": 1.1}},
        {**LABEL, "generator": None},
        {**LABEL, "head": {"kind": "pixel_mlp"}, "generator": None},
        {**LABEL, "head": {"kind": "oracle"}},
        {**STUDENTS, "generator": "g"},
        {**STUDENTS, "pools": ["synthesized"]},
        {**STUDENTS, "pools": ["encoded", "synthesized"]},
        {**STUDENTS, "head": {"kind": "student", "tap_timestep": 50}},
        {**STUDENTS, "head": {"kind": "student", "tap_blocks": ["up1.2"]}},
        {**LABEL, "head": {"tap_blocks": []}},
        {**LABEL, "head": {"tap_blocks": ["up1.2\n"]}},
        {**LABEL, "head": {"tap_blocks": "up1.2"}},
        {**STUDENTS, "student": {"mode": "mix"}},
        {**STUDENTS, "student": {"mode": "feature"}},
        {**LABEL, "head": {"members": 10**9}},
        {**LABEL, "head": None},
        {**TRAIN, "name": "../x"},
        {**TRAIN, "name": "a" * 101},
        {**TRAIN, "steps": 10, "minutes": 1.0},
        {**TRAIN, "network": {"block_out_channels": []}},
        {**TRAIN, "network": {"block_out_channels": [32] * 9}},
        {**TRAIN, "holdout_share": 0.6},
        {**TRAIN, "ema_decay": 1.0},
        {**TRAIN_STUDENT, "generator": "g"},
        {**TRAIN_STUDENT, "annotation_set_id": None},
        {**DISTILL, "dataset_id": 5},
        {**DISTILL, "pools": []},
        {**DISTILL, "pools": ["encoded", "encoded"]},
        {**DISTILL, "pools": ["drawn"]},
        {**DISTILL, "num_images": 5},
        {**EVALUATE, "dataset_id": "ds_1"},
        {**EVALUATE, "student_id": None},
        {**EVALUATE, "seed": 0},
        {**EVALUATE, "evaluation_set_id": None},
    ],
)
def test_bad_specs_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(UnreadableSpec):
        parse(document)


@pytest.mark.parametrize(
    "pinned",
    [
        {"mode": "mix"},
        {"temperature": 4.0},
        {"labels": "hard"},
        {"example_share": 0.0},
        {"mode": "mix", "feature_weight": 2.0},
    ],
)
def test_nothing_is_distilled_from_the_few_labels_alone(pinned: dict[str, Any]) -> None:
    with pytest.raises(UnreadableSpec, match=f"leave out student's .*{min(pinned)}"):
        parse({**TRAIN_STUDENT, "student": pinned})


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UnreadableSpec, match="'label', 'train_generator'"):
        parse({"kind": "dream"})
