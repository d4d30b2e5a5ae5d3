"""Who asks: the one gate in front of every route. Without a key or a session nothing but the open paths answers.

A key comes as `Authorization: Bearer`; a browser shows the cookie of its session. What a browser sends by itself proves
nothing about who meant it, so a request that changes something and comes with a cookie must also come from our own
page (`Origin`, `Sec-Fetch-Site`) and carry the session's token, in a header or in its form.
"""

import hashlib
import hmac
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urlsplit

import anyio.to_thread
import structlog
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem_of
from api.shared_reads import SharedReads
from service import api_keys, audit, sign_ins
from service.bootstrap import Factory
from service.caller import Action, Caller
from service.caller import Scope as KeyScope
from service.errors import Forbidden, ServiceError, Unauthenticated

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

#: Probes, the public document, what a sign-in page is made of, and addresses that carry a signature.
OPEN = {"/healthz", "/readyz", "/openapi.json", "/favicon.ico"}
OPEN_FOLDERS = ("/static/", "/v1/objects/")
#: Where a visitor may come without a session; one who has a session must prove that it means it.
ENTRANCES = {"/sign-in", "/sign-out"}
ENTRANCE_FOLDERS = ("/theme/",)
METRICS = "/metrics"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
#: Refusals that the audit log keeps: those of what a caller may not do, not those of how it was written down.
AUDITED = {403, 404, 409}
CSRF_HEADER = "x-csrf-token"


@dataclass(frozen=True)
class Visitor:
    """A caller and how it showed itself."""

    caller: Caller
    session: str | None
    """Token of the browser's session; None where a key was shown."""
    use_is_stale: bool
    """Whether it is time to write down that the key is in use."""

    @property
    def csrf_token(self) -> str | None:
        """What a form of ours carries, and nobody else's can."""
        return None if self.session is None else hmac.new(self.session.encode(), b"csrf", hashlib.sha256).hexdigest()


class ScopeMissingError(Forbidden):
    """The key may do less than this."""

    def __init__(self, scope: KeyScope, caller: Caller) -> None:
        super().__init__(f"This needs the scope {scope}; the key {caller.key_name} has {caller.scope}.")
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}


class CrossSiteError(Forbidden):
    """Another site tried to act here with a visitor's cookie."""

    type, title = "cross-site", "Refused"


class Authentication:
    """Recognises the caller before anything of the request is read; the rest finds it as `scope["state"]["visitor"]`."""

    def __init__(self, app: ASGIApp, factory: Factory) -> None:
        self.app = app
        self.factory = factory
        self._reads = SharedReads()
        self._noting: set[str] = set()
        self._scraper: tuple[str, Visitor] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but HTTP passes through."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        entrance = scope["path"] in ENTRANCES or scope["path"].startswith(ENTRANCE_FOLDERS)
        visitor: Visitor | None = None
        try:
            read = partial(anyio.to_thread.run_sync, self._recognise, request)
            visitor = await self._reads.get(_shown(request), read)
            scope.setdefault("state", {})["visitor"] = visitor
            require_intent(request, visitor)
            if not entrance and request.method not in SAFE_METHODS:
                require_scope(visitor.caller, "write")
        except Unauthenticated as error:
            if not entrance:
                await _sign_in_first(request, error)(scope, receive, send)
                return
        except ServiceError as error:
            await problem_of(request, error)(scope, receive, send)
            if visitor is not None:
                await self._audit(request, visitor.caller, error.status)
            return
        await self._answer(request, visitor, receive, send)

    def _recognise(self, request: Request) -> Visitor:
        """Monitoring that was let in before still learns that the database is away. Raises Unauthenticated."""
        if request.scope["path"] != METRICS:
            return recognise(self.factory, request)
        shown = api_keys.digest(request.headers.get("authorization", ""))
        try:
            visitor = recognise(self.factory, request)
        except ServiceError:
            self._scraper = None
            raise
        except Exception:
            # Whatever the database's driver raises.
            if self._scraper is None or self._scraper[0] != shown:
                raise
            return self._scraper[1]
        self._scraper = (shown, visitor)
        return visitor

    async def _answer(self, request: Request, visitor: Visitor | None, receive: Receive, send: Send) -> None:
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self.app(request.scope, receive, watch)
        if visitor is None:
            return
        if request.method not in SAFE_METHODS and status in AUDITED:
            await self._audit(request, visitor.caller, status)
        if visitor.use_is_stale:
            await self._note_use(visitor.caller)

    async def _audit(self, request: Request, caller: Caller, status: int) -> None:
        await self._afterwards(_record_refusal, action_of(request, caller), status)

    async def _note_use(self, caller: Caller) -> None:
        """One request writes for all: while a writer holds the database, each would take a thread and a connection."""
        if caller.key_id in self._noting:
            return
        self._noting.add(caller.key_id)
        try:
            await self._afterwards(_record_use, caller)
        finally:
            self._noting.remove(caller.key_id)

    async def _afterwards(self, write: object, *arguments: object) -> None:
        """Write what the answer did not wait for; it was sent, so that a failure only goes to the log."""
        try:
            await anyio.to_thread.run_sync(write, self.factory, *arguments)  # type: ignore[arg-type]
        except Exception:
            # Whatever the database raises: the caller was answered.
            log.exception("could not be written down after the answer")


def _shown(request: Request) -> tuple[object, ...]:
    """All that `_recognise` looks at: requests that show the same are the same visitor's."""
    headers = request.headers
    return request.scope["path"] == METRICS, headers.get("authorization"), headers.get("cookie"), headers.get("host")


def is_open(path: str) -> bool:
    """Whether this is for everybody."""
    return path in OPEN or path.startswith(OPEN_FOLDERS)


def recognise(factory: Factory, request: HTTPConnection) -> Visitor:
    """Whose key or session came with this request. Raises Unauthenticated."""
    header, cookie = request.headers.get("authorization"), request.cookies.get(session_cookie(request))
    with factory.unbound().read() as work:
        if header is not None:
            kind, _, key = header.partition(" ")
            caller, row = api_keys.authenticate(work, key.strip() if kind.lower() == "bearer" else "")
            return Visitor(caller, None, api_keys.use_is_stale(row.last_used_at))
        if cookie is None:
            raise Unauthenticated(
                "Send an API key as `Authorization: Bearer lf_...`; a key in the address is not read."
            )
        caller, row = sign_ins.caller_of_session(work, cookie)
        return Visitor(caller, cookie, api_keys.use_is_stale(row.last_used_at))


def require_intent(request: Request, visitor: Visitor) -> None:
    """Refuse what a browser was made to send; a form's own token is read later. Raises CrossSiteError."""
    if visitor.session is None or request.method in SAFE_METHODS:
        return
    require_own_page(request)
    offered = request.headers.get(CSRF_HEADER)
    if offered is not None:
        require_csrf_token(visitor, offered)
    elif request.scope["path"].startswith("/v1/"):
        raise CrossSiteError(
            "A request that changes something needs the header X-CSRF-Token beside the session's cookie."
        )
    else:
        request.scope["state"]["token_due"] = True


def require_csrf_token(visitor: Visitor, offered: str) -> None:
    """Raises CrossSiteError unless this is the session's token."""
    if not hmac.compare_digest(offered.encode(), (visitor.csrf_token or "").encode()):
        raise CrossSiteError("The page that sent this is not of this session; load it again.")


def require_own_page(request: HTTPConnection) -> None:
    """Raises CrossSiteError when the browser says that another site sent this."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign_origin = origin is not None and _host(origin) != request.headers.get("host")
    if site not in (None, "same-origin", "none") or foreign_origin:
        raise CrossSiteError("This action was sent from another site.")


def require_scope(caller: Caller, scope: KeyScope) -> None:
    """Raises ScopeMissingError, which names it."""
    if not caller.may(scope):
        raise ScopeMissingError(scope, caller)


def visitor_of(connection: HTTPConnection) -> Visitor | None:
    """Who asks; None on a path that is open to everybody."""
    found: Visitor | None = connection.scope.get("state", {}).get("visitor")
    return found


def action_of(connection: HTTPConnection, caller: Caller) -> Action:
    """What is about to be done, as the audit log says it."""
    scope = connection.scope
    route = scope.get("route")
    named = getattr(route, "operation_id", None) or getattr(route, "name", None)
    ids = [str(value) for name, value in scope.get("path_params", {}).items() if name.endswith("_id")]
    return Action(
        caller=caller,
        operation=str(named or f"{scope['method']} {scope['path']}"),
        object_id=next(iter(ids), None),
        address=scope["client"][0] if scope.get("client") else None,
        request_id=scope.get("state", {}).get("request_id"),
    )


def session_cookie(connection: HTTPConnection) -> str:
    """Name of the session's cookie. Browsers keep one jar for all ports of a host; services must not sign each other out."""
    port = connection.headers.get("host", "").rpartition(":")[2]
    return f"label_factory_session_{port}" if port.isdecimal() and len(port) <= 5 else "label_factory_session"


def _sign_in_first(request: Request, error: ServiceError) -> Response:
    """A problem; a person who asked for a page is led to the sign-in page and from there back."""
    path, asked = request.scope["path"], request.headers.get("sec-fetch-mode", "navigate")
    is_page = not path.startswith(("/v1/", "/metrics"))
    here = quote(path, safe="/:")
    if request.url.query:
        here += f"?{request.url.query}"
    if is_page and request.method in SAFE_METHODS and asked == "navigate" and "authorization" not in request.headers:
        return RedirectResponse(f"/sign-in?next={quote(here, safe='/')}", 303, {"Cache-Control": "no-store"})
    answer = problem_of(request, error)
    answer.headers["WWW-Authenticate"] = _challenge(request.headers)
    if "hx-request" in request.headers:
        answer.headers["HX-Redirect"] = "/sign-in"
    return answer


def _challenge(headers: Headers) -> str:
    return 'Bearer realm="label-factory"' + (', error="invalid_token"' if "authorization" in headers else "")


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _record_use(factory: Factory, caller: Caller) -> None:
    with factory.within(caller.workspace_id).work() as work:
        api_keys.note_use(work, caller.key_id)


def _record_refusal(factory: Factory, action: Action, status: int) -> None:
    with factory.within(action.caller.workspace_id).work() as work:
        audit.record_refused(work, action, status)
