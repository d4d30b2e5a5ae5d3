"""All routes of version 1."""

from fastapi import APIRouter

from api.v1 import (
    annotation_sets,
    dataset_downloads,
    datasets,
    generators,
    image_pools,
    job_events,
    jobs,
    objects,
    reports,
    steps,
    students,
    usage,
    webhook_deliveries,
    webhooks,
)

router = APIRouter()
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
    objects,
    usage,
):
    router.include_router(part.router)
