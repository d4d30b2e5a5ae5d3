"""What every page shares: the templates, the security headers, errors as pages, and the same-origin rule for forms."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.dashboard.assets import asset_url
from api.dashboard.formatting import FILTERS, elapsed
from service.errors import ServiceError

#: Nothing but our own files runs, styles or loads on a page; no inline script or style passes.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Cookie",
}
SECTIONS = (
    ("overview", "/", "Overview"),
    ("jobs", "/jobs", "Jobs"),
    ("generators", "/generators", "Generators"),
    ("annotations", "/annotation-sets", "Annotations"),
    ("datasets", "/datasets", "Datasets"),
    ("students", "/students", "Students"),
    ("reports", "/reports", "Reports"),
    ("webhooks", "/webhooks", "Webhooks"),
)
Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= FILTERS
    environment.globals |= {"asset_url": asset_url, "sections": SECTIONS, "themes": THEMES, "elapsed": elapsed}
    environment.globals["query"] = query
    return environment


def query(**parameters: Any) -> str:
    """A query string of what is set, or nothing."""
    chosen = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"?{urlencode(chosen)}" if chosen else ""


ENVIRONMENT = _environment()


def theme_of(request: Request) -> Theme:
    """The theme the visitor chose; the system's otherwise."""
    chosen = request.cookies.get("theme")
    return next((theme for theme in THEMES if theme == chosen), "auto")


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A rendered template with the headers of a page."""
    html = ENVIRONMENT.get_template(template).render(theme=theme_of(request), path=request.url.path, **context)
    return HTMLResponse(html, status_code=status, headers=HEADERS)


class PageRoute(APIRoute):
    """A route whose errors are pages: a person asked, so a person is answered."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of this route, with errors rendered."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ServiceError as error:
                return error_page(request, error.status, error.title, error.detail)
            except RequestValidationError as error:
                wrong = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
                return error_page(request, 422, "This address cannot be read", wrong)

        return answer


def error_page(request: Request, status: int, title: str, detail: str) -> HTMLResponse:
    """An error as a page, or as a fragment where htmx asked."""
    return page(request, "error.html", status=status, section="", title=title, detail=detail)


class CrossSiteError(ServiceError):
    """A form of another site tried to act here."""

    status, type, title = 403, "cross-site", "Refused"


def same_origin(request: Request) -> None:
    """Let a form act only when this site's own page sent it."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign_origin = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if site not in (None, "same-origin", "none") or foreign_origin:
        raise CrossSiteError("This action was sent from another site.")


FromOurPage = Depends(same_origin)
