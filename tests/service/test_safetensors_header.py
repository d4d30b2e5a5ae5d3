"""The check of safetensors files, held against the library that will load them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from service.safetensors_header import count_parameters, read_header, require_finite

ANY_FOLDER = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHAPES = st.lists(st.integers(0, 4), max_size=3)
KINDS = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_])
TENSORS = st.dictionaries(st.text(max_size=5), st.tuples(SHAPES, KINDS), max_size=5)

sizes = st.integers(-1, 40) | st.just(2**63) | st.just(1.5) | st.none()
entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F16", "F32", "U8", "F99"]), "shape": st.lists(sizes, max_size=3)},
    optional={"data_offsets": st.lists(sizes, min_size=1, max_size=3), "more": st.just(1)},
)
documents = st.dictionaries(st.text(max_size=3), entries | st.integers(), max_size=4) | st.lists(st.integers())


def written(folder: Path, data: bytes) -> Path:
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    return path


@ANY_FOLDER
@given(TENSORS)
def test_what_the_library_writes_is_taken(tmp_path: Path, tensors: dict[str, Any]) -> None:
    arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in tensors.items() if name != "__metadata__"}
    path = written(tmp_path, save(arrays, {"note": "x"}))
    assert count_parameters(path) == sum(array.size for array in arrays.values())
    assert {entry.name: list(entry.shape) for entry in read_header(path)[0]} == {
        name: list(array.shape) for name, array in arrays.items()
    }
    require_finite(path)


@ANY_FOLDER
@given(documents, st.binary(max_size=60))
def test_what_is_taken_the_library_opens(tmp_path: Path, document: Any, data: bytes) -> None:
    header = json.dumps(document).encode()
    path = written(tmp_path, struct.pack("<Q", len(header)) + header + data)
    try:
        found = read_header(path)[0]
    except ValueError:
        return
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {entry.name for entry in found}


@ANY_FOLDER
@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 200))
def test_damage_is_refused_or_means_what_the_library_says(tmp_path: Path, at: int, value: int, cut: int) -> None:
    data = bytearray(save({"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.float16)}))
    data[at % len(data)] = value
    path = written(tmp_path, bytes(data[: len(data) - cut // 10]))
    try:
        found = count_parameters(path)
    except ValueError:
        return
    try:
        with safe_open(path, "numpy") as file:
            assert found == sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    except SafetensorError as error:  # it knows some rules about names that we need not
        pytest.fail(f"taken, but the library says {error}")


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_and_named(tmp_path: Path, kind: type, value: float) -> None:
    tensors = {"good": np.full(9, np.finfo(kind).max, kind), "bad": np.array([1, value, 2], kind)}
    with pytest.raises(ValueError, match="not all finite: bad"):
        require_finite(written(tmp_path, save(tensors)))
