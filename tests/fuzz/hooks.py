"""What schemathesis cannot know of this API: zips for the bodies, and ids of things that are there."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.api.archives import coco_files, mask_files, zipped

IDS: dict[str, str] = json.loads(os.environ["FUZZ_IDS"])
"""Path parameter -> the id of something that is there."""
SOUND = [zipped(mask_files()), zipped(coco_files()), zipped(mask_files(1))]


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """A sound upload, often with a few bytes changed or its end cut off, sometimes anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    data = bytearray(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.sampled_from([len(data), len(data) // 2, len(data) - 1]))])


schemathesis.openapi.media_type("application/zip", zips())


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Half of the made-up ids become real ones: most code lies behind them."""
    for name, known in IDS.items():
        value = (path_parameters or {}).get(name)
        if path_parameters is not None and value is not None and len(str(value)) % 2:
            path_parameters[name] = known
    return path_parameters
