"""One image of a set or dataset as a PNG, with its labels laid over it; never changes, so caches may keep it."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from api.downloads import IMMUTABLE, matches, not_modified, quoted_etag
from api.errors import problems
from service.previews import View

PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The client has it already"},
    **problems(404, 422),
}
"""The `responses=` of a picture."""


def _view(
    overlay: Annotated[
        float, Query(ge=0, le=1, description="Opacity of the labels: 0 image alone, 1 labels alone")
    ] = 0,
    scale: Annotated[int, Query(ge=1, le=16, description="Enlarged by this factor, without smoothing")] = 1,
) -> View:
    return View(overlay, scale)


ViewDep = Annotated[View, Depends(_view)]


def picture(request: Request, tag: str, render: Callable[[], bytes]) -> Response:
    """The PNG, or 304 without rendering when the client has it."""
    headers = {"ETag": quoted_etag(tag), "Cache-Control": IMMUTABLE}
    if matches(request, headers["ETag"]):
        return not_modified(headers)
    return Response(render(), media_type="image/png", headers=headers)
