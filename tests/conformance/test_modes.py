"""Every operator gives the same rows however its input is cut and however it is pulled."""

from __future__ import annotations

import random
from dataclasses import replace

import cloudpickle
import pytest
from cases import CASES
from conformance import (
    Case,
    Row,
    Run,
    at_once,
    at_random,
    difference,
    expected,
    is_batch,
    keyed_rows,
    one_by_one,
    same,
    with_gaps,
)
from conformance_jobs import run

ALL = [
    pytest.param(case, id=f"{module}: {case.name}")
    for module, some in CASES.items()
    for case in some
]
every_case = pytest.mark.parametrize("case", ALL)


@every_case
@pytest.mark.parametrize("cut", [one_by_one, at_once, with_gaps], ids=lambda c: c.__name__)
def test_the_same_rows_come_out(case: Case, cut):
    Run(case).play(cut(case.story, random.Random(1)))


@every_case
def test_the_same_rows_come_out_of_any_cut_of_larger_buffers(case: Case):
    Run(case, views=True).play(at_random(case.story, random.Random(len(case.name))))


@every_case
def test_a_firing_that_is_stopped_after_each_batch_goes_on_where_it_was(case: Case):
    Run(case, starved=True, views=True).play(at_random(case.story, random.Random(7)))


@every_case
def test_nothing_comes_of_nothing(case: Case):
    empty = replace(case, late=0, watermark=None)
    for told in ([], [[], -5, [], 3]):
        run = Run(empty)
        run.play(told)
        assert run.rows == []


@every_case
def test_a_case_says_something(case: Case):
    rows = expected(case, case.story, ended=True)
    assert bool(rows) == any(map(bool, filter(is_batch, case.story)))


@pytest.mark.parametrize("wrong", [[], [(0, "wrong")]])
def test_a_wrong_expectation_is_found(wrong):
    case = replace(CASES["window_aggregate"][0], expect=lambda told, ended: wrong if ended else [])
    with pytest.raises(AssertionError):
        Run(case).play(case.story)


@every_case
def test_an_operator_can_be_closed_at_any_moment(case: Case):
    rng = random.Random(3)
    told = at_random(case.story, rng)
    for stop in sorted({0, len(told) // 2, len(told)}):
        run = Run(case)
        for item in told[:stop]:
            if is_batch(item):
                run.batch(item)
            else:
                run.watermark(item)
        if stop < len(told):
            run.leave(told[stop])
        elif rng.random() < 0.5:
            run.leave(None)
        run.operator.close()


@every_case
def test_a_spec_can_be_pickled_and_says_what_it_is(case: Case):
    spec = case.spec()
    again = cloudpickle.loads(cloudpickle.dumps(spec))
    assert (again.verb, again.describe()) == (spec.verb, spec.describe())
    assert spec.verb
    assert "\n" not in spec.describe()
    assert "0x" not in spec.describe()


def wanted(case: Case) -> list[Row]:
    rows = expected(case, case.story, ended=True)
    # A sink is not told the keys of objects.
    return [(time, row[2]) for time, row in rows] if case.shown is keyed_rows else rows


@every_case
def test_a_job_with_hardly_any_credit_gives_the_same_rows(case: Case):
    got, rows = run(case, seed=len(case.name), parallelism=1), wanted(case)
    if case.view is not None:
        assert case.view(got) == case.view(rows)
    else:
        assert same(got, rows, ordered=case.ordered), difference(got, rows)


@pytest.mark.parametrize("case", [param for param in ALL if param.values[0].keys is not None])
def test_a_job_of_several_subtasks_gives_the_same_rows(case: Case):
    got, rows = run(case, seed=len(case.name), parallelism=3), wanted(case)
    if case.view is not None:
        assert case.view(got) == case.view(rows)
    else:
        assert same(got, rows, ordered=False), difference(got, rows)
