"""What a benchmark was begun with stays: rows of other budgets would not be comparable. And what a pack does not have."""

from pathlib import Path

import pytest

from cli.benchmark.command import with_digest, with_fixed, within
from cli.client import CliError


def test_options_that_rows_share_may_be_repeated_but_not_changed() -> None:
    facts = with_fixed({"pack": "cells"}, {"images": 300, "student_steps": None})
    assert with_fixed(facts, {"images": 300, "student_steps": None}) == facts
    with pytest.raises(CliError, match="--images: this benchmark was begun with 300, not 200"):
        with_fixed(facts, {"images": 200})
    with pytest.raises(CliError, match="--student-steps: this benchmark was begun with the default, not 50"):
        with_fixed(facts, {"student_steps": 50})


def test_rows_with_samples_may_come_later_and_those_without_at_any_time() -> None:
    assert with_fixed({"pack": "cells"}, {"images": 0}) == {"pack": "cells"}
    assert with_fixed({"images": 0}, {"images": 300}) == {"images": 300}
    assert with_fixed({"images": 300}, {"images": 0}) == {"images": 300}


def test_a_given_generator_must_stay_the_same_and_a_trained_one_may_be_trained_again() -> None:
    facts = with_digest({}, "aaa", given=True)
    assert with_digest(facts, "aaa", given=True) == facts
    with pytest.raises(CliError, match="another generator"):
        with_digest(facts, "bbb", given=True)
    assert with_digest(facts, "bbb", given=False)["generator_digests"] == ["aaa", "bbb"]


def test_numbers_of_labels_that_a_pack_does_not_have_are_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    few = Path("few.zip")
    assert within([5, 10], 10, few) == [5, 10]
    assert capsys.readouterr().err == ""
    assert within([5, 10, 20, 40], 12, few) == [5, 10]
    assert "few.zip has 12 annotated images: --labels 20,40 is left out" in capsys.readouterr().err
    with pytest.raises(CliError, match=r"--labels 5: few\.zip has 4 annotated images"):
        within([5, 10], 4, few)
