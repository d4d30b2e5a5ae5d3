"""A backup taken while others write is one moment of the factory, and comes back whole into an empty place of either kind."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, MetaData, inspect, select, text

from service import datasets, deletion, events, image_pools, monitoring, object_keys, purging, steps, students
from service.backup import back_up
from service.bootstrap import Factory, build_factory, prepare
from service.collector import collect, collect_in_turn, require_own_store
from service.database import make_engine
from service.datasets import NewExport
from service.errors import Conflict, Invalid
from service.references import digests
from service.restore import restore
from service.settings import Settings
from service.students import StudentFile
from service.tables import DEFAULT_WORKSPACE_ID, DatasetShard, Step, Student
from tests import factories
from tests.clients import api_client
from tests.path.journey import annotated_zip, pool_zip
from tests.servers import S3Address
from tests.service.test_database import new_database
from workers.checkpoint import Checkpoint

ZIP = {"content-type": "application/zip"}
PLACES = ("embedded", "cluster")


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Makes empty places: SQLite and a folder, or PostgreSQL and S3."""
    made: list[Factory] = []

    def make(kind: str, name: str) -> Factory:
        settings = Settings(data_dir=tmp_path / name)
        if kind == "cluster":
            address: S3Address = request.getfixturevalue("s3_address")
            prefix = f"{tmp_path.name}-{name}".replace("_", "-")
            settings = Settings(
                data_dir=tmp_path / name,
                database_url=new_database(request.getfixturevalue("postgresql_url"), prefix.replace("-", "_").lower()),
                storage_url=f"s3://{address.bucket}/{prefix}",
                s3_endpoint=address.endpoint,
                s3_access_key_id=address.key_id,
                s3_secret_access_key=address.secret,
            )
        made.append(build_factory(settings).within(DEFAULT_WORKSPACE_ID))
        return made[-1]

    yield make
    for factory in made:
        factory.close()


def put(factory: Factory, key: str, content: bytes) -> str:
    return factory.storage.put_stream(key, io.BytesIO(content)).sha256


def fill(factory: Factory) -> list[str]:
    """Something of every noun, with objects; returns what can be downloaded of it."""
    prepare(factory)
    require_own_store(factory)
    with api_client(factory, raise_server_exceptions=True) as client:
        few = client.post("/v1/annotation-sets?name=few", content=annotated_zip(range(3)), headers=ZIP).json()
        pool = client.post("/v1/image-pools", json={"name": "discs"}).json()
        client.post(f"/v1/image-pools/{pool['id']}/images", content=pool_zip(range(4)), headers=ZIP)
    with factory.work() as work:
        generator = factories.make_generator(work, image_height=32, image_width=32).id
    job = factories.make_job(factory, annotation_set_id=few["id"], generator=generator)
    factories.run_to_end(factory, job.id)
    dataset_id = str(factories.job_now(factory, job.id).result["dataset_id"])
    with factory.work() as work:
        for shard in work.session.scalars(select(DatasetShard)):
            shard.sha256 = put(factory, shard.key, f"shard {shard.index}".encode() * 1_000)
        key = object_keys.dataset_export(dataset_id, "coco", 1)
        datasets.record_export(work, dataset_id, NewExport("coco", key, put(factory, key, b"a zip"), 5, {}))
        new = factories.new_student(dataset_id)
        key = object_keys.student_file(new.id, 1, "config.json")
        new = factories.new_student(
            dataset_id, id=new.id, files=[StudentFile("config.json", key, 2, put(factory, key, b"{}"))]
        )
        put(factory, new.archive_key, b"a zip of a student")
        students.record(work, job.id, new)
    put(factory, object_keys.step_file("step_nobody", 1, "orphan"), b"nobody names this")
    return [
        f"/v1/annotation-sets/{few['id']}/images/0.png",
        f"/v1/datasets/{dataset_id}/exports/coco",
        *(f"/v1/datasets/{dataset_id}/shards/{index}" for index in range(3)),
        f"/v1/students/{new.id}/files/config.json",
        f"/v1/students/{new.id}/archive",
        f"/v1/image-pools/{pool['id']}",
    ]


def downloaded(factory: Factory, paths: list[str]) -> dict[str, str]:
    """Digests of the answers' bytes."""
    found = {}
    with api_client(factory, raise_server_exceptions=True) as client:
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            found[path] = hashlib.sha256(answer.content).hexdigest()
    return found


def rows(factory: Factory) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, as this release reads them."""
    from service.tables import Base

    with factory.read() as work:
        return {
            table.name: [dict(row._mapping) for row in work.session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
            if table.name not in ("duties", "workers")
        }


@contextmanager
def writing(factory: Factory) -> Iterator[list[int]]:
    """Workers and uploads go on meanwhile: pools grow, jobs come, steps end, checkpoints are superseded."""
    done: list[int] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with factory.work() as work:
                pool = image_pools.create(work, "meanwhile")
                part = io.BytesIO(f"part {len(done)}".encode())
                image_pools.add_part(work, pool.id, part, num_images=1, image_height=8, image_width=8)
            factories.make_job(factory)
            step = factories.must_claim(factory)
            folder = factory.settings.data_dir / "scratch" / f"checkpoint-{len(done)}"
            checkpoint = Checkpoint(factory, step, folder)
            checkpoint.restore()
            for number in range(3):
                (folder / "state").write_text(f"{number}" * (number + 1))
                checkpoint.save()
            if len(done) % 2:
                with factory.work() as work:
                    if step.kind == "label_shard":
                        factories.record_shard(work, step, sha256=put(factory, factories.shard_key(step), b"a shard"))
                    steps.record_success(work, step.id, step.token, {"kind": step.kind})
                checkpoint.discard()
            done.append(1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not done:
            stop.wait(0.01)
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "target"), [("embedded", "embedded"), ("cluster", "cluster")])
def test_a_backup_under_load_comes_back_with_the_same_bytes(place: Any, tmp_path: Path, kind: str, target: str) -> None:
    factory = place(kind, "before")
    paths = fill(factory)
    before = downloaded(factory, paths)
    with writing(factory) as done:
        card = back_up(factory, tmp_path / "backup")
        while len(done) < 4:
            threading.Event().wait(0.01)
    assert card.missing == []
    restored = place(target, "after")
    restore(restored, tmp_path / "backup")
    assert downloaded(restored, paths) == before
    with restored.read() as work:
        for key, sha256 in digests(work):
            if sha256 != "0" * 64:
                assert hashlib.sha256(b"".join(restored.storage.get_stream(key))).hexdigest() == sha256, key
    assert not any("step_nobody" in found.key for batch in restored.storage.scan() for found in batch)
    assert collect(restored, dry_run=True, older_than_seconds=0).num_removed == 0, "a backup has no orphans"
    # The factory goes on: what ran is claimed again, and new events come after the old ones.
    with restored.work() as work:
        last = work.session.execute(text("SELECT max(id) FROM events")).scalar_one()
    job = factories.make_job(restored)
    with restored.read() as work:
        assert all(event.id > last for event in events.after(work, job.id))
    with restored.read() as work:
        running = list(work.session.scalars(select(Step).where(Step.state == "running")))
    for step in running:
        factories.lose(restored, step.id)
        with restored.work() as work:
            steps.reap(work)
        assert factories.state_of(restored, step.id) == "ready"


@pytest.mark.parametrize("target", PLACES)
@pytest.mark.parametrize("kind", PLACES)
def test_every_row_comes_back_as_it_was_whatever_the_database(
    place: Any, tmp_path: Path, kind: str, target: str
) -> None:
    factory = place(kind, "before")
    paths = fill(factory)
    bytes_before, before = downloaded(factory, paths), rows(factory)
    back_up(factory, tmp_path / "backup")
    restored = place(target, "after")
    restore(restored, tmp_path / "backup")
    assert rows(restored) == before
    assert downloaded(restored, paths) == bytes_before
    require_own_store(restored)


def test_a_damaged_or_unfinished_backup_is_refused(place: Any, tmp_path: Path) -> None:
    factory = place("embedded", "before")
    fill(factory)
    folder = tmp_path / "backup"
    back_up(factory, folder)
    shard = next((folder / "objects").rglob("*.tar"))
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"?")
    with pytest.raises(Invalid, match="damaged"):
        restore(place("embedded", "second"), folder)
    shard.unlink()
    with pytest.raises(Invalid, match="lacks the object"):
        restore(place("embedded", "third"), folder)
    shard.write_bytes(good)
    card = json.loads((folder / "backup.json").read_text())
    (folder / "backup.json").write_text(json.dumps({**card, "revision": "9999"}))
    with pytest.raises(Invalid, match="install that one or a newer one"):
        restore(place("embedded", "fourth"), folder)
    (folder / "backup.json").unlink()
    with pytest.raises(Invalid, match="not a whole backup"):
        restore(place("embedded", "fifth"), folder)
    assert not inspect(place("embedded", "fifth").engine).get_table_names()


def test_a_place_that_is_not_empty_is_refused_and_left_alone(place: Any, tmp_path: Path) -> None:
    factory = place("embedded", "before")
    paths = fill(factory)
    before = downloaded(factory, paths)
    back_up(factory, tmp_path / "backup")
    with pytest.raises(Conflict, match="already has tables"):
        restore(factory, tmp_path / "backup")
    assert downloaded(factory, paths) == before
    other = place("embedded", "other")
    put(other, "notes/of somebody", b"x")
    with pytest.raises(Conflict, match="already has objects"):
        restore(other, tmp_path / "backup")
    with pytest.raises(Conflict, match="not empty"):
        back_up(factory, tmp_path / "backup")


def test_what_the_store_has_lost_is_told_and_the_rest_is_saved(place: Any, tmp_path: Path) -> None:
    factory = place("embedded", "before")
    fill(factory)
    with factory.read() as work:
        keys = [shard.key for shard in work.session.scalars(select(DatasetShard))]
    factory.storage.delete(keys[0])
    put(factory, keys[1], b"not what the row says")
    card = back_up(factory, tmp_path / "backup")
    assert sorted(card.missing) == sorted(keys[:2])
    assert card.num_objects > 5


def test_nothing_is_collected_while_a_backup_is_taken(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = place("embedded", "before")
    fill(factory)
    collected = []

    def collect_meanwhile(line: str) -> None:
        collected.append(collect_in_turn(factory))

    back_up(factory, tmp_path / "backup", collect_meanwhile)
    assert collected == [None]
    assert collect_in_turn(factory) is not None, "the duty is given back"
    with factory.read() as work:
        assert 0 <= monitoring.read(work).duty_ages["backup"] < 600


def test_what_was_deleted_is_not_missed_and_what_is_deleted_meanwhile_is_still_copied(
    place: Any, tmp_path: Path
) -> None:
    factory = place("embedded", "before")
    paths = fill(factory)
    before = downloaded(factory, paths)
    with factory.work() as work:
        gone = factories.make_annotation_set(work, content=b"deleted before")
        deletion.delete(work, gone)
    assert purging.purge_in_turn(factory) == 1

    def delete_meanwhile(_line: str) -> None:
        with factory.work() as work:
            for student in work.session.scalars(select(Student)).all():
                deletion.delete(work, student)
        assert purging.purge_in_turn(factory) == 0

    card = back_up(factory, tmp_path / "backup", delete_meanwhile)
    assert card.missing == []
    assert purging.purge_in_turn(factory) == 1, "its duty is given back"
    restored = place("embedded", "after")
    restore(restored, tmp_path / "backup")
    assert downloaded(restored, paths) == before


def test_a_database_without_tables_is_nothing_to_back_up(place: Any, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="no tables"):
        back_up(place("embedded", "empty"), tmp_path / "backup")
    assert not tmp_path.joinpath("backup").exists()


def test_a_dump_can_hold_whatever_a_column_may(migrated_sqlite: Path) -> None:
    """A column of another type needs a reader in service/table_dump.py."""
    engine = make_engine(f"sqlite:///{migrated_sqlite}")
    metadata = MetaData()
    metadata.reflect(engine)
    kinds = {column.type.python_type for table in metadata.tables.values() for column in table.columns}
    engine.dispose()
    assert kinds <= {str, int, float, bool, datetime, JSON().python_type}
