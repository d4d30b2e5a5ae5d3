"""Generators by REST."""

from __future__ import annotations

import io
from pathlib import Path

from fastapi.testclient import TestClient

from service import generators
from service.bootstrap import Factory
from tests import factories
from tests.api.archives import photo


def test_shown_by_id_and_by_name(client: TestClient, factory: Factory, tmp_path: Path) -> None:
    with factory.work() as work:
        row = generators.register_bundled(work, "portraits", factories.write_generator(tmp_path / "portraits"))
    by_name = client.get("/v1/generators/portraits").json()
    assert by_name["id"] == row.id
    assert (by_name["image_height"], by_name["image_channels"], by_name["state"]) == (64, 3, "ready")
    assert client.get(f"/v1/generators/{row.id}").json() == by_name
    assert client.get("/v1/generators").json()["items"] == [by_name]
    assert client.get("/v1/generators/none").status_code == 404


def test_what_its_family_can_do_is_said(client: TestClient, factory: Factory) -> None:
    families = {"unet_diffusion": (True, True), "encoder": (False, True), "stylegan2": (True, False)}
    with factory.work() as work:
        for family in families:
            factories.make_generator(work, name=family, family=family)
    said = {
        row["family"]: (row["can_sample"], row["can_encode"]) for row in client.get("/v1/generators").json()["items"]
    }
    assert said == families


def test_its_samples(client: TestClient, factory: Factory) -> None:
    with factory.work() as work:
        row = factories.make_generator(work, key_prefix="generators/g/1/")
    assert client.get(f"/v1/generators/{row.id}/samples.png").status_code == 404
    factory.storage.put_stream("generators/g/1/samples.png", io.BytesIO(photo()))
    answer = client.get(f"/v1/generators/{row.id}/samples.png")
    assert (answer.status_code, answer.content) == (200, photo())
    assert answer.headers["content-type"] == "image/png"


def test_no_samples_while_it_trains(client: TestClient, factory: Factory) -> None:
    with factory.work() as work:
        row = factories.make_generator(work, state="training", key_prefix=None)
    assert client.get(f"/v1/generators/{row.id}/samples.png").status_code == 409


def test_its_archive(client: TestClient, factory: Factory) -> None:
    with factory.work() as work:
        row = factories.make_generator(work, name="cells", key_prefix="generators/g/1/")
    assert client.get(f"/v1/generators/{row.id}/archive").status_code == 404
    factory.storage.put_stream("generators/g/1.zip", io.BytesIO(b"a zip"))
    answer = client.get(f"/v1/generators/{row.id}/archive")
    assert (answer.status_code, answer.content) == (200, b"a zip")
    assert "cells.zip" in answer.headers["content-disposition"]
