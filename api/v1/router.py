"""All routes of version 1."""

from fastapi import FastAPI, Security
from fastapi.routing import APIRoute

from api.dependencies import API_KEY
from api.errors import problems
from api.v1 import (
    annotation_sets,
    api_keys,
    audit_entries,
    dataset_downloads,
    datasets,
    generators,
    image_pools,
    job_events,
    jobs,
    objects,
    reports,
    sign_in_links,
    steps,
    students,
    usage,
    webhook_deliveries,
    webhooks,
    workspaces,
)

SECURED = (
    generators,
    image_pools,
    annotation_sets,
    jobs,
    job_events,
    steps,
    datasets,
    dataset_downloads,
    students,
    reports,
    webhooks,
    webhook_deliveries,
    usage,
    workspaces,
    api_keys,
    sign_in_links,
    audit_entries,
)


def include_in(app: FastAPI) -> None:
    """Add all routes, one level deep: a router within a router is matched once per level on every request."""
    for part in SECURED:
        app.include_router(part.router, dependencies=[Security(API_KEY)], responses=problems(401, 403))
    # The signature in the address is the key.
    app.include_router(objects.router)


def lists() -> frozenset[str]:
    """Paths of whole documents that name no single thing: the lists, and what the workspace uses."""
    routes = [route for part in SECURED for route in part.router.routes if isinstance(route, APIRoute)]
    return frozenset(route.path for route in routes if "GET" in (route.methods or ()) and "{" not in route.path)
