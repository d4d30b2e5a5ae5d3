"""JSON and text files from strangers, strictly: UTF-8, no duplicate keys, nothing that JSON does not know."""

from __future__ import annotations

import json
import math
from typing import Any

from service.formats.problems import FileProblem

MAX_KEYS_NAMED = 5


def load_json(data: bytes) -> Any:
    """Bytes -> value. Infinite and NaN numbers survive as floats so that their reader can name the place.

    Raises `FileProblem` for anything else that is not one strict JSON document.
    """
    text = load_text(data)
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs) and len(twice) < MAX_KEYS_NAMED:
            names = [key for key, _ in pairs]
            twice.extend(sorted({key for key in names if names.count(key) > 1}))
        return value

    try:
        value = json.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        raise FileProblem(f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise FileProblem("is nested too deeply") from error
    except ValueError as error:
        raise FileProblem(f"has a number that is too long: {error}") from error
    if twice:
        keys = ", ".join(repr(key) for key in twice[:MAX_KEYS_NAMED])
        raise FileProblem(f"has objects with the same key twice: {keys}")
    return value


def load_text(data: bytes) -> str:
    """Bytes -> text. Raises `FileProblem` unless it is UTF-8 without a byte order mark and without NUL."""
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise FileProblem("begins with a byte order mark; write it as plain UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileProblem(f"is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from error
    if "\x00" in text:
        raise FileProblem("holds a NUL character")
    return text


def is_whole(value: object) -> bool:
    """An int that is not a bool."""
    return type(value) is int


def is_finite(value: object) -> bool:
    """An int or float, not a bool, neither NaN nor infinite."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
