"""The plan: pure functions, tried without a database."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from service.job_spec import JobSpec, LabelSpec, TrainGeneratorSpec, parse
from service.plan import PlanFacts, StepView, expected_steps, is_complete, next_steps, stopped_outcome

FACTS = PlanFacts(shard_size=256, num_pool_images=300)
KINDS = [get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(JobSpec)[0])]


def spec(**changes: Any) -> LabelSpec:
    found = parse({"kind": "label", "annotation_set_id": "a", "generator": "g", "num_images": 600, **changes})
    assert isinstance(found, LabelSpec)
    return found


def kinds(spec: LabelSpec, *done: str) -> list[str]:
    steps = [StepView(kind, "succeeded") for kind in done]
    return [step.kind for step in next_steps(spec, steps, FACTS)]


def test_stages_follow_each_other() -> None:
    full = spec(evaluation_set_id="e")
    assert kinds(full) == ["fit_head", "train_baseline"]
    begun = ("fit_head", "train_baseline")
    assert kinds(full, *begun) == ["label_shard"] * 3
    assert kinds(full, *begun, "label_shard") == ["seal_dataset"]
    sealed = (*begun, "label_shard", "seal_dataset")
    assert kinds(full, *sealed) == ["export_dataset", "distil"]
    assert kinds(full, *sealed, "export_dataset", "distil") == ["evaluate"]


def test_without_evaluation_set_there_is_no_baseline() -> None:
    sealed = ("fit_head", "label_shard", "seal_dataset")
    assert kinds(spec(), *sealed) == ["export_dataset", "distil"]
    assert kinds(spec(), *sealed, "export_dataset", "distil") == ["evaluate"]


def test_the_job_may_stop_at_the_dataset() -> None:
    sealed = ("fit_head", "label_shard", "seal_dataset")
    assert kinds(spec(stop_after="dataset"), *sealed) == ["export_dataset"]
    steps = [StepView(kind, "succeeded") for kind in (*sealed, "export_dataset")]
    assert is_complete(spec(stop_after="dataset"), steps)
    assert not is_complete(spec(), steps)


def test_training_a_generator_is_one_step() -> None:
    train = parse({"kind": "train_generator", "name": "n", "image_pool_id": "p"})
    assert isinstance(train, TrainGeneratorSpec)
    assert [step.kind for step in next_steps(train, [], FACTS)] == ["train_generator"]


def made(wish: JobSpec, facts: PlanFacts = FACTS) -> list[str]:
    """Kinds of all steps in the order they are made, when each wave succeeds before the next."""
    steps: list[StepView] = []
    while new := next_steps(wish, steps, facts):
        assert not is_complete(wish, steps)
        steps += [StepView(step.kind, "succeeded") for step in new]
    assert is_complete(wish, steps)
    return [step.kind for step in steps]


def test_a_student_of_the_few_labels_is_measured_where_there_is_something_to_measure_on() -> None:
    alone = {"kind": "train_student", "annotation_set_id": "a"}
    assert made(parse(alone)) == ["train_student"]
    assert made(parse({**alone, "evaluation_set_id": "e"})) == ["train_student", "evaluate"]


def test_distilling_again_and_measuring_again_are_the_last_steps_of_a_label_job() -> None:
    assert made(parse({"kind": "distill", "dataset_id": "d"})) == ["distil"]
    assert made(parse({"kind": "distill", "dataset_id": "d", "evaluation_set_id": "e"})) == ["distil", "evaluate"]
    assert made(parse({"kind": "evaluate", "student_id": "s", "evaluation_set_id": "e"})) == ["evaluate"]


def test_exporting_again_is_one_step_for_a_worker_without_an_accelerator() -> None:
    (step,) = next_steps(parse({"kind": "export", "dataset_id": "d"}), [], FACTS)
    assert (step.kind, step.queue) == ("export_dataset", "cpu")


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """Jobs of every kind."""
    ids, held_out = st.just("x"), st.none() | st.just("e")
    label = {
        "annotation_set_id": ids,
        "generator": ids,
        "image_pool_id": ids,
        "evaluation_set_id": held_out,
        "pools": st.sampled_from([["synthesized"], ["encoded"], ["synthesized", "encoded"]]),
        "num_images": st.integers(1, 2_000),
        "max_encoded_images": st.none() | st.integers(1, 500),
        "stop_after": st.sampled_from(["dataset", "student"]),
    }
    kinds = {
        "label": label,
        "train_generator": {"name": ids, "image_pool_id": ids},
        "train_student": {"annotation_set_id": ids, "evaluation_set_id": held_out},
        "distill": {"dataset_id": ids, "evaluation_set_id": held_out},
        "evaluate": {"student_id": ids, "evaluation_set_id": ids},
        "export": {"dataset_id": ids},
    }
    assert list(kinds) == KINDS, "a kind without a strategy here"
    return st.one_of(*(st.fixed_dictionaries({"kind": st.just(kind), **fields}) for kind, fields in kinds.items()))


@given(document=documents(), num_pool_images=st.integers(1, 2_000), shard_size=st.integers(1, 300))
def test_as_many_steps_are_made_as_were_expected(
    document: dict[str, Any], num_pool_images: int, shard_size: int
) -> None:
    wish, facts = parse(document), PlanFacts(shard_size, num_pool_images)
    assert len(made(wish, facts)) == expected_steps(wish, facts)


def test_a_running_sibling_holds_the_next_stage() -> None:
    steps = [
        StepView("fit_head", "succeeded"),
        StepView("label_shard", "succeeded"),
        StepView("label_shard", "running"),
    ]
    assert next_steps(spec(), steps, FACTS) == []


def test_outcomes() -> None:
    running, failed = StepView("label_shard", "running"), StepView("label_shard", "failed")
    assert stopped_outcome([running, failed], cancelling=False) == "failed"
    assert stopped_outcome([running], cancelling=True) is None
    assert stopped_outcome([failed], cancelling=True) == "cancelled"


@given(
    pools=st.sampled_from([["synthesized"], ["encoded"], ["synthesized", "encoded"], ["encoded", "synthesized"]]),
    num_images=st.integers(1, 2_000),
    num_pool_images=st.integers(1, 2_000),
    most=st.none() | st.integers(1, 500),
    shard_size=st.integers(1, 300),
)
def test_shards_cover_every_image_once(
    pools: list[str], num_images: int, num_pool_images: int, most: int | None, shard_size: int
) -> None:
    wish = spec(pools=pools, num_images=num_images, image_pool_id="p", max_encoded_images=most)
    facts = PlanFacts(shard_size, num_pool_images)
    shards = next_steps(wish, [StepView("fit_head", "succeeded")], facts)
    covered = {"synthesized": [], "encoded": []}  # type: dict[str, list[int]]
    indexes: list[int] = []
    for number, shard in enumerate(shards):
        params = shard.params
        assert shard.index == params["shard_index"] == number
        assert 1 <= params["count"] <= shard_size
        covered[params["pool"]] += range(params["start"], params["start"] + params["count"])
        indexes += range(params["first_index"], params["first_index"] + params["count"])
    wanted = {"synthesized": num_images, "encoded": min(num_pool_images, most or num_pool_images)}
    for pool, images in covered.items():
        assert images == list(range(wanted[pool] if pool in pools else 0))
    assert indexes == list(range(len(indexes)))
    assert expected_steps(wish, facts) == len(shards) + 5


def test_seeds_depend_on_the_job_and_the_pool_only() -> None:
    wish = spec(pools=["synthesized", "encoded"], image_pool_id="p", seed=7)
    fitted = [StepView("fit_head", "succeeded")]
    by_size = [
        {step.params["pool"]: step.params["seed"] for step in next_steps(wish, fitted, PlanFacts(size, 300))}
        for size in (10, 200)
    ]
    assert by_size[0] == by_size[1]
    assert by_size[0]["synthesized"] != by_size[0]["encoded"]
    assert all(0 <= seed < 2**62 for seed in by_size[0].values())
