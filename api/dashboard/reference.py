"""The REST reference as a page of our own: the usual viewers load scripts from elsewhere."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.dashboard.page import PageRoute, page

METHODS = ("get", "post", "put", "patch", "delete")
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/docs")
def reference_page(request: Request) -> HTMLResponse:
    """Every operation by tag."""
    document = request.app.openapi()
    tags = {str(tag["name"]): str(tag.get("description", "")) for tag in document.get("tags", [])}
    groups: dict[str, dict[str, Any]] = {tag: {"words": words, "operations": []} for tag, words in tags.items()}
    for operation in _operations(document):
        groups.setdefault(operation["tag"], {"words": "", "operations": []})["operations"].append(operation)
    filled = {tag: group for tag, group in groups.items() if group["operations"]}
    return page(request, "reference.html", section="", groups=filled)


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "tag": (operation.get("tags") or ["other"])[0],
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "description": operation.get("description", ""),
            "parameters": [
                item.get("name", "") for item in operation.get("parameters", []) if item.get("in") == "query"
            ],
        }
        for path, methods in document.get("paths", {}).items()
        for method, operation in methods.items()
        if method in METHODS
    ]
