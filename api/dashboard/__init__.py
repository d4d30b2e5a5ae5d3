"""The dashboard: pages rendered on the server, live by htmx and server-sent events, plain without scripts."""

from fastapi import FastAPI

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


def include_in(app: FastAPI) -> None:
    """Add all pages."""
    for page in (*PAGES, *ADMIN, *ENTRANCE):
        app.include_router(page.router, include_in_schema=False)
