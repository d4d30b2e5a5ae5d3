"""Jobs: references, idempotency, cancel and retry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update

from service import generators, jobs, leases, steps, students
from service.bootstrap import Factory
from service.clock import database_now
from service.errors import Conflict, Invalid, KeyReused, LeaseLost, NotFound
from service.job_spec import LabelSpec, parse
from service.tables import Step
from service.unit_of_work import Work
from tests.factories import (
    CLASSES,
    claim,
    event_types,
    job_now,
    label_spec,
    make_annotation_set,
    make_dataset,
    make_generator,
    make_job,
    make_pool,
    must_claim,
    new_student,
    run_to_end,
    state_of,
    succeed,
    train_spec,
)

OTHER_CLASSES = [CLASSES[0], {**CLASSES[1], "name": "nucleus"}]


def faults(factory: Factory, **changes: Any) -> dict[str, str]:
    with factory.work() as work, pytest.raises(Invalid) as caught:
        jobs.create(work, label_spec(work, **changes))
    return {error["place"]: error["message"] for error in caught.value.errors}


def test_missing_references_are_all_named(factory: Factory) -> None:
    found = faults(
        factory,
        generator="nobody",
        annotation_set_id="ann_none",
        evaluation_set_id="ann_none",
        image_pool_id="pool_none",
        pools=["encoded"],
    )
    assert set(found) == {"generator", "annotation_set_id", "evaluation_set_id", "image_pool_id"}
    assert found["generator"] == "There is no generator nobody."


def test_sizes_must_equal_the_generators(factory: Factory) -> None:
    with factory.work() as work:
        few = make_annotation_set(work, image_height=32)
        pool = make_pool(work, image_size=128)
    found = faults(factory, annotation_set_id=few.id, image_pool_id=pool.id)
    assert "32x64" in found["annotation_set_id"]
    assert "128x128" in found["image_pool_id"]


def test_one_class_an_open_pool_and_an_unready_generator_are_refused(factory: Factory) -> None:
    with factory.work() as work:
        few = make_annotation_set(work, classes=CLASSES[:1])
        pool = make_pool(work, sealed=False)
        generator = make_generator(work, state="training", name="young")
    found = faults(
        factory, annotation_set_id=few.id, image_pool_id=pool.id, pools=["encoded"], generator=generator.name
    )
    assert "one class only" in found["annotation_set_id"]
    assert "seal it first" in found["image_pool_id"]
    assert "training, not ready" in found["generator"]


def test_the_evaluation_set_must_fit(factory: Factory) -> None:
    with factory.work() as work:
        few, other = make_annotation_set(work), make_annotation_set(work, classes=OTHER_CLASSES)
    assert "nucleus" in faults(factory, evaluation_set_id=other.id)["evaluation_set_id"]
    found = faults(factory, annotation_set_id=few.id, evaluation_set_id=few.id)
    assert "annotation set itself" in found["evaluation_set_id"]


def refused(factory: Factory, **document: Any) -> dict[str, str]:
    """What is wrong with a job of another kind."""
    with factory.work() as work, pytest.raises(Invalid) as caught:
        jobs.create(work, parse(document))
    return {error["place"]: error["message"] for error in caught.value.errors}


def test_a_student_of_the_few_labels_needs_them_and_images_like_them(factory: Factory) -> None:
    kind = "train_student"
    with factory.work() as work:
        few, single = make_annotation_set(work), make_annotation_set(work, classes=CLASSES[:1])
        small, other = make_annotation_set(work, image_width=32), make_annotation_set(work, classes=OTHER_CLASSES)
    assert set(refused(factory, kind=kind, annotation_set_id="ann_no", evaluation_set_id="ann_no")) == {
        "annotation_set_id",
        "evaluation_set_id",
    }
    assert "one class only" in refused(factory, kind=kind, annotation_set_id=single.id)["annotation_set_id"]
    for held_out, words in ((few, "annotation set itself"), (small, "64x32"), (other, "nucleus")):
        found = refused(factory, kind=kind, annotation_set_id=few.id, evaluation_set_id=held_out.id)
        assert words in found["evaluation_set_id"]


def test_a_student_of_the_few_labels_is_a_job_of_two_steps(any_factory: Factory) -> None:
    with any_factory.work() as work:
        few, held_out = make_annotation_set(work, name="discs"), make_annotation_set(work)
        document = {"kind": "train_student", "annotation_set_id": few.id, "evaluation_set_id": held_out.id}
        job = jobs.create(work, parse(document)).job
        assert jobs.num_expected_steps(work, job) == 2
    assert job.name == "train on discs alone"
    assert run_to_end(any_factory, job.id) == ["train_student", "evaluate"]
    assert job_now(any_factory, job.id).state == "succeeded"


def test_another_student_is_distilled_from_what_the_dataset_has(factory: Factory) -> None:
    dataset = make_dataset(factory)
    building = make_job(factory)
    succeed(factory, must_claim(factory))
    with factory.work() as work:
        building_id = str(jobs.get(work, building.id).result["dataset_id"])
        source = str(jobs.get(work, dataset.job_id).spec["annotation_set_id"])
        small, other = make_annotation_set(work, image_width=32), make_annotation_set(work, classes=OTHER_CLASSES)
        few = make_annotation_set(work)
    kind, wish = "distill", {"kind": "distill", "dataset_id": dataset.id}
    nowhere = refused(factory, kind=kind, dataset_id="ds_no", annotation_set_id="ann_no", evaluation_set_id="ann_no")
    assert set(nowhere) == {"dataset_id", "annotation_set_id", "evaluation_set_id"}
    assert "still building" in refused(factory, kind=kind, dataset_id=building_id)["dataset_id"]
    assert "64x32" in refused(factory, **wish, annotation_set_id=small.id)["annotation_set_id"]
    assert "nucleus" in refused(factory, **wish, annotation_set_id=other.id)["annotation_set_id"]
    assert "nucleus" in refused(factory, **wish, evaluation_set_id=other.id)["evaluation_set_id"]
    assert "itself" in refused(factory, **wish, evaluation_set_id=source)["evaluation_set_id"]
    seen = refused(factory, **wish, annotation_set_id=few.id, evaluation_set_id=source)
    assert "learned from" in seen["evaluation_set_id"], "the head has seen it"
    assert "no encoded images" in refused(factory, **wish, pools=["encoded"])["pools"]
    assert set(refused(factory, **wish, student={"weights": "nobodys"})) == {"student.weights"}


def test_features_are_distilled_where_the_generator_still_is(factory: Factory) -> None:
    dataset = make_dataset(factory)
    wish = {"kind": "distill", "dataset_id": dataset.id, "student": {"mode": "mix"}}
    with factory.work() as work:
        jobs.create(work, parse(wish))
        generator_id = jobs.get(work, dataset.job_id).spec["generator"]
        generators.get(work, generator_id).state = "failed"
    assert "no generator" in refused(factory, **wish)["student.mode"]


def test_a_distill_job_pins_the_annotated_images_of_its_dataset(any_factory: Factory) -> None:
    dataset = make_dataset(any_factory, name="cells")
    with any_factory.work() as work:
        job = jobs.create(work, parse({"kind": "distill", "dataset_id": dataset.id})).job
        source = jobs.get(work, dataset.job_id).spec["annotation_set_id"]
        assert jobs.num_expected_steps(work, job) == 1
    assert (job.name, job.result) == ("distil cells", {"dataset_id": dataset.id})
    assert job.spec["annotation_set_id"] == source
    assert run_to_end(any_factory, job.id) == ["distil"]


def test_what_is_measured_has_not_seen_the_images(factory: Factory) -> None:
    dataset = make_dataset(factory, name="cells")
    with factory.work() as work:
        own = make_annotation_set(work)
        job = jobs.create(work, parse({"kind": "distill", "dataset_id": dataset.id, "annotation_set_id": own.id})).job
        student = students.record(work, job.id, new_student(dataset.id))
        source = str(jobs.get(work, dataset.job_id).spec["annotation_set_id"])
        small, other = make_annotation_set(work, image_width=32), make_annotation_set(work, classes=OTHER_CLASSES)
        unseen = make_annotation_set(work)
    run_to_end(factory, job.id)
    measures = ({"student_id": student.id}, {"dataset_id": dataset.id})
    for measure in measures:
        wish = {"kind": "evaluate", **measure}
        for held_out, words in ((source, "itself"), (small.id, "64x32"), (other.id, "nucleus"), ("ann_no", "no annot")):
            assert words in refused(factory, **wish, evaluation_set_id=held_out)["evaluation_set_id"]
    assert "itself" in refused(factory, kind="evaluate", **measures[0], evaluation_set_id=own.id)["evaluation_set_id"]
    for unknown in ({"student_id": "stu_no"}, {"dataset_id": "ds_no"}):
        assert set(refused(factory, kind="evaluate", **unknown, evaluation_set_id=unseen.id)) == set(unknown)
    with factory.work() as work:
        made = [
            jobs.create(work, parse({"kind": "evaluate", **measure, "evaluation_set_id": unseen.id})).job
            for measure in measures
        ]
    assert [job.name for job in made] == ["evaluate student", "evaluate the head of cells"]
    assert [job.result for job in made] == [{}, {}]


def test_a_generator_is_found_by_name_and_pinned_by_id(factory: Factory) -> None:
    with factory.work() as work:
        generator = make_generator(work, name="portraits")
        job = jobs.create(work, label_spec(work, generator="portraits")).job
    assert job.spec["generator"] == generator.id
    assert job.name == "label with portraits"


def students_spec(work: Work, **changes: Any) -> LabelSpec:
    head = {"kind": "student"}
    pool_id = changes.pop("image_pool_id", None) or make_pool(work).id
    return label_spec(work, generator=None, head=head, pools=["encoded"], image_pool_id=pool_id, **changes)


def test_students_label_without_a_generator(factory: Factory) -> None:
    with factory.work() as work:
        job = jobs.create(work, students_spec(work)).job
    assert job.spec["generator"] is None
    assert job.name == "label with students"
    assert run_to_end(factory, job.id)[:2] == ["fit_head", "label_shard"]
    assert job_now(factory, job.id).state == "succeeded"


def test_without_a_generator_the_annotations_say_the_size(factory: Factory) -> None:
    with factory.work() as work:
        pool, held_out = make_pool(work, image_size=128), make_annotation_set(work, image_height=32)
        spec = students_spec(work, image_pool_id=pool.id, evaluation_set_id=held_out.id)
    with factory.work() as work, pytest.raises(Invalid) as caught:
        jobs.create(work, spec)
    found = {error["place"]: error["message"] for error in caught.value.errors}
    assert found.keys() == {"image_pool_id", "evaluation_set_id"}
    assert f"the annotation set {spec.annotation_set_id} has 64x64" in found["image_pool_id"]


def test_the_same_key_and_body_make_one_job(any_factory: Factory) -> None:
    with any_factory.work() as work:
        spec, other = label_spec(work), label_spec(work, seed=1)

    def send() -> tuple[str, bool]:
        with any_factory.work() as work:
            answer = jobs.create(work, spec, idempotency_key="k-1")
            return answer.job.id, answer.created

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(8)]]
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    with pytest.raises(KeyReused), any_factory.work() as work:
        jobs.create(work, other, idempotency_key="k-1")


def test_a_key_finds_its_job_after_a_release_with_more_fields_and_with_defaults_spelled_out(factory: Factory) -> None:
    class LaterSpec(LabelSpec):
        new_option: int = 3

    with factory.work() as work:
        spec = label_spec(work)
        first = jobs.create(work, spec, idempotency_key="k-1").job.id
    said = spec.model_dump(exclude_defaults=True)
    for same in (LaterSpec(**said), LabelSpec(**said, seed=0, sampling_steps=None)):
        with factory.work() as work:
            answer = jobs.create(work, same, idempotency_key="k-1")
            assert (answer.job.id, answer.created) == (first, False)


def test_cancel_of_a_waiting_job_is_immediate(any_factory: Factory) -> None:
    job = make_job(any_factory)
    with any_factory.work() as work:
        assert jobs.cancel(work, job.id).state == "cancelled"
    assert claim(any_factory) is None
    with any_factory.work() as work:
        assert jobs.cancel(work, job.id).state == "cancelled"
    assert event_types(any_factory, job.id).count("job.state") == 3  # queued, cancelling, cancelled


def test_cancel_waits_for_running_steps(any_factory: Factory) -> None:
    job = make_job(any_factory)
    succeed(any_factory, must_claim(any_factory))
    running = must_claim(any_factory)
    with any_factory.work() as work:
        assert jobs.cancel(work, job.id).state == "cancelling"
        assert steps.heartbeat(work, running.id, running.token).cancel_requested
    with any_factory.work() as work:
        steps.record_cancelled(work, running.id, running.token)
    assert job_now(any_factory, job.id).state == "cancelled"


def test_cancel_does_not_wait_for_a_worker_that_missed_its_beats(any_factory: Factory) -> None:
    job = make_job(any_factory)
    dead = must_claim(any_factory)
    settings = any_factory.settings
    silence = leases.MISSED_BEATS * settings.heartbeat_seconds + 1
    with any_factory.work() as work:
        jobs.cancel(work, job.id)
        steps.reap(work)
    assert job_now(any_factory, job.id).state == "cancelling", "it may be between two beats"
    with any_factory.work() as work:
        until = database_now(settings.lease_seconds - silence)
        work.session.execute(update(Step).where(Step.id == dead.id).values(lease_until=until))
    with any_factory.work() as work:
        assert steps.reap(work) == 1
    assert job_now(any_factory, job.id).state == "cancelled"
    with pytest.raises(LeaseLost), any_factory.work() as work:
        steps.record_success(work, dead.id, dead.token, {})


def test_a_step_that_succeeds_while_the_job_is_cancelled_keeps_its_output(factory: Factory) -> None:
    job = make_job(factory)
    step = must_claim(factory)
    with factory.work() as work:
        jobs.cancel(work, job.id)
    succeed(factory, step)
    assert job_now(factory, job.id).state == "cancelled"
    assert state_of(factory, step.id) == "succeeded"
    assert claim(factory) is None


def test_retry_goes_on_where_the_job_stopped(any_factory: Factory) -> None:
    job = make_job(any_factory)
    succeed(any_factory, must_claim(any_factory))
    step = must_claim(any_factory)
    with any_factory.work() as work:
        steps.save_checkpoint(work, step.id, step.token, "steps/x/1-checkpoint")
        steps.record_failure(work, step.id, step.token, {"detail": "no"})
    with any_factory.work() as work:
        retried = jobs.retry(work, job.id)
        assert (retried.state, retried.error, retried.finished_at) == ("running", None, None)
    again = must_claim(any_factory)
    assert (again.id, again.attempt, again.token, again.checkpoint_key) == (step.id, 1, 2, "steps/x/1-checkpoint")
    succeed(any_factory, again)
    assert run_to_end(any_factory, job.id) == ["label_shard", "label_shard", "seal_dataset", "export_dataset"]
    assert job_now(any_factory, job.id).state == "succeeded"


def test_retry_while_a_sibling_is_still_stopping(factory: Factory) -> None:
    job = make_job(factory)
    succeed(factory, must_claim(factory))
    failing, stopping = must_claim(factory, "a"), must_claim(factory, "b")
    with factory.work() as work:
        steps.record_failure(work, failing.id, failing.token, {"detail": "no"})
    with factory.work() as work:
        jobs.retry(work, job.id)
        steps.record_cancelled(work, stopping.id, stopping.token)
    assert state_of(factory, stopping.id) == "ready"
    run_to_end(factory, job.id)
    assert job_now(factory, job.id).state == "succeeded"


def test_after_a_retry_a_sibling_that_fails_late_has_its_attempts_again(any_factory: Factory) -> None:
    """The store was away and is back: who retries must not see the last attempt of before fail the job once more."""
    job = make_job(any_factory)
    succeed(any_factory, must_claim(any_factory))
    failing, late = must_claim(any_factory, "a"), must_claim(any_factory, "b")
    with any_factory.work() as work:
        steps.get(work, late.id).attempt = work.settings.max_attempts
        steps.record_failure(work, failing.id, failing.token, {"detail": "store away"})
    with any_factory.work() as work:
        jobs.retry(work, job.id)
        steps.record_failure(work, late.id, late.token, {"detail": "store away"}, retryable=True)
    assert (job_now(any_factory, job.id).state, state_of(any_factory, late.id)) == ("running", "ready")


def test_ended_jobs_cannot_be_cancelled_and_running_ones_not_retried(factory: Factory) -> None:
    job = make_job(factory)
    with pytest.raises(Conflict), factory.work() as work:
        jobs.retry(work, job.id)
    run_to_end(factory, job.id)
    for verb in (jobs.cancel, jobs.retry):
        with pytest.raises(Conflict), factory.work() as work:
            verb(work, job.id)
    with pytest.raises(NotFound), factory.work() as work:
        jobs.cancel(work, "job_none")


def test_a_training_job_reserves_the_name(factory: Factory) -> None:
    with factory.work() as work:
        spec = train_spec(work, name="tissue")
        job = jobs.create(work, spec).job
        assert generators.get(work, "tissue").state == "training"
        assert job.result == {"generator_id": generators.get(work, "tissue").id}
    with pytest.raises(Invalid) as caught, factory.work() as work:
        jobs.create(work, spec)
    assert caught.value.errors[0]["place"] == "name"
    with factory.work() as work:
        jobs.cancel(work, job.id)
        assert generators.get(work, "tissue").state == "failed"
        jobs.retry(work, job.id)
        assert generators.get(work, "tissue").state == "training"


def training_faults(factory: Factory, **changes: Any) -> dict[str, str]:
    with factory.work() as work, pytest.raises(Invalid) as caught:
        jobs.create(work, train_spec(work, **changes))
    return {error["place"]: error["message"] for error in caught.value.errors}


def test_a_generator_can_begin_with_another(factory: Factory) -> None:
    with factory.work() as work:
        base = make_generator(work, name="painter", family="latent_diffusion")
        job = jobs.create(work, train_spec(work, name="tissue", base_generator="painter")).job
        assert job.spec["base_generator"] == base.id
        assert generators.get(work, "tissue").family == "latent_diffusion"


def test_a_base_that_cannot_be_trained_here_is_refused_by_its_name(factory: Factory) -> None:
    with factory.work() as work:
        make_generator(work, name="large", image_height=96)
        make_generator(work, name="young", state="training")
        make_generator(work, name="gan", family="stylegan2")
        make_generator(work, name="grey", image_channels=1)
    expected = {
        "nobody": "no generator",
        "large": "96x64",
        "young": "not ready",
        "gan": "StyleGAN2",
        "grey": "1 channels",
    }
    for name, words in expected.items():
        found = training_faults(factory, name=f"on-{name}", base_generator=name)
        assert set(found) == {"base_generator"}
        assert words in found["base_generator"]


def test_adapters_are_for_families_with_attention(factory: Factory) -> None:
    with factory.work() as work:
        make_generator(work, name="painter", family="latent_diffusion")
        make_generator(work, name="pixels")
        jobs.create(work, train_spec(work, name="tissue", base_generator="painter", lora_rank=4))
    found = training_faults(factory, base_generator="pixels", lora_rank=4)
    assert set(found) == {"lora_rank"}


def test_a_pool_too_small_for_a_generator_is_refused_at_the_edge(factory: Factory) -> None:
    with factory.work() as work:
        pool_id = make_pool(work, sizes=(15,)).id
    assert "at least 16" in training_faults(factory, name="few", image_pool_id=pool_id)["image_pool_id"]


def test_a_failed_generator_gives_its_name_up(factory: Factory) -> None:
    with factory.work() as work:
        spec = train_spec(work, name="tissue")
        first = jobs.create(work, spec).job.id
        jobs.cancel(work, first)
        second = jobs.create(work, spec).job.id
        assert generators.get(work, "tissue").job_id == second
    with pytest.raises(Conflict, match="taken the name"), factory.work() as work:
        jobs.retry(work, first)
    with factory.read() as work:
        assert jobs.get(work, first).state == "cancelled"
        assert generators.get(work, "tissue").state == "training"


def test_lists_page_through_all_jobs(factory: Factory) -> None:
    ids = [make_job(factory).id for _ in range(5)]
    with factory.read() as work:
        seen, after = [], None
        while True:
            page = jobs.list_page(work, after=after, limit=2, state="queued")
            seen += [job.id for job in page.items]
            if (after := page.next_after) is None:
                break
    assert sorted(seen) == sorted(ids)
    assert seen == sorted(seen, reverse=True)
