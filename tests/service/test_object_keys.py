"""Every kind of key can be read back, is of one kind only, and has a rule that says when it may go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import object_keys
from service.ids import new_id
from service.object_keys import KINDS, STORE_MARKER, parse
from service.references import RULES
from service.tables import Base

SPELLERS: dict[str, Callable[..., str]] = {
    name: function
    for name, function in inspect.getmembers(object_keys, inspect.isfunction)
    if function.__module__ == object_keys.__name__ and inspect.signature(function).return_annotation == "str"
    if name not in {"step_prefix", "download_name"}  # a folder, and what a download is called: no keys
}
NUMBERS = st.integers(0, 2**40)
NAMES = st.text("abcXYZ0189._-", min_size=1, max_size=30).filter(lambda text: text.strip("."))
PARAMETERS: dict[str, Any] = {
    "index": NUMBERS,
    "token": NUMBERS,
    "sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
    "name": NAMES,
    "export_format": st.sampled_from(["coco", "semantic_png"]),
}


def spelled(data: st.DataObject, speller: str) -> tuple[str, str]:
    """A key of this kind and its owner's id, for any arguments."""
    owner = new_id("step")
    if speller == "annotation_index":
        return object_keys.annotation_index(object_keys.annotation_set(owner, data.draw(PARAMETERS["sha256"]))), owner
    if speller == "generator_archive":
        return object_keys.generator_archive(object_keys.generator_prefix(owner, data.draw(NUMBERS))), owner
    first, *others = inspect.signature(SPELLERS[speller]).parameters
    assert first.endswith("_id")
    key = SPELLERS[speller](owner, *(data.draw(PARAMETERS[name]) for name in others))
    return (key + "unet/model.safetensors" if key.endswith("/") else key), owner


def test_every_function_that_spells_a_key_has_a_kind_and_every_kind_a_rule() -> None:
    assert {*SPELLERS, "store_marker"} == set(KINDS) == set(RULES)


@pytest.mark.parametrize("speller", sorted(SPELLERS))
@given(data=st.data())
def test_every_key_is_read_back_as_what_it_is(speller: str, data: st.DataObject) -> None:
    key, owner = spelled(data, speller)
    found = parse(key)
    assert found is not None
    assert (found.key, found.kind, found.owner_id) == (key, speller, owner)
    assert [kind for kind, pattern in object_keys._PATTERNS.items() if pattern.fullmatch(key)] == [speller]


@given(st.text(max_size=60))
def test_what_nothing_here_spells_is_of_no_kind(text: str) -> None:
    for key in (text, f"somebody/{text}", f"steps/{text}\n", f"backup/pools/{text}"):
        assert parse(key) is None or key in (text, STORE_MARKER)


def test_every_column_that_names_an_object_is_one_that_the_rules_know() -> None:
    columns = {f"{table.name}.{column.name}" for table in Base.metadata.tables.values() for column in table.columns}
    named = {column for column in columns if "key" in column.partition(".")[2]}
    of_callers = {column for column in named if column.endswith(".api_key_id")}
    assert named - of_callers == {
        "annotation_sets.key",
        "dataset_exports.key",
        "dataset_shards.key",
        "datasets.manifest_key",
        "generators.key_prefix",
        "jobs.idempotency_key",  # of a request, not of an object
        "pool_parts.key",
        "steps.checkpoint_key",
        "students.archive_key",
    }


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("datasets/ds_x/exports/coco-7.zip", "ds_x-coco.zip"),
        ("datasets/ds_x/exports/semantic_png-12.zip", "ds_x-semantic_png.zip"),
        ("datasets/ds_x/manifest.json", "ds_x-manifest.json"),
        ("datasets/ds_x/shards/00012-7.tar", "00012.tar"),
        ("students/stu_x/3/student.zip", "stu_x.zip"),
        ("students/stu_x/3/model.safetensors", "model.safetensors"),
        ("generators/gen_x/abc.zip", "gen_x.zip"),
        ("steps/step_x/2-sheet.png", "2-sheet.png"),
        ("somebody/else.bin", "else.bin"),
    ],
)
def test_a_download_is_called_after_what_it_is(key: str, name: str) -> None:
    assert object_keys.download_name(key) == name
