"""Objects behind addresses that this service has signed; no key is asked for, the signature is one."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.dependencies import PRINTABLE, OpenReadDep
from api.downloads import Download, download, file_responses
from api.head_requests import wants_headers_only
from service import signed_urls
from service.errors import Forbidden
from service.signed_urls import Grant

router = APIRouter(prefix="/v1/objects", tags=["objects"])

Text = Annotated[str, Query(max_length=400, pattern=PRINTABLE)]


@router.get(
    "/{key:path}",
    operation_id="download_object",
    summary="Download by a signed address",
    response_class=Response,
    responses=file_responses("application/octet-stream", "The file", 403),
)
def download_object(
    request: Request,
    work: OpenReadDep,
    key: Annotated[str, Path(max_length=400, description="As the address was signed")],
    expires: Annotated[int, Query(ge=0, le=2**40, description="End of its time, seconds since 1970")] = 0,
    filename: Text = "download",
    media_type: Annotated[str, Query(alias="type", max_length=100, pattern=PRINTABLE)] = "application/octet-stream",
    sha256: Annotated[str, Query(max_length=64)] = "",
    signature: Annotated[str, Query(max_length=200, description="Over all of these and the method")] = "",
) -> Response:
    """Ask `.../signed-url` of a download for such an address. 403: expired, or not signed for this method and object."""
    method = "HEAD" if wants_headers_only(request) else request.method
    signed_urls.require_valid(work, Grant(method, key, filename, media_type, sha256, expires), signature)
    return download(request, work.storage, Download(key, filename, media_type, sha256 or None))


@router.api_route("/{key:path}", methods=["POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
def refuse_object(key: str) -> Response:  # noqa: ARG001
    """As an S3 store answers whoever tries an address with another method than it was signed for."""
    raise Forbidden("Addresses are signed for GET alone.")
