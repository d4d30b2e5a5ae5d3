"""What every page shares: the templates, the security headers, errors as pages, and forms that their sender meant."""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ValidationError

from api.authentication import SAFE_METHODS, require_csrf_token, require_own_page, visitor_of
from api.dashboard.assets import asset_url
from api.dashboard.formatting import FILTERS, elapsed
from api.strict_json import read_body
from service.errors import BadRequest, Invalid, ServiceError, fault

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
Form = TypeVar("Form", bound=BaseModel)
MAX_FORM_BYTES = 64 * 1024
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
    visitor = visitor_of(request)
    html = ENVIRONMENT.get_template(template).render(
        theme=theme_of(request),
        path=request.url.path,
        caller=visitor.caller if visitor else None,
        csrf_token=(visitor.csrf_token if visitor else None) or "",
        **context,
    )
    return HTMLResponse(html, status_code=status, headers=HEADERS)


class PageRoute(APIRoute):
    """A route whose errors are pages: a person asked, so a person is answered. Its forms come from our own pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of this route, with errors rendered."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                if request.method not in SAFE_METHODS:
                    await _take_form(request)
                return await handle(request)
            except ServiceError as error:
                return error_page(request, error)
            except RequestValidationError as error:
                faults = [fault(str(item["loc"][-1]), item["msg"]) for item in error.errors()]
                return error_page(request, Invalid("This address cannot be read.", faults))

        return answer


def error_page(request: Request, error: ServiceError) -> HTMLResponse:
    """An error as a page, or as a fragment where htmx asked."""
    context = {"title": error.title, "detail": error.detail, "faults": error.errors}
    return page(request, "error.html", status=error.status, section="", **context)


async def _take_form(request: Request) -> None:
    """Read the form and prove that our own page sent it. Raises CrossSiteError, BadRequest, TooLarge."""
    require_own_page(request)
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        form = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise BadRequest("The form cannot be read.") from None
    visitor = visitor_of(request)
    if visitor is not None and request.scope["state"].pop("token_due", False):
        require_csrf_token(visitor, form.get("csrf_token", ""))
    request.state.form = form


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent."""
    form: Mapping[str, str] = request.state.form
    return form


FormDep = Annotated[Mapping[str, str], Depends(form_of)]


def read_form(model: type[Form], **values: Any) -> Form:
    """A form's values held against the same model as the REST body. Raises Invalid."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [fault(str(item["loc"][0]), item["msg"]) for item in error.errors()]
        raise Invalid("The form cannot be taken as sent.", faults) from None


def local_path(address: str) -> str:
    """Path and query of an address; never another site, whatever it says."""
    parts = urlsplit(address)
    path = "/" + parts.path.lstrip("/\\")
    return f"{path}?{parts.query}" if parts.query else path
