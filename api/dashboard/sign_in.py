"""In and out: a key, or a link that works once, becomes a session's cookie."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from api.authentication import action_of, session_cookie, visitor_of
from api.dashboard.page import FormDep, PageRoute, local_path, page
from api.dependencies import OpenFactoryDep
from service import audit, sign_ins
from service.errors import Unauthenticated

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Token = Annotated[str, Query(max_length=200)]
Next = Annotated[str, Query(alias="next", max_length=2_000)]


@router.get("/sign-in")
def sign_in_page(request: Request, token: Token = "", following: Next = "/") -> Response:
    """Asks for a key; with a link's token, for one click (a mail program that looks at links must not use them up)."""
    if visitor_of(request) is not None and not token:
        return RedirectResponse(local_path(following), status_code=303)
    return page(request, "sign_in.html", section="", token=token, following=local_path(following), refused=None)


@router.post("/sign-in")
def sign_in(request: Request, factory: OpenFactoryDep, form: FormDep) -> Response:
    """Opens a session and goes to where the visitor wanted."""
    following = local_path(form.get("next", "/"))
    try:
        with factory.work() as work:
            token, caller = sign_ins.open_session(work, form.get("secret", "").strip())
            audit.record_done(work, action_of(request, caller))
    except Unauthenticated as error:
        context = {"token": "", "following": following, "refused": error.detail}
        return page(request, "sign_in.html", status=401, section="", **context)
    answer = RedirectResponse(following, status_code=303)
    answer.set_cookie(
        session_cookie(request),
        token,
        max_age=int(factory.settings.session_seconds),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request, factory: OpenFactoryDep) -> Response:
    """Ends the session, here and on the server."""
    visitor = visitor_of(request)
    if visitor is not None and visitor.session is not None:
        with factory.work() as work:
            sign_ins.close_session(work, visitor.session)
            audit.record_done(work, action_of(request, visitor.caller))
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(
        session_cookie(request), secure=request.url.scheme == "https", httponly=True, samesite="strict"
    )
    return answer
