"""Problems of an upload are collected with their place, then refused together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.errors import Invalid

LISTED = 100
"""More problems than this are counted, not listed."""

MAX_TEXT = 300
"""Attacker text is cut before it enters an answer."""


@dataclass(frozen=True)
class Problem:
    """What is wrong and where: `annotations.json: annotations[12].segmentation.counts`, `masks/0003.png`."""

    place: str
    message: str


class FileProblem(ValueError):
    """One file or value cannot be used; the reader adds the place."""


class ProblemList:
    """Collects problems; lists the first hundred."""

    def __init__(self) -> None:
        self.listed: list[Problem] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, place: str, message: str) -> None:
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(Problem(printable(place), printable(message)))

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Turns a `FileProblem` raised inside into a problem at this place."""
        try:
            yield
        except FileProblem as problem:
            self.add(place, str(problem))

    def refuse_if_any(self, detail: str) -> None:
        """Raises one `Invalid` that lists everything found so far."""
        if not self.count:
            return
        errors = [{"place": p.place, "message": p.message} for p in self.listed]
        if self.count > len(errors):
            errors.append({"place": "", "message": f"and {self.count - len(errors)} more problems"})
        noun = "problem" if self.count == 1 else "problems"
        raise Invalid(f"{detail}: {self.count} {noun}.", errors=errors)


def printable(text: str) -> str:
    """Cut, and with characters that no terminal or JSON encoder stumbles over."""
    cut = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut)
