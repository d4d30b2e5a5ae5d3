"""Every refusal of the factory: a status number, a slug for machines and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


def fault(place: str, message: str) -> dict[str, str]:
    """One entry of `errors`: where something is wrong, and what would be right."""
    return {"place": place, "message": message}


class ServiceError(Exception):
    """The factory refuses; the edge turns this into a problem document."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors: list[dict[str, str]] = [dict(error) for error in errors]

    def problem(self) -> dict[str, Any]:
        """This refusal as a plain problem document (RFC 9457 member names)."""
        document: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return document


class BadRequest(ServiceError):  # noqa: N818
    """The request cannot be read at all."""

    status, type, title = 400, "bad-request", "The request cannot be read"


class NotFound(ServiceError):  # noqa: N818
    """Nothing has this id or name."""

    status, type, title = 404, "not-found", "Not found"


class Conflict(ServiceError):  # noqa: N818
    """The request is sound but the present state does not allow it."""

    status, type, title = 409, "conflict", "Not possible in the present state"


class Gone(ServiceError):  # noqa: N818
    """It was there, and was deleted or has expired."""

    status, type, title = 410, "gone", "No longer there"


class UnreadableSpec(Conflict):
    """A stored job has options that this release does not know, or lacks some: another release has made it."""

    type, title = "other-release", "Made by another release of the service"


class LeaseLost(Conflict):
    """The step was given to another worker or ended meanwhile; nothing of this attempt may be kept."""

    type, title = "lease-lost", "This worker no longer holds the step"


class KeyReused(Conflict):
    """An Idempotency-Key came again with another body."""

    type, title = "idempotency-key-reused", "The idempotency key belongs to another request"


class TooLarge(ServiceError):  # noqa: N818
    """What was sent is larger than the operator allows."""

    status, type, title = 413, "too-large", "Too large"


class StorageQuotaExceeded(TooLarge):
    """More would be stored than the workspace or the key may."""

    type, title = "storage-quota", "The storage quota is used up"


class QuotaExceeded(ServiceError):  # noqa: N818
    """More would go on at a time than the workspace or the key may."""

    status, type, title = 429, "quota", "The quota is used up"


class Unsupported(ServiceError):  # noqa: N818
    """The kind of file is not one the factory reads."""

    status, type, title = 415, "unsupported-media", "Unsupported kind of file"


class Invalid(ServiceError):  # noqa: N818
    """The request can be read but its content is wrong; `errors` names every place."""

    status, type, title = 422, "invalid", "The content is not valid"


class StorageFull(ServiceError):  # noqa: N818
    """A store has no room left."""

    status, type, title = 507, "storage-full", "No space left"


class Unauthenticated(ServiceError):  # noqa: N818
    """Nobody knows who asks."""

    status, type, title = 401, "unauthenticated", "Not signed in"


class Forbidden(ServiceError):  # noqa: N818
    """Whoever asks may not do this."""

    status, type, title = 403, "forbidden", "Not allowed"
