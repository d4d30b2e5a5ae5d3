from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from service.formats import soft_labels
from service.formats.soft_labels import SoftLabelError


def smooth_probabilities(classes: int, side: int = 64, scale: float = 6.0) -> np.ndarray:
    """What an ensemble gives: regions with soft borders."""
    random = np.random.default_rng(classes)
    logits = np.stack([gaussian_filter(random.normal(size=(side, side)), 3) for _ in range(classes)])
    logits *= scale / logits.std()
    shares = np.exp(logits - logits.max(axis=0))
    return (shares / shares.sum(axis=0)).astype(np.float32)


def softened(probabilities: np.ndarray, temperature: float = 4.0) -> np.ndarray:
    root = probabilities ** (1 / temperature)
    return root / root.sum(axis=0)


@pytest.mark.parametrize("classes", [2, 5, 9, 24])
def test_all_classes_come_back_closely_at_both_temperatures(classes: int) -> None:
    before = smooth_probabilities(classes)
    data = soft_labels.encode(before)
    after = soft_labels.decode(data)
    assert soft_labels.shape(data) == before.shape == after.shape
    assert after.dtype == np.float32
    assert np.abs(after.sum(axis=0) - 1).max() < 1e-5
    assert np.abs(after - before).max() < 0.02
    assert np.abs(softened(after) - softened(before)).max() < 0.045
    assert (after.argmax(axis=0) == before.argmax(axis=0)).mean() > 0.99
    assert len(data) <= before[0].size * classes + 32


def test_many_classes_keep_the_likeliest() -> None:
    before = smooth_probabilities(60)
    data = soft_labels.encode(before)
    after = soft_labels.decode(data)
    assert len(data) < before[0].size * 18
    assert np.abs(after.sum(axis=0) - 1).max() < 1e-5
    assert np.abs(after - before).max() < 0.06
    assert (after.argmax(axis=0) == before.argmax(axis=0)).mean() > 0.99


def test_certain_labels_are_exact_and_tiny() -> None:
    hard = (np.arange(5)[:, None, None] == (np.indices((64, 64))[0] // 16)[None]).astype(np.float32)
    data = soft_labels.encode(hard)
    assert np.array_equal(soft_labels.decode(data), hard)
    assert len(data) < 64 * 64 // 8


@pytest.mark.parametrize("classes", [5, 60])
@pytest.mark.parametrize(("version", "deflated"), [(1, True), (1, False), (2, True)])
def test_older_versions_are_read_as_before(classes: int, version: int, deflated: bool) -> None:
    """As shards of older services have it: roots in 255 steps, in version 1 the planes themselves."""
    probabilities = smooth_probabilities(classes)
    if classes <= soft_labels.ALL:
        k, planes = 0, soft_labels.quantise(probabilities, 255)
        expected = (planes / 255) ** 4
    else:
        k, top = soft_labels.TOP, np.argsort(-probabilities, axis=0)[: soft_labels.TOP]
        values = soft_labels.quantise(np.take_along_axis(probabilities, top, axis=0), 255)
        rest = np.full((1, 64, 64), 17, np.uint8)
        planes = np.concatenate([top.astype(np.uint8), values, rest])
        expected = np.broadcast_to((rest / 255) ** 4 / (classes - k), probabilities.shape).copy()
        np.put_along_axis(expected, top, (values / 255) ** 4, axis=0)
    header = soft_labels.HEADER.pack(soft_labels.MAGIC, version, int(deflated), classes, k, 64, 64)
    plain = zlib.compress(planes.tobytes(), 1) if deflated else planes.tobytes()
    decoded = soft_labels.decode(header + (plain if version == 1 else soft_labels.pack(planes)))
    assert np.abs(decoded - expected / expected.sum(axis=0)).max() < 1e-5
    assert len(soft_labels.encode(probabilities)) < len(header + plain)


def test_planes_of_any_bytes_come_back() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (3, 7, 5), dtype=np.uint8)
    packed = soft_labels.pack(planes)
    assert np.array_equal(soft_labels.unpack(packed, planes.shape), planes)
    with pytest.raises(SoftLabelError):
        soft_labels.unpack(packed, (3, 7, 6))


def test_the_bytes_are_the_same_each_time() -> None:
    assert soft_labels.encode(smooth_probabilities(5)) == soft_labels.encode(smooth_probabilities(5))


@pytest.mark.parametrize(
    "bad",
    [
        np.full((2, 3, 3), np.nan, np.float32),
        np.full((2, 3, 3), 0.9, np.float32),
        np.array([[[2.0]], [[-1.0]]], np.float32),
        np.ones((1, 3, 3), np.float32),
        np.ones((3, 3), np.float32),
    ],
)
def test_what_is_no_distribution_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(SoftLabelError):
        soft_labels.encode(bad)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([5, 30]), st.integers(0, 60), st.integers(0, 255), st.integers(0, 400))
def test_damaged_bytes_decode_or_raise_their_own_error(classes: int, at: int, value: int, cut: int) -> None:
    data = bytearray(soft_labels.encode(smooth_probabilities(classes, side=8)))
    data[at] = value
    for damaged in (bytes(data), bytes(data[:cut])):
        try:
            soft_labels.decode(damaged)
        except SoftLabelError:
            continue
