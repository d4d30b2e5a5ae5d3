"""Identifiers: a prefix that names the noun and 26 characters that sort by time."""

from __future__ import annotations

import secrets
import time
from datetime import datetime
from typing import Literal

Prefix = Literal["gen", "pool", "ann", "job", "step", "ds", "stu", "rep", "ws", "key", "aud", "wh", "msg"]

# Crockford's alphabet in lower case: its characters sort as their values do and no two look alike.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_PATTERN = r"^[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}$"


def new_id(prefix: Prefix) -> str:
    """A fresh id such as `job_01k...`; later ids sort after earlier ones (to the millisecond)."""
    return _spelled(prefix, (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80))


def first_id(prefix: Prefix, moment: datetime) -> str:
    """What sorts before every id made from this moment on, and after all before."""
    return _spelled(prefix, int(moment.timestamp() * 1000) << 80)


def _spelled(prefix: Prefix, value: int) -> str:
    characters = [ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(characters)}"
