"""What is wrong with an upload is collected with its place, then refused together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import Invalid, fault

LISTED = 100
"""More faults than this are counted, not listed."""

MAX_TEXT = 300
"""A sender's text is cut before it enters an answer."""


class FileProblem(ValueError):  # noqa: N818 - it is raised to be collected, not to fail
    """One file or value cannot be used; the reader adds the place, `part` says where within it (`.counts`)."""

    def __init__(self, message: str, part: str = "") -> None:
        super().__init__(message)
        self.part = part


class ProblemList:
    """Collects faults; lists the first hundred."""

    def __init__(self) -> None:
        self.listed: list[dict[str, str]] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, place: str, message: str) -> None:
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(fault(printable(place), printable(message)))

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Turns a `FileProblem` raised inside into a fault at this place."""
        try:
            yield
        except FileProblem as problem:
            self.add(place + problem.part, str(problem))

    def refuse_if_any(self, detail: str) -> None:
        """Raises one `Invalid` that lists everything found so far."""
        if not self.count:
            return
        errors = list(self.listed)
        if self.count > len(errors):
            errors.append(fault("", f"and {self.count - len(errors)} more like these"))
        noun = "fault" if self.count == 1 else "faults"
        raise Invalid(f"{detail}: {self.count} {noun} found, nothing was stored.", errors=errors)


def printable(text: str) -> str:
    """Cut, and with characters escaped that no terminal or JSON encoder should meet."""
    cut = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut)
