"""The choice of colours, kept in a cookie; a plain form, so that it works without scripts."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from api.dashboard.page import PageRoute, Theme, local_path

YEAR_SECONDS = 31_536_000
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.post("/theme/{theme}")
def choose_theme(request: Request, theme: Theme) -> RedirectResponse:
    """Keep the choice and go back to the page it was made on."""
    answer = RedirectResponse(local_path(request.headers.get("referer", "/")), status_code=303)
    answer.set_cookie("theme", theme, max_age=YEAR_SECONDS, samesite="lax")
    return answer
