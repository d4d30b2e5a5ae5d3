"""Cursors are opaque, walk a whole list once, and refuse what no list made."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from api.pagination import decode_cursor, encode_cursor
from service.bootstrap import Factory
from service.errors import BadRequest
from tests import factories


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=150))
def test_a_cursor_names_its_place(after: str) -> None:
    assert decode_cursor(encode_cursor(after)) == after


@given(st.text(max_size=50))
def test_anything_else_is_refused_or_the_same_cursor(text: str) -> None:
    try:
        after = decode_cursor(text)
    except BadRequest:
        return
    assert encode_cursor(after) == text


def test_pages_walk_the_whole_list_once(client: TestClient, factory: Factory) -> None:
    with factory.work() as work:
        made = {factories.make_generator(work).id for _ in range(7)}
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = client.get(f"/v1/generators?limit=3{cursor and '&cursor='}{cursor}").json()
        assert len(page["items"]) <= 3
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert set(seen) == made
    assert len(seen) == 7
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=1.5", "limit=9223372036854775808", "limit=NaN"]
)
def test_limits_outside_1_to_200_are_422(client: TestClient, query: str) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["place"] == "query.limit"


@pytest.mark.parametrize("cursor", ["x", "!!!!", "%00", "AAAA", "4pyT", "a" * 301])
def test_strange_cursors_are_refused(client: TestClient, cursor: str) -> None:
    assert client.get(f"/v1/jobs?cursor={cursor}").status_code in {400, 422}


@pytest.mark.parametrize(
    "path", ["jobs", "generators", "image-pools", "annotation-sets", "datasets", "students", "reports"]
)
def test_every_list_has_the_same_shape(client: TestClient, path: str) -> None:
    assert client.get(f"/v1/{path}").json() == {"items": [], "next_cursor": None}
