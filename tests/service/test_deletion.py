"""Deleting leaves a row for whatever came from the thing, and never takes away what a job still needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

from service import annotation_sets, datasets, generators, image_pools, jobs, overview, reports, students
from service.bootstrap import Factory
from service.errors import Conflict, Gone, Invalid, KeyReused, NotFound
from service.ids import new_id
from service.job_inputs import FIELDS, NOUNS
from service.job_spec import DistillSpec, EvaluateSpec, LabelSpec, parse
from service.tables import Base, Generator, Job, Step
from service.tables.base import Deletable
from tests import factories

MODULES: dict[str, ModuleType] = {
    "annotation set": annotation_sets,
    "image pool": image_pools,
    "generator": generators,
    "dataset": datasets,
    "student": students,
    "report": reports,
    "job": jobs,
}
"""Noun -> the functions of it."""


def made_by_a_job(factory: Factory) -> dict[str, str]:
    """Everything there is, made by jobs that have ended; noun -> id."""
    with factory.work() as work:
        pool, few = factories.make_pool(work), factories.make_annotation_set(work)
        generator = factories.make_generator(work)
    dataset = factories.make_dataset(factory, annotation_set_id=few.id, generator=generator.id)
    with factory.work() as work:
        student = students.record(work, dataset.job_id, factories.new_student(dataset.id))
        report = reports.record(work, dataset.job_id, {"verdict": "good"}, student_id=student.id)
    return {
        "annotation set": few.id,
        "image pool": pool.id,
        "generator": generator.id,
        "dataset": dataset.id,
        "student": student.id,
        "report": report.id,
        "job": dataset.job_id,
    }


def delete(factory: Factory, noun: str, row_id: str) -> None:
    with factory.work() as work:
        MODULES[noun].delete(work, row_id)


def spec(**document: Any) -> Any:
    return parse(document)


def test_every_deletable_table_has_its_case() -> None:
    tables = {mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, Deletable)}
    assert tables == {*NOUNS, Job}
    assert set(FIELDS) == set(NOUNS)
    assert set(MODULES) == {*NOUNS.values(), "job"}


@pytest.mark.parametrize("noun", MODULES)
def test_what_was_deleted_is_gone_and_listed_no_more(any_factory: Factory, noun: str) -> None:
    ids = made_by_a_job(any_factory)
    module = MODULES[noun]
    with any_factory.read() as work:
        before = overview.totals(work)
    delete(any_factory, noun, ids[noun])
    with any_factory.read() as work:
        assert module.list_page(work).items == []
        after = overview.totals(work)
        with pytest.raises(Gone, match=ids[noun]):
            module.get(work, ids[noun])
        for other in set(MODULES) - {noun}:
            assert MODULES[other].get(work, ids[other]).deleted_at is None
    gone = {name for name in before if before[name] != after[name]}
    assert gone == ({noun.replace(" ", "_") + "s"} & set(before)) | ({"images"} if noun == "dataset" else set())
    for row_id, refusal in ((ids[noun], Gone), (new_id("job"), NotFound), ("../x", NotFound)):
        with pytest.raises(refusal):
            delete(any_factory, noun, row_id)


def test_a_job_that_goes_on_keeps_what_it_takes_in_and_makes(any_factory: Factory) -> None:
    with any_factory.work() as work:
        pool, few, held_out = (
            factories.make_pool(work),
            factories.make_annotation_set(work),
            factories.make_annotation_set(work),
        )
        generator, encoder = factories.make_generator(work), factories.make_generator(work, family="encoder")
    job = factories.make_job(
        any_factory,
        annotation_set_id=few.id,
        evaluation_set_id=held_out.id,
        generator=generator.name,
        encoder=encoder.name,
        image_pool_id=pool.id,
        pools=["synthesized", "encoded"],
    )
    factories.succeed(any_factory, factories.must_claim(any_factory))  # the head: the dataset is there now
    dataset_id = str(factories.job_now(any_factory, job.id).result["dataset_id"])
    needed = [
        ("image pool", pool.id),
        ("annotation set", few.id),
        ("annotation set", held_out.id),
        ("generator", generator.id),
        ("generator", encoder.id),
        ("dataset", dataset_id),
        ("job", job.id),
    ]
    for noun, row_id in needed:
        with pytest.raises(Conflict, match=job.id):
            delete(any_factory, noun, row_id)
    with any_factory.work() as work:
        jobs.cancel(work, job.id)
    for noun, row_id in needed:
        delete(any_factory, noun, row_id)


def test_a_failed_job_whose_step_still_runs_keeps_its_dataset(any_factory: Factory) -> None:
    job = factories.make_job(any_factory)
    factories.succeed(any_factory, factories.must_claim(any_factory))
    step = factories.must_claim(any_factory)
    with any_factory.work() as work:
        row = jobs.get(work, job.id)
        row.state = "failed"
    for noun, row_id in (("dataset", str(step.job_result["dataset_id"])), ("job", job.id)):
        with pytest.raises(Conflict, match=job.id):
            delete(any_factory, noun, row_id)
    factories.succeed(any_factory, step)
    delete(any_factory, "dataset", str(step.job_result["dataset_id"]))


@pytest.mark.parametrize("noun", ["dataset", "generator", "annotation set"])
def test_what_measures_a_head_needs_all_that_the_head_came_from(any_factory: Factory, noun: str) -> None:
    ids = made_by_a_job(any_factory)
    with any_factory.work() as work:
        held_out = factories.make_annotation_set(work)
        job = jobs.create(work, spec(kind="evaluate", dataset_id=ids["dataset"], evaluation_set_id=held_out.id)).job
    with pytest.raises(Conflict, match=job.id):
        delete(any_factory, noun, ids[noun])
    delete(any_factory, "image pool", ids["image pool"])


def test_a_deleted_thing_cannot_be_named_in_a_job(any_factory: Factory) -> None:
    ids = made_by_a_job(any_factory)
    for noun in ("generator", "student"):
        delete(any_factory, noun, ids[noun])
    with any_factory.work() as work:
        few = factories.make_annotation_set(work)
        for wish, place in (
            (spec(kind="label", annotation_set_id=few.id, generator=ids["generator"]), "generator"),
            (spec(kind="evaluate", student_id=ids["student"], evaluation_set_id=few.id), "student_id"),
            (spec(kind="evaluate", dataset_id=ids["dataset"], evaluation_set_id=few.id), "dataset_id"),
        ):
            with pytest.raises(Invalid) as caught:
                jobs.create(work, wish)
            assert [error["place"] for error in caught.value.errors] == [place]


def test_a_student_is_distilled_from_a_dataset_whose_generator_and_labels_are_gone(any_factory: Factory) -> None:
    """Its labels are in the dataset; but features come from the generator."""
    ids = made_by_a_job(any_factory)
    with any_factory.work() as work:
        few = factories.make_annotation_set(work)
    for noun in ("generator", "annotation set", "job"):
        delete(any_factory, noun, ids[noun])
    wish = {"kind": "distill", "dataset_id": ids["dataset"], "annotation_set_id": few.id}
    with any_factory.work() as work, pytest.raises(Invalid, match="features"):
        jobs.create(work, spec(**wish, student={"mode": "feature"}))
    with any_factory.work() as work:
        made = jobs.create(work, spec(**wish)).job
    assert isinstance(parse(made.spec), DistillSpec)


def test_a_job_goes_on_only_with_all_it_had(any_factory: Factory) -> None:
    for noun in ("annotation set", "dataset"):
        with any_factory.work() as work:
            few = factories.make_annotation_set(work)
        job = factories.make_job(any_factory, annotation_set_id=few.id)
        factories.succeed(any_factory, factories.must_claim(any_factory))
        with any_factory.work() as work:
            jobs.cancel(work, job.id)
        row_id = (
            few.id if noun == "annotation set" else str(factories.job_now(any_factory, job.id).result["dataset_id"])
        )
        delete(any_factory, noun, row_id)
        with any_factory.work() as work, pytest.raises(Conflict, match=f"{noun} {row_id}"):
            jobs.retry(work, job.id)
        assert factories.job_now(any_factory, job.id).state == "cancelled"


def test_a_deleted_job_is_not_taken_up_again(any_factory: Factory) -> None:
    with any_factory.work() as work:
        wish = factories.label_spec(work)
        job = jobs.create(work, wish, idempotency_key="once").job
        jobs.cancel(work, job.id)
    delete(any_factory, "job", job.id)
    for verb in (jobs.retry, jobs.cancel):
        with any_factory.work() as work, pytest.raises(Gone):
            verb(work, job.id)
    with any_factory.work() as work, pytest.raises(KeyReused, match="deleted"):
        jobs.create(work, wish, idempotency_key="once")
    with any_factory.work() as work:
        assert jobs.create(work, wish).created
        assert jobs.counts(work) == {"queued": 1}


def test_what_came_from_a_dataset_still_knows_it(any_factory: Factory) -> None:
    ids = made_by_a_job(any_factory)
    with any_factory.work() as work:
        datasets.get(work, ids["dataset"]).card = {"generator": {"name": "portraits"}}
    for noun in ("dataset", "job", "annotation set"):
        delete(any_factory, noun, ids[noun])
    with any_factory.work() as work:
        student = students.get(work, ids["student"])
        assert student.dataset_id == ids["dataset"]
        kept = datasets.get(work, ids["dataset"], deleted=True)
        assert kept.card == {"generator": {"name": "portraits"}}
        # What it has learned from is still known: it is not measured on that.
        held_out = factories.make_annotation_set(work)
        wish = spec(kind="evaluate", student_id=student.id, evaluation_set_id=held_out.id)
        assert isinstance(parse(jobs.create(work, wish).job.spec), EvaluateSpec)


def test_a_generator_gives_its_name_up(any_factory: Factory) -> None:
    with any_factory.work() as work:
        first = factories.make_generator(work, name="cells")
    for _ in range(2):
        delete(any_factory, "generator", first.id)
        with any_factory.work() as work:
            first = factories.make_generator(work, name="cells")
            assert generators.get(work, "cells").id == first.id
    with any_factory.work() as work:
        assert len(list(work.session.scalars(select(Generator)))) == 3
        jobs.create(work, factories.train_spec(work, base_generator=first.id))
        with pytest.raises(Conflict):
            generators.delete(work, first.id)


def test_what_the_operator_offers_is_taken_out_of_the_folder_first(factory: Factory, tmp_path: Path) -> None:
    import dataclasses

    folder = tmp_path / "generators"
    factories.write_generator(folder / "tiny")
    offering = dataclasses.replace(
        factory, settings=factory.settings.model_copy(update={"bundled_generators_dir": folder})
    )
    with offering.work() as work:
        (row,) = generators.register_folder(work, folder)
    with pytest.raises(Conflict, match="folder"):
        delete(offering, "generator", row.id)
    (folder / "tiny" / "generator.json").unlink()
    delete(offering, "generator", row.id)
    factories.write_generator(folder / "again")
    with offering.work() as work:
        assert [item.name for item in generators.register_folder(work, folder)] == ["again"]


def test_nothing_is_added_to_a_deleted_pool(any_factory: Factory) -> None:
    import io

    with any_factory.work() as work:
        pool = factories.make_pool(work, sealed=False)
    delete(any_factory, "image pool", pool.id)
    with any_factory.work() as work, pytest.raises(Gone):
        image_pools.add_part(work, pool.id, io.BytesIO(b"x"), num_images=1, image_height=64, image_width=64)
    with any_factory.work() as work, pytest.raises(Gone):
        image_pools.seal(work, pool.id)


def at_once(*actions: Callable[[], None]) -> list[Exception | None]:
    """What each raised, all begun together."""
    raised: list[Exception | None] = [None] * len(actions)
    gate = threading.Barrier(len(actions))

    def run(place: int, action: Callable[[], None]) -> None:
        gate.wait()
        try:
            action()
        except Exception as error:
            raised[place] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


@pytest.mark.parametrize("verb", ["create", "retry"])
@pytest.mark.parametrize("first", ["job", "deletion"])
def test_a_job_and_a_deletion_at_the_same_time_agree(any_factory: Factory, verb: str, first: str) -> None:
    """Whichever is first: never a job that goes on without what it takes in."""
    for _ in range(3):
        with any_factory.work() as work:
            few_id = factories.make_annotation_set(work).id
            wish = factories.label_spec(work, annotation_set_id=few_id)
            job_id = ""
            if verb == "retry":
                job_id = jobs.create(work, wish).job.id
                jobs.cancel(work, job_id)
        actions = [partial(start, any_factory, wish, few_id, job_id), partial(remove, any_factory, few_id)]
        raised = at_once(*(actions if first == "job" else actions[::-1]))
        assert sum(error is None for error in raised) == 1, raised
        assert all(isinstance(error, Conflict | Invalid | Gone) for error in raised if error is not None), raised
        with any_factory.work() as work:
            going = list(work.session.scalars(select(Job).where(Job.state.in_(["queued", "running"]))))
            deleted = annotation_sets.get(work, few_id, deleted=True).deleted_at is not None
            assert bool(going) != deleted
            for job in going:
                jobs.cancel(work, job.id)


def start(factory: Factory, wish: LabelSpec, few_id: str, job_id: str) -> None:
    """Make the job, or take it up again, after a look that comes before the other's commit."""
    with factory.work() as work:
        annotation_sets.get(work, few_id)
        if job_id:
            jobs.retry(work, job_id)
        else:
            jobs.create(work, wish)
        time.sleep(0.05)


def remove(factory: Factory, few_id: str) -> None:
    """Delete what it takes in."""
    with factory.work() as work:
        annotation_sets.delete(work, few_id)
        time.sleep(0.05)


def test_steps_of_a_deleted_job_are_never_claimed(any_factory: Factory) -> None:
    job = factories.make_job(any_factory)
    with any_factory.work() as work:
        jobs.cancel(work, job.id)
    delete(any_factory, "job", job.id)
    assert factories.claim(any_factory) is None
    with any_factory.read() as work:
        assert {step.state for step in work.session.scalars(select(Step))} == {"cancelled"}
