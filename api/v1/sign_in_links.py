"""Sign-in links: how a program that has a key lets a person into the dashboard without showing it."""

from datetime import datetime

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, Field

from api.dependencies import CallerDep, WorkDep
from api.errors import problems
from service import sign_ins
from service.clock import utc_now

router = APIRouter(prefix="/v1/sign-in-links", tags=["access"])


class SignInLinkAnswer(BaseModel):
    """An address for one browser."""

    path: str = Field(examples=["/sign-in?token=" + 43 * "x"])
    expires_at: datetime


@router.post(
    "",
    operation_id="create_sign_in_link",
    summary="Let a browser in",
    status_code=status.HTTP_201_CREATED,
    responses=problems(422, 507),
)
def create_sign_in_link(work: WorkDep, caller: CallerDep, response: Response) -> SignInLinkAnswer:
    """The address opens one session of the caller's key, once, within a quarter of an hour."""
    response.headers["Cache-Control"] = "no-store"
    token = sign_ins.open_link(work, caller.key_id)
    return SignInLinkAnswer(path=f"/sign-in?token={token}", expires_at=utc_now() + sign_ins.LINK_LIFETIME)
