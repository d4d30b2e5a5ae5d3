from __future__ import annotations

import time

import hotcoco.mask
import numpy as np
import pycocotools.mask
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.formats import rle
from service.formats.problems import FileProblem

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.integers(0, 6))


@given(masks)
def test_a_mask_survives_and_is_what_the_reference_writes(mask: np.ndarray) -> None:
    counts = rle.counts_from_mask(mask)
    text = rle.compress(counts)
    reference = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert text == reference["counts"] == hotcoco.mask.encode(mask)["counts"]
    again = rle.counts_from_string(text, *mask.shape)
    assert np.array_equal(again, counts)
    assert np.array_equal(rle.mask_from_counts(again, *mask.shape), mask)
    assert np.array_equal(rle.counts_from_list(counts.tolist(), *mask.shape), counts)
    assert rle.bbox(counts, mask.shape[0]) == tuple(pycocotools.mask.toBbox(reference))


@given(label_maps)
def test_one_pass_over_a_label_map_finds_what_one_mask_at_a_time_finds(label: np.ndarray) -> None:
    regions = rle.encode_regions(label, skip=(0,))
    assert [r.key for r in regions] == sorted(set(label.ravel().tolist()) - {0})
    for region in regions:
        reference = pycocotools.mask.encode(np.asfortranarray((label == region.key).astype(np.uint8)))
        assert region.counts == reference["counts"]
        assert region.area == pycocotools.mask.area(reference)
        assert region.bbox == tuple(pycocotools.mask.toBbox(reference))


def test_long_runs_take_several_characters() -> None:
    label = np.zeros((3000, 2000), np.uint8)
    label[:, 900:] = 1
    label[5, 5] = 1
    (region,) = rle.encode_regions(label, skip=(0,))
    assert region.counts == pycocotools.mask.encode(np.asfortranarray(label))["counts"]
    assert np.array_equal(rle.mask_from_counts(rle.counts_from_string(region.counts, 3000, 2000), 3000, 2000), label)


@given(st.binary(max_size=200) | st.text(max_size=50), st.integers(1, 20), st.integers(1, 20))
def test_arbitrary_text_is_a_mask_or_a_problem(text: bytes | str, height: int, width: int) -> None:
    try:
        counts = rle.counts_from_string(text, height, width)
    except FileProblem:
        return
    assert counts.min() >= 0
    assert counts.sum() == height * width


@example([-(2**63) - 1])
@given(st.lists(st.integers(-5, 200) | st.floats() | st.booleans() | st.integers(), max_size=12))
def test_arbitrary_lists_are_a_mask_or_a_problem(values: list[object]) -> None:
    try:
        counts = rle.counts_from_list(values, 8, 8)
    except FileProblem:
        return
    assert counts.sum() == 64


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5O5O5O", "negative"),
        ("", "empty"),
        ("\x00", "character"),
        ("é", "character"),
        ("P", "middle"),
        ("1", "covers"),
    ],
)
def test_lies_are_named(text: str, says: str) -> None:
    with pytest.raises(FileProblem, match=says):
        rle.counts_from_string(text, 20, 20)


def test_ten_million_runs_are_refused_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(FileProblem, match="runs"):
        rle.counts_from_list([1] * 10_000_000, 64, 64)
    assert time.perf_counter() - start < 1


@settings(max_examples=20)
@given(st.lists(masks, min_size=1, max_size=5))
def test_many_masks_compress_as_one_by_one(many: list[np.ndarray]) -> None:
    counts = [rle.counts_from_mask(mask) for mask in many]
    bounds = np.concatenate([[0], np.cumsum([len(c) for c in counts])])
    assert rle.compress_many(np.concatenate(counts), bounds) == [rle.compress(c) for c in counts]
