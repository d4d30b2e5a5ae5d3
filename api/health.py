"""Probes: the process lives; the database and the object store answer."""

from typing import Literal

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.dependencies import OpenFactoryDep
from api.errors import problem_response, problems
from service.errors import ServiceError

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", operation_id="health", summary="Does the process live?", responses=problems())
async def health() -> Health:
    """Touches nothing outside the process."""
    return Health()


@router.get(
    "/readyz",
    operation_id="readiness",
    summary="Can it work?",
    response_model=Health,
    responses=problems(503),
)
def readiness(request: Request, factory: OpenFactoryDep) -> Health | JSONResponse:
    """Asks the database and the object store; a problem document says which of them failed."""
    try:
        factory.check()
    except ServiceError as error:
        return problem_response(request, 503, error.detail, title="Not ready")
    except Exception:
        # Whatever the database driver raises: the log has it, the probe needs only the fact.
        log.exception("not ready")
        return problem_response(request, 503, "The database does not answer or has no tables.", title="Not ready")
    return Health()
