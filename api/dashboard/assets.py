"""The dashboard's own files: a closed list, named by content so that browsers may keep them for good."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service.errors import NotFound

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
router = APIRouter(include_in_schema=False)


@cache
def _digests() -> dict[str, str]:
    files = (file for file in STATIC.rglob("*") if file.suffix in MEDIA_TYPES)
    return {file.relative_to(STATIC).as_posix(): sha256(file.read_bytes()).hexdigest()[:12] for file in files}


def asset_url(name: str) -> str:
    """The address of a file under static/, with its digest."""
    return f"/static/{name}?v={_digests()[name]}"


@router.get("/favicon.ico")
def favicon() -> FileResponse:
    """Browsers ask for it beside pictures and JSON, which name no icon."""
    return asset("mark.svg")


@router.get("/static/{name:path}")
def asset(name: str) -> FileResponse:
    """One file of the closed list."""
    if name not in _digests():
        raise NotFound("There is no such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    file = STATIC / name
    return FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers=headers)
