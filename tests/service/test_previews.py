"""Pictures of single images; the routes' tests look at the pixels."""

from __future__ import annotations

import pytest

from service import previews
from service.bootstrap import Factory
from service.errors import Invalid, NotFound
from service.previews import View
from tests import factories


def test_a_picture_that_would_be_too_large_is_refused_before_anything_is_read(factory: Factory) -> None:
    with factory.work() as work:
        row = factories.make_annotation_set(work, image_height=2_000, image_width=2_000)
        with pytest.raises(Invalid) as caught:
            previews.annotation_image(work, row, 0, View(0.5, 4))
    assert caught.value.errors[0]["place"] == "query.scale"


def test_an_image_beyond_the_last_is_not_found(factory: Factory) -> None:
    with factory.work() as work:
        row = factories.make_annotation_set(work)
        with pytest.raises(NotFound):
            previews.annotation_image(work, row, 5, View())


def test_the_tag_depends_on_all_that_is_shown() -> None:
    tags = {
        previews.tag(sha256, index, View(opacity, scale))
        for sha256 in ("a", "b")
        for index in (0, 1)
        for opacity in (0.0, 0.5)
        for scale in (1, 2)
    }
    assert len(tags) == 16
