"""JSON bodies read strictly: what a database, a log or another parser could trip over is refused at the edge.

`json.loads` alone accepts NaN, infinities, lone surrogates, NUL characters and repeated keys; each of them became a
500 or a silent change somewhere behind it. Installed as the route class of every API router.
"""

import json
import math
from asyncio import timeout
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from api.dependencies import open_factory
from service.errors import BadRequest, Invalid, TooLarge, Unsupported, fault

MAX_DEPTH = 64
#: A client that drips its body longer than this holds a connection for nothing.
BODY_SECONDS = 30.0

Handler = Callable[[Request], Awaitable[Any]]


class StrictRequest(Request):
    """A request whose JSON body was read whole, within limits, and parsed strictly."""

    def __init__(self, request: Request, body: bytes, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._strict_body = body
        self._document = document

    async def body(self) -> bytes:
        """The raw bytes that were read at the edge."""
        return self._strict_body

    async def json(self) -> Any:
        """The strictly parsed document."""
        return self._document


class StrictRoute(APIRoute):
    """A route that takes only strict `application/json` where it takes a body at all."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Wrap FastAPI's own handler: read and parse first, outside its catch-all."""
        handler: Handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def strict(request: Request) -> Response:
            body = await read_body(request, open_factory(request).settings.max_json_bytes)
            document = None
            if body:
                _require_json(request.headers.get("content-type", ""))
                document = parse(body)
            return await handler(StrictRequest(request, body, document))  # type: ignore[no-any-return]

        return strict


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, refused beyond `limit` bytes or when it does not arrive in time."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes; at most {limit} are read here.")
    body = bytearray()
    try:
        async with timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise TooLarge(f"The body is longer than {limit} bytes.")
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise BadRequest("The body ended early.") from None
    return bytes(body)


def parse(body: bytes) -> Any:
    """The document in `body`.

    Raises `BadRequest` for anything that is not strict UTF-8 JSON and `Invalid` for repeated keys.
    """
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
        _check(document, 0)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: byte {error.start}.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError:  # integers beyond Python's digit limit
        raise BadRequest("The body holds a number that is too long.") from None
    return document


def _require_json(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Unsupported(f"Send this body as application/json, not {kind or 'without a content type'}.")


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"{name} is not JSON.")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRequest(f"The number {text[:32]} is out of range.")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid("A key stands twice in one object.", [fault(repeated[:100], "this key is repeated")])
    return document


def _check(value: Any, depth: int) -> None:
    """Depth, and text that UTF-8 or PostgreSQL cannot hold (lone surrogates, NUL)."""
    if depth > MAX_DEPTH:
        raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise BadRequest("The body holds a NUL character.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("The body holds half of a surrogate pair.") from None
