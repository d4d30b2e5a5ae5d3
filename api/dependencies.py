"""What a route may ask for: the factory, and a unit of work that ends before the answer is sent."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Path
from starlette.requests import HTTPConnection

from service.bootstrap import Factory
from service.unit_of_work import Work


def factory_of(connection: HTTPConnection) -> Factory:
    """The factory this application was made with."""
    factory: Factory = connection.app.state.factory
    return factory


def open_work(connection: HTTPConnection) -> Iterator[Work]:
    """One unit of work per request: committed when the route returned, rolled back when it raised."""
    with factory_of(connection).work() as work:
        yield work


def open_read(connection: HTTPConnection) -> Iterator[Work]:
    """A unit of work that only reads and never waits for writers."""
    with factory_of(connection).read() as work:
        yield work


FactoryDep = Annotated[Factory, Depends(factory_of)]
# scope="function" ends the work before the answer leaves: a failing commit is a 500, never a 202, and no stream that
# follows the route holds a transaction.
WorkDep = Annotated[Work, Depends(open_work, scope="function")]
ReadDep = Annotated[Work, Depends(open_read, scope="function")]

#: No control characters: PostgreSQL stores no NUL, and a log line should stay one line.
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
#: An id (or, for generators, a name): text that no database stumbles over.
IdPath = Annotated[str, Path(min_length=1, max_length=120, pattern=PRINTABLE)]
IndexPath = Annotated[int, Path(ge=0, le=2**31 - 1, description="Position, from 0")]
