"""A checkpoint folder and its mirror in the object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import steps
from service.bootstrap import Factory
from service.errors import LeaseLost
from tests import factories
from workers.checkpoint import Checkpoint


def keys(factory: Factory) -> list[str]:
    return list(factory.storage.list("steps/"))


def test_another_worker_finds_the_files(factory: Factory, tmp_path: Path) -> None:
    factories.make_job(factory)
    first = Checkpoint(factory, factories.must_claim(factory), tmp_path / "first")
    first.restore()
    (first.folder / "weights").write_bytes(b"w1")
    first.save()
    factories.lose(factory, first._step.id)
    second = Checkpoint(factory, factories.must_claim(factory, "worker-2"), tmp_path / "second")
    second.restore()
    assert (second.folder / "weights").read_bytes() == b"w1"


def test_only_changes_travel_and_old_objects_go(factory: Factory, tmp_path: Path) -> None:
    factories.make_job(factory)
    checkpoint = Checkpoint(factory, factories.must_claim(factory), tmp_path / "c")
    checkpoint.restore()
    (checkpoint.folder / "piece-1").write_bytes(b"1")
    checkpoint.save()
    (piece,) = [key for key in keys(factory) if key.endswith("piece-1")]
    (checkpoint.folder / "piece-2").write_bytes(b"2")
    (checkpoint.folder / "half.partial").write_bytes(b"?")
    checkpoint.save()
    assert piece in keys(factory)
    (checkpoint.folder / "piece-1").write_bytes(b"other")
    checkpoint.save()
    left = keys(factory)
    assert piece not in left
    assert len(left) == 3  # two pieces and one manifest
    checkpoint.save()
    assert keys(factory) == left
    checkpoint.discard()
    assert keys(factory) == []


def test_a_checkpoint_whose_objects_are_gone_is_none(factory: Factory, tmp_path: Path) -> None:
    factories.make_job(factory)
    first = Checkpoint(factory, factories.must_claim(factory), tmp_path / "first")
    first.restore()
    (first.folder / "weights").write_bytes(b"w1")
    first.save()
    for key in keys(factory):
        factory.storage.delete(key)
    factories.lose(factory, first._step.id)
    second = Checkpoint(factory, factories.must_claim(factory, "worker-2"), tmp_path / "second")
    second.restore()
    assert list(second.folder.iterdir()) == []


def test_a_worker_that_lost_its_step_changes_no_checkpoint(factory: Factory, tmp_path: Path) -> None:
    factories.make_job(factory)
    checkpoint = Checkpoint(factory, factories.must_claim(factory), tmp_path / "c")
    checkpoint.restore()
    factories.lose(factory, checkpoint._step.id)
    other = factories.must_claim(factory, "worker-2")
    (checkpoint.folder / "weights").write_bytes(b"late")
    with pytest.raises(LeaseLost):
        checkpoint.save()
    with factory.read() as work:
        assert steps.get(work, other.id).checkpoint_key is None
