"""Every error leaves as an RFC 9457 problem document; the one place that turns exceptions into answers."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service.errors import ServiceError

MEDIA_TYPE = "application/problem+json"
#: A list of problems longer than this helps nobody and costs a large answer.
MAX_ERRORS = 1000


class ProblemError(BaseModel):
    """One thing that is wrong, and where."""

    place: str = Field(description="Where: a JSON path, a query parameter, or a file inside the upload")
    message: str = Field(description="What is wrong there")


class Problem(BaseModel):
    """RFC 9457 problem document; `errors` lists every place when the input is at fault."""

    type: str = Field(examples=["urn:label-factory:problem:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no job job_01JZX3."])
    instance: str | None = Field(None, description="The path that was asked", examples=["/v1/jobs/job_01JZX3"])
    request_id: str | None = Field(None, description="Names this request in the service's log")
    errors: list[ProblemError] = []


DESCRIPTIONS = {
    400: "Not readable: broken JSON, a bad cursor, a broken body",
    401: "No API key, or one that does not hold",
    403: "The key's scope is less than this needs",
    404: "There is no such thing",
    409: "Not possible in the present state",
    410: "It was there, and was deleted or has expired",
    413: "Larger than the service takes",
    415: "Not a media type this route takes",
    416: "The range lies outside the file",
    422: "Understood but wrong; every place is listed",
    429: "Too many requests from one client, whom `Retry-After` says when to ask again, or more jobs than may go on",
    500: "The service failed; the request id names the log line",
    503: "Not ready",
    507: "The storage is full",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may answer these errors: 429 and 500 too, and 410 where something could be missing."""
    declared = {*statuses, 429, 500, *((410,) if 404 in statuses else ())}
    return {status: {"description": DESCRIPTIONS[status], **_content(status)} for status in sorted(declared)}


def _content(status: int) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    example = {
        "type": f"urn:label-factory:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": DESCRIPTIONS[status],
        "errors": [{"place": "body.num_images", "message": "Input should be a valid integer"}] if status == 422 else [],
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"content": {MEDIA_TYPE: {"schema": schema, "example": example}}}


def problem_response(
    request: Request,
    status: int,
    detail: str,
    *,
    slug: str | None = None,
    title: str | None = None,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem document as an answer."""
    title = title or HTTPStatus(status).phrase
    content = {
        "type": f"urn:label-factory:problem:{slug or title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.scope["path"],
        "request_id": request.scope.get("state", {}).get("request_id"),
        "errors": (errors or [])[:MAX_ERRORS],
    }
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def internal_error(request: Request, _error: Exception) -> JSONResponse:
    """What a crash answers: nothing of its inside, but the id that finds it in the log."""
    return problem_response(request, 500, "The service failed to answer; its log has the reason under the request id.")


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(ServiceError, problem_of)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    _describe_problems(app)


def _describe_problems(app: FastAPI) -> None:
    """Put the schema that `problems` refers to into the OpenAPI document."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = schema.pop("$defs")
        document.setdefault("components", {}).setdefault("schemas", {}).update(parts, Problem=schema)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def problem_of(request: Request, error: ServiceError) -> JSONResponse:
    """A refusal as an answer."""
    headers: Mapping[str, str] | None = getattr(error, "headers", None)
    return problem_response(
        request, error.status, error.detail, slug=error.type, title=error.title, errors=error.errors, headers=headers
    )


def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    found = [
        {"place": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])} for item in error.errors()
    ]
    detail = f"{len(found)} thing{'s' if len(found) != 1 else ''} in the request cannot be taken as sent."
    return problem_response(
        request, 422, detail, title="Invalid request", slug="invalid", errors=jsonable_encoder(found)
    )


def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    detail, headers = error.detail, {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 404:
        detail = f"There is nothing at {request.scope['path']}."
    elif error.status_code == 405:
        detail = f"{request.method} is not possible at {request.scope['path']}."
        headers["allow"] = _allowed(request, headers.get("allow", ""))
    return problem_response(request, error.status_code, detail, headers=headers)


def _allowed(request: Request, of_first_route: str) -> str:
    """All methods of this address; the framework names only those of the route it saw first, and never HEAD."""
    path = getattr(request.scope.get("route"), "path", "")
    methods = {method.upper() for method in request.app.openapi()["paths"].get(path, of_first_route.split(", "))}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
