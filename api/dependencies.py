"""What a route may ask for: the factory as the caller sees it, and a unit of work that ends before the answer is sent."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Path
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from api.authentication import Visitor, action_of, require_scope, visitor_of
from api.job_watch import JobWatch
from api.shared_reads import SharedReads
from service.bootstrap import Factory
from service.caller import Caller
from service.errors import Forbidden, Unauthenticated
from service.tables import DEFAULT_WORKSPACE_ID
from service.unit_of_work import Work

#: What the OpenAPI document says of the key; `Authentication` has looked at it by then.
API_KEY = HTTPBearer(
    scheme_name="API key",
    auto_error=False,
    description="`Authorization: Bearer lf_...`: scope `read` for GET, `write` for what changes something, `admin` for keys "
    "and the audit log; each includes those before it.",
)


def open_factory(connection: HTTPConnection) -> Factory:
    """The factory this application was made with, for the few routes that ask in nobody's name."""
    factory: Factory = connection.app.state.factory
    return factory


def recognised(connection: HTTPConnection) -> Visitor:
    """Who asks. Raises Unauthenticated, and Forbidden while a form has not proved that its sender meant it."""
    visitor = visitor_of(connection)
    if visitor is None:
        raise Unauthenticated("Sign in first.")
    if connection.scope["state"].get("token_due"):
        raise Forbidden("The form came without its token.")
    return visitor


def factory_of(connection: HTTPConnection) -> Factory:
    """The factory as the caller sees it; what it changes is put down in the audit log."""
    return open_factory(connection).on_behalf(action_of(connection, recognised(connection).caller))


def caller_of(connection: HTTPConnection) -> Caller:
    """Who asks."""
    return recognised(connection).caller


async def require_admin(connection: HTTPConnection) -> None:
    """Raises ScopeMissingError for a key of less."""
    require_scope(caller_of(connection), "admin")


async def require_operator(connection: HTTPConnection) -> None:
    """Only the operator's own workspace sees the whole installation. Raises Forbidden."""
    caller = caller_of(connection)
    if caller.workspace_id != DEFAULT_WORKSPACE_ID:
        raise Forbidden("Only a key of the operator's workspace, which is called default, sees the whole installation.")


def shared_reads(connection: HTTPConnection) -> SharedReads:
    """Where requests meet that ask the same."""
    found: SharedReads = connection.app.state.shared_reads
    return found


def job_watch(connection: HTTPConnection) -> JobWatch:
    """Tells event streams of their jobs' news."""
    found: JobWatch = connection.app.state.job_watch
    return found


def open_work(connection: HTTPConnection) -> Iterator[Work]:
    """One unit of work per request: committed when the route returned, rolled back when it raised."""
    with factory_of(connection).work() as work:
        yield work


def open_read(connection: HTTPConnection) -> Iterator[Work]:
    """A unit of work that only reads and never waits for writers."""
    with factory_of(connection).read() as work:
        yield work


def open_read_of_all(connection: HTTPConnection) -> Iterator[Work]:
    """A read of all workspaces, for what is asked in nobody's name and proves by itself that it may be seen."""
    with open_factory(connection).read() as work:
        yield work


# What only looks is async: a plain function would cost every request a thread.
async def _factory(connection: HTTPConnection) -> Factory:
    return factory_of(connection)


async def _open_factory(connection: HTTPConnection) -> Factory:
    return open_factory(connection)


async def _caller(connection: HTTPConnection) -> Caller:
    return caller_of(connection)


FactoryDep = Annotated[Factory, Depends(_factory)]
OpenFactoryDep = Annotated[Factory, Depends(_open_factory)]
CallerDep = Annotated[Caller, Depends(_caller)]
ForAdmins = Depends(require_admin)
ForOperators = Depends(require_operator)
# scope="function" ends the work before the answer leaves: a failing commit is a 500, never a 202, and no stream that
# follows the route holds a transaction.
WorkDep = Annotated[Work, Depends(open_work, scope="function")]
OpenReadDep = Annotated[Work, Depends(open_read_of_all, scope="function")]
ReadDep = Annotated[Work, Depends(open_read, scope="function")]

#: No control characters: PostgreSQL stores no NUL, and a log line should stay one line.
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
#: An id (or, for generators, a name): text that no database stumbles over.
IdPath = Annotated[str, Path(min_length=1, max_length=120, pattern=PRINTABLE)]
IndexPath = Annotated[int, Path(ge=0, le=2**31 - 1, description="Position, from 0")]
