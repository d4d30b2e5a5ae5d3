"""The dashboard: pages rendered on the server, live by htmx and server-sent events, plain without scripts."""

from fastapi import APIRouter

from api.dashboard import (
    annotation_sets,
    assets,
    datasets,
    generators,
    jobs,
    overview,
    reference,
    reports,
    students,
    theme,
    webhooks,
)

PAGES = (overview, jobs, generators, annotation_sets, datasets, students, reports, webhooks, reference, theme, assets)

router = APIRouter(include_in_schema=False)
for _page in PAGES:
    router.include_router(_page.router)
