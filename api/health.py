"""Probes: the process lives; the database and the object store answer."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.dependencies import FactoryDep
from api.errors import problems

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", operation_id="health", summary="Does the process live?", responses=problems())
async def health() -> Health:
    """Touches nothing outside the process."""
    return Health()


@router.get("/readyz", operation_id="readiness", summary="Can it work?", responses=problems(503, 507))
def readiness(factory: FactoryDep) -> Health:
    """Asks the database and the object store; a problem document says which of them failed."""
    factory.check()
    return Health()
