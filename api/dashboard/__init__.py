"""The dashboard: pages rendered on the server, live by htmx and server-sent events, plain without scripts."""

from fastapi import APIRouter

from api.dashboard import (
    annotation_sets,
    api_keys,
    assets,
    audit,
    datasets,
    generators,
    jobs,
    overview,
    reference,
    reports,
    sign_in,
    students,
    theme,
    webhooks,
)

PAGES = (overview, jobs, generators, annotation_sets, datasets, students, reports, webhooks, reference)
ENTRANCE = (sign_in, theme, assets)
ADMIN = (api_keys, audit)

router = APIRouter(include_in_schema=False)
for _page in (*PAGES, *ADMIN, *ENTRANCE):
    router.include_router(_page.router)
