"""All routes of version 1."""

from fastapi import APIRouter, Security

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

secured = APIRouter(dependencies=[Security(API_KEY)], responses=problems(401, 403))
for part in (
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
):
    secured.include_router(part.router)

router = APIRouter()
router.include_router(secured)
# The signature in the address is the key.
router.include_router(objects.router)
