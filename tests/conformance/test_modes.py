"""Every operator gives the same rows however its input is cut and however it is pulled."""

from __future__ import annotations

import random

import cloudpickle
import pytest
from cases import CASES
from conformance import (
    Case,
    Run,
    as_told,
    at_once,
    at_random,
    is_batch,
    one_by_one,
    with_gaps,
)

ALL = [
    pytest.param(case, id=f"{module}: {case.name}")
    for module, some in CASES.items()
    for case in some
]
every_case = pytest.mark.parametrize("case", ALL)


@every_case
@pytest.mark.parametrize("cut", [as_told, one_by_one, at_once, with_gaps], ids=lambda c: c.__name__)
def test_the_same_rows_come_out(case: Case, cut):
    Run(case).play(cut(case.story, random.Random(1)))


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_the_same_rows_come_out_of_any_cut_of_larger_buffers(case: Case, seed):
    Run(case, views=True).play(at_random(case.story, random.Random(seed)))


@every_case
def test_a_firing_that_is_stopped_after_each_batch_goes_on_where_it_was(case: Case):
    Run(case, starved=True).play(at_once(case.story, random.Random(1)))
    Run(case, starved=True).play(at_random(case.story, random.Random(7)))


@every_case
def test_an_operator_can_be_closed_at_any_moment(case: Case):
    rng = random.Random(3)
    told = at_random(case.story, rng)
    for stop in {0, 1, len(told) // 2, len(told)}:
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
