"""Two workspaces over one database: each finds, changes and deletes its own rows, whatever the query."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import aliased

from service import annotation_sets, datasets, events, generators, image_pools, jobs, reports, steps, students, webhooks
from service.bootstrap import Factory
from service.errors import Conflict, Forbidden, Invalid, KeyReused, NotFound
from service.ids import new_id
from service.tables import (
    DEFAULT_WORKSPACE_ID,
    Base,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetShard,
    Duty,
    Event,
    Generator,
    ImagePool,
    Job,
    PoolPart,
    Report,
    ServerSecret,
    Step,
    Student,
    Tally,
    Webhook,
    WebhookDelivery,
    Worker,
    Workspace,
)
from service.tenancy import RULES
from tests import factories
from tests.clients import other_workspace

#: Tables without rows of a workspace.
OF_NOBODY = {Duty, ServerSecret, Tally, Worker}


@pytest.fixture
def others(any_factory: Factory) -> Factory:
    """The same factory as another workspace sees it."""
    return any_factory.within(other_workspace(any_factory))


def furnish(factory: Factory) -> str:
    """A job that ended, with rows in every table of its workspace; its id."""
    dataset = factories.make_dataset(factory)
    with factory.work() as work:
        datasets.record_export(work, dataset.id, datasets.NewExport("coco", "k", "0" * 64, 1, {}))
        student = students.record(work, dataset.job_id, factories.new_student(dataset.id))
        reports.record(work, dataset.job_id, {}, student_id=student.id)
        factories.make_pool(work)
    return dataset.job_id


def test_every_table_has_a_rule() -> None:
    assert {mapper.class_ for mapper in Base.registry.mappers} == {*RULES, *OF_NOBODY}


def test_no_row_of_another_workspace_is_found_by_any_query(any_factory: Factory, others: Factory) -> None:
    furnish(any_factory)
    with any_factory.read() as work:
        keys = {table: work.session.scalars(select(table)).all() for table in RULES if table is not Workspace}
    assert all(keys[table] for table in (Job, Step, Event, ImagePool, PoolPart, Dataset, DatasetShard, DatasetImage))
    assert all(keys[table] for table in (DatasetExport, Student, Report, Generator))
    with others.work() as work:
        for table, rows in keys.items():
            other = aliased(table)
            own = work.session.execute(select(func.count()).select_from(table)).scalar_one()
            assert own == work.session.execute(select(func.count()).select_from(other)).scalar_one()
            found = {
                type(row).__mapper__.primary_key_from_instance(row)[0] for row in work.session.scalars(select(table))
            }
            for row in rows:
                identity = type(row).__mapper__.primary_key_from_instance(row)
                assert work.session.get(table, tuple(identity)) is None, table
                assert identity[0] not in found
        of_steps = select(Job.id).where(Job.id.in_(select(Step.job_id)))
        assert work.session.scalars(of_steps).all() == []
        assert work.session.execute(select(func.count()).where(Step.state != "")).scalar_one() == 0
        assert work.session.execute(select(func.max(Event.id))).scalar_one() is None
        for table in (Job, Step, Dataset, Generator):
            change = update(table).values(state="stolen")
            assert work.session.execute(change, execution_options={"synchronize_session": False}).rowcount == 0
        for table in (Event, DatasetImage, PoolPart, Report):
            gone = delete(table)
            assert work.session.execute(gone, execution_options={"synchronize_session": False}).rowcount == 0


def test_service_functions_say_not_found(any_factory: Factory, others: Factory) -> None:
    job_id = furnish(any_factory)
    with any_factory.read() as work:
        result, step_id = jobs.get(work, job_id).result, steps.list_of_job(work, job_id)[0].id
        set_id = annotation_sets.list_page(work).items[0].id
        pool_id = image_pools.list_page(work).items[0].id
        generator = generators.list_page(work).items[0]
    for look in (
        lambda work: jobs.get(work, job_id),
        lambda work: jobs.cancel(work, job_id),
        lambda work: jobs.retry(work, job_id),
        lambda work: steps.get(work, step_id),
        lambda work: datasets.get(work, result["dataset_id"]),
        lambda work: datasets.get_image(work, result["dataset_id"], 0),
        lambda work: datasets.get_shard(work, result["dataset_id"], 0),
        lambda work: datasets.get_export(work, result["dataset_id"], "coco"),
        lambda work: students.get(work, result["student_id"]),
        lambda work: reports.get(work, result["report_id"]),
        lambda work: annotation_sets.get(work, set_id),
        lambda work: image_pools.seal(work, pool_id),
        lambda work: generators.get(work, generator.id),
        lambda work: generators.get(work, generator.name),
        lambda work: events.get(work, 1),
    ):
        with pytest.raises(NotFound), others.work() as work:
            look(work)
    with others.read() as work:
        assert events.after(work, job_id) == []
        assert reports.list_page(work, student_id=result["student_id"]).items == []


def test_a_job_cannot_refer_to_what_is_not_ours(any_factory: Factory, others: Factory) -> None:
    with any_factory.work() as work:
        set_id, generator = factories.make_annotation_set(work).id, factories.make_generator(work)
    for reference in (generator.id, generator.name):
        with pytest.raises(Invalid) as caught, others.work() as work:
            jobs.create(work, factories.label_spec(work, annotation_set_id=set_id, generator=reference))
        assert {fault["place"] for fault in caught.value.errors} == {"annotation_set_id", "generator"}
        assert all("There is no" in fault["message"] for fault in caught.value.errors)


def test_what_workers_make_belongs_to_the_jobs_workspace(any_factory: Factory, others: Factory) -> None:
    """Workers are bound to no workspace."""
    workers = any_factory.unbound()
    made = []
    for factory in (any_factory, others):
        with factory.work() as work:
            job = jobs.create(work, factories.label_spec(work)).job
        assert job.workspace_id == factory.workspace_id
        factories.run_to_end(workers, job.id)
        with workers.work() as work:
            dataset_id = jobs.get(work, job.id).result["dataset_id"]
            students.record(work, job.id, factories.new_student(dataset_id))
            made.append((factory, reports.record(work, job.id, {}).id))
            assert datasets.get(work, dataset_id).workspace_id == factory.workspace_id
    for factory, report_id in made:
        with factory.read() as work:
            assert [row.id for row in reports.list_page(work).items] == [report_id]
            assert len(students.list_page(work).items) == 1


def test_names_and_idempotency_keys_are_each_workspaces_own(any_factory: Factory, others: Factory) -> None:
    made = []
    for factory in (any_factory, others):
        with factory.work() as work:
            spec = factories.train_spec(work, name="cells")
            made.append(jobs.create(work, spec, idempotency_key="once").job.id)
            assert generators.get(work, "cells").workspace_id == factory.workspace_id
    assert made[0] != made[1]
    with pytest.raises(KeyReused), others.work() as work:
        jobs.create(work, factories.train_spec(work, name="tissue"), idempotency_key="once")


def test_only_the_things_own_workspace_is_told_by_its_webhooks(any_factory: Factory, others: Factory) -> None:
    for factory in (any_factory, others):
        with factory.work() as work:
            types = list(webhooks.EVENT_TYPES)
            work.session.add(
                Webhook(id=new_id("wh"), url="https://x.example", event_types=types, state="enabled", secret="whsec_")
            )
    with others.work() as work:
        job = jobs.create(work, factories.label_spec(work)).job
    factories.run_to_end(any_factory.unbound(), job.id)
    for factory, told in ((any_factory, 0), (others, 1)):
        with factory.read() as work:
            found = work.session.scalars(select(WebhookDelivery)).all()
            assert [message.event_type for message in found] == ["job.succeeded"] * told


def test_a_failed_generators_name_is_freed_in_its_workspace_only(any_factory: Factory, others: Factory) -> None:
    for factory in (any_factory, others):
        with factory.work() as work:
            factories.make_generator(work, name="cells", state="failed")
    with others.work() as work:
        jobs.create(work, factories.train_spec(work, name="cells"))
    with any_factory.read() as work:
        assert generators.get(work, "cells").state == "failed"


def test_what_the_operator_offers_is_seen_by_all_and_changed_by_the_operator(
    any_factory: Factory, others: Factory
) -> None:
    with any_factory.unbound().work() as work:
        offered = factories.make_generator(work, name="portraits")
        assert offered.workspace_id is None
    with others.work() as work:
        assert generators.get(work, "portraits").id == offered.id
        change = update(Generator).values(name="mine").execution_options(synchronize_session=False)
        assert work.session.execute(change).rowcount == 0
    with pytest.raises(Forbidden, match="The operator offers"), others.work() as work:
        generators.delete(work, offered.id)
    with pytest.raises(RuntimeError, match="on behalf of"), others.work() as work:
        generators.get(work, offered.id).name = "mine"
    with others.work() as work:
        own = factories.make_generator(work, name="portraits")
        assert generators.get(work, "portraits").id == own.id
        assert generators.get(work, offered.id).id == offered.id
        job = jobs.create(work, factories.label_spec(work, generator=offered.id)).job
    with pytest.raises(Conflict, match=job.id), any_factory.work() as work:
        generators.delete(work, offered.id)
    with others.work() as work:
        jobs.cancel(work, job.id)
    with any_factory.work() as work:
        generators.delete(work, offered.id)
    with others.read() as work:
        assert generators.get(work, "portraits").id == own.id


def test_a_row_for_another_workspace_is_refused(any_factory: Factory, others: Factory) -> None:
    with pytest.raises(RuntimeError, match="on behalf of"), others.work() as work:
        work.session.add(ImagePool(id="pool_x", workspace_id=DEFAULT_WORKSPACE_ID, name="x", state="open"))
