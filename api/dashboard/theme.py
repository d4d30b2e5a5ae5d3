"""The choice of colours, kept in a cookie; a plain form, so that it works without scripts."""

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from api.dashboard.page import FromOurPage, PageRoute, Theme

YEAR_SECONDS = 31_536_000
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.post("/theme/{theme}", dependencies=[FromOurPage])
def choose_theme(request: Request, theme: Theme) -> RedirectResponse:
    """Keep the choice and go back to the page it was made on."""
    answer = RedirectResponse(_path_of(request.headers.get("referer", "/")), status_code=303)
    answer.set_cookie("theme", theme, max_age=YEAR_SECONDS, samesite="lax")
    return answer


def _path_of(referer: str) -> str:
    """Path and query of the page we come from; never another site, whatever the header says."""
    parts = urlsplit(referer)
    path = "/" + parts.path.lstrip("/\\")
    return f"{path}?{parts.query}" if parts.query else path
