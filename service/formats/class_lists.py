"""Class lists from a file or a caller -> `LabelClass` tuples with colours, at most one background, known things."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from service.formats.annotated_images import BACKGROUND_NAME, LabelClass
from service.formats.colors import default_colors
from service.formats.limits import UploadLimits
from service.formats.problems import ProblemList

COLOR = re.compile(r"#[0-9a-fA-F]{6}")
BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
NO_COLOR = ""


def read_class_list(value: object, place: str, limits: UploadLimits, problems: ProblemList) -> tuple[LabelClass, ...]:
    """A list of names, of `{name, thing | isthing, color, background}`, or of `LabelClass`.

    Also `{"classes": [...], "kind": "instance"}`, where every class but the background is a thing.
    """
    all_things = False
    if isinstance(value, dict):
        all_things = value.get("kind") == "instance"
        value, place = value.get("classes"), f"{place}: classes"
    if not isinstance(value, list | tuple) or not value:
        problems.add(place, "is not a list of class names")
        return ()
    if len(value) > limits.max_classes:
        problems.add(place, f"has {len(value):,} classes; at most {limits.max_classes} are allowed")
        return ()
    found = [_read_class(item, f"{place}[{index}]", limits, problems) for index, item in enumerate(value)]
    classes = [c for c in found if c is not None]
    if all_things:
        classes = [replace(c, thing=not c.background) for c in classes]
    check_names([c.name for c in classes], [f"{place}[{i}]" for i in range(len(classes))], problems)
    if sum(c.background for c in classes) > 1:
        problems.add(place, "has more than one background class")
    return with_colors(classes)


def with_things(
    classes: Sequence[LabelClass], things: Sequence[str] | None, problems: ProblemList
) -> tuple[LabelClass, ...]:
    """Exactly the named classes are things; None leaves them as they are."""
    if things is None:
        return tuple(classes)
    countable = {c.name for c in classes if not c.background}
    for name in things:
        if name not in countable:
            problems.add("things", f"{name!r} is not a class of this set that can be counted")
    return tuple(replace(c, thing=c.name in things and not c.background) for c in classes)


def with_colors(classes: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """Missing colours filled from the default palette; the background is black."""
    palette = iter(default_colors(sum(not c.background for c in classes)))
    filled = []
    for c in classes:
        default = "#000000" if c.background else next(palette)
        filled.append(c if c.color else replace(c, color=default))
    return tuple(filled)


def is_background_name(name: str) -> bool:
    return name.strip("_ ").casefold() == BACKGROUND_NAME


def name_fault(name: object, limits: UploadLimits) -> str | None:
    """Why a class name is refused. Markup is no fault: it is stored as text and escaped where it is shown."""
    if not isinstance(name, str) or not name.strip():
        return "has no name"
    if len(name) > limits.max_name_length:
        return f"has a name of {len(name):,} characters; at most {limits.max_name_length} are allowed"
    if any(unicodedata.category(c) in ("Cc", "Cs") or c in BIDI for c in name):
        return "has a control character in its name"
    return None


def check_names(names: Sequence[str], places: Sequence[str], problems: ProblemList) -> None:
    """Adds a fault for each name that came before."""
    seen: set[str] = set()
    for name, place in zip(names, places, strict=True):
        key = unicodedata.normalize("NFC", name)
        if key in seen:
            problems.add(place, f"has the name {name!r} of another class")
        seen.add(key)


def read_color(value: object) -> str | None:
    """`#rrggbb` or [r, g, b] -> `#rrggbb`; None when it is neither."""
    if isinstance(value, str) and COLOR.fullmatch(value):
        return value.lower()
    if isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value):
        return "#{:02x}{:02x}{:02x}".format(*value)
    return None


def read_flag(item: dict[str, Any], key: str) -> bool | None:
    """True, False, 1 or 0 -> bool; None when it is something else; a missing key is False."""
    value = item.get(key, False)
    return bool(value) if type(value) in (bool, int) and value in (0, 1) else None


def _read_class(item: object, place: str, limits: UploadLimits, problems: ProblemList) -> LabelClass | None:
    if isinstance(item, LabelClass):
        item = item.to_json()
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, dict):
        problems.add(place, "is neither a name nor an object with a name")
        return None
    if fault := name_fault(item.get("name"), limits):
        problems.add(place, fault)
        return None
    flags = {key: read_flag(item, key) for key in ("thing", "isthing", "background")}
    for key, flag in flags.items():
        if flag is None:
            problems.add(f"{place}.{key}", "is neither true nor false")
    color = NO_COLOR if item.get("color") is None else read_color(item["color"])
    if color is None:
        problems.add(f"{place}.color", "is not #rrggbb")
    background = bool(flags["background"]) or ("background" not in item and is_background_name(item["name"]))
    thing = bool(flags["thing"] or flags["isthing"])
    if thing and background:
        problems.add(place, "is both a thing and the background")
    return LabelClass(item["name"], thing, color or NO_COLOR, background)
