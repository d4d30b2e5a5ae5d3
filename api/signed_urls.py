"""Short addresses that need no key: for a browser, a script or another machine that is to fetch one file.

Where the store signs (S3) the bytes come straight from there; of a folder this service signs and serves them itself.
"""

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.downloads import Download
from service import signed_urls
from service.bootstrap import Factory
from service.signed_urls import MAX_SECONDS, Grant
from service.unit_of_work import Work

PATH = "/v1/objects/"

ExpiresIn = Annotated[int, Query(ge=1, le=MAX_SECONDS, description="For how many seconds the address is to work")]
DEFAULT_SECONDS = 300


class SignedUrlAnswer(BaseModel):
    """An address from which anyone who has it may download one file, until it expires."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "url": f"{PATH}datasets/ds_01kaxv9k7m9n1p3q5r7s9t1v3w/exports/coco-1.zip?expires=1795975200&signature=9f86",
                "method": "GET",
                "expires_at": "2026-11-29T18:00:00Z",
                "filename": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w-coco.zip",
                "num_bytes": 48_210_433,
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            }
        }
    )

    url: str = Field(description="Absolute where the object store serves it, else relative to this service's address")
    method: Literal["GET"] = Field(description="The only method it is signed for; ranges are answered")
    expires_at: datetime
    filename: str
    num_bytes: int
    sha256: str | None = Field(description="Of the file; null where it is not known")


def signed(factory: Factory, work: Work, response: Response, item: Download, seconds: int) -> SignedUrlAnswer:
    """Sign an address of this download. Raises NotFound when the object is gone."""
    num_bytes = work.storage.size(item.key)
    expires_at = signed_urls.expiry(work, seconds)
    url = work.storage.sign(item.key, seconds=seconds)
    if url is None:
        grant = Grant("GET", item.key, item.filename, item.media_type, item.sha256 or "", int(expires_at.timestamp()))
        url = _own_address(grant, signed_urls.sign(factory, grant))
    response.headers["Cache-Control"] = "no-store"
    return SignedUrlAnswer(
        url=url,
        method="GET",
        expires_at=expires_at,
        filename=item.filename,
        num_bytes=num_bytes,
        sha256=item.sha256,
    )


def _own_address(grant: Grant, signature: str) -> str:
    query = {
        "expires": grant.expires,
        "filename": grant.filename,
        "type": grant.media_type,
        "sha256": grant.sha256,
        "signature": signature,
    }
    return f"{PATH}{quote(grant.key)}?{urlencode(query)}"
