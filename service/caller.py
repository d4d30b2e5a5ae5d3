"""Who asks, what they may do, and what they are about to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
"""Each includes those before it."""


@dataclass(frozen=True)
class Caller:
    """A key that was shown, itself or through a browser's session."""

    key_id: str
    """The key."""
    key_name: str
    """What people call it."""
    workspace_id: str
    """All that the caller sees."""
    scope: Scope
    """The most that the caller may do."""

    def may(self, scope: Scope) -> bool:
        """Whether the caller's scope includes this one."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


@dataclass(frozen=True)
class Action:
    """What a caller is about to do: the audit log's line but for its end."""

    caller: Caller
    """Who."""
    operation: str
    """What, as the OpenAPI document or the page calls it."""
    object_id: str | None
    """To what; None where it is made by this."""
    address: str | None
    """From where, as the server saw it."""
    request_id: str | None
    """Finds the request in the log."""
