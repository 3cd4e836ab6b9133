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
from conformance_run import Run
from conformance_scaling import rescaled

from raystream.clock import ManualClock
from raystream.flow import gather

# A sink keeps what its writer has written, and a source its place: not by themselves, but as
# committables and positions of a checkpoint.
KEPT_ELSEWHERE = {"sink", "source"}

ALL = [
    pytest.param(case, id=f"{module}: {case.name}")
    for module, some in CASES.items()
    for case in some
]
every_case = pytest.mark.parametrize("case", ALL)
kept_case = pytest.mark.parametrize(
    "case",
    [
        param
        for param in ALL
        if param.values[0].keeps and str(param.id).split(":")[0] not in KEPT_ELSEWHERE
    ],
)
told_case = pytest.mark.parametrize("case", [param for param in ALL if param.values[0].told])


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
def test_nothing_changes_where_rows_may_fail_and_none_does(case: Case):
    on_error = case.on_error if case.on_error != "fail" else "dead_letter"
    run = Run(case, starved=True, on_error=on_error)
    run.play(at_random(case.story, random.Random(9)))
    assert bool(run.letters) is (case.on_error == "dead_letter" and bool(case.story))


@kept_case
def test_an_operator_that_takes_up_what_another_kept_goes_on_as_that_one_would(case: Case):
    told = at_random(case.story, random.Random(11))
    Run(case, views=True).play(told, reborn_every=1)


@kept_case
def test_what_is_kept_may_be_more_than_a_batch_can_hold(case: Case, monkeypatch):
    monkeypatch.setattr(gather, "PIECE_BYTES", 100)
    told = at_random(case.story, random.Random(31))
    Run(case, views=True).play(told, reborn_every=3)


@kept_case
def test_a_firing_goes_on_in_an_operator_that_takes_up_what_was_left_of_it(case: Case):
    Run(case, starved=True, reborn=True).play(at_random(case.story, random.Random(5)))


@kept_case
@pytest.mark.parametrize("every", [4])
def test_changes_put_together_are_what_an_operator_keeps(case: Case, every: int):
    told = at_random(case.story, random.Random(19))
    Run(case, views=True, starved=True, incremental=True).play(told, reborn_every=every)


@kept_case
def test_changes_go_on_behind_a_whole_snapshot_of_the_same_moment(case: Case):
    told = at_random(case.story, random.Random(29))
    run = Run(case, views=True, starved=True, incremental=True, stays=True)
    run.play(told, reborn_every=3)


@pytest.mark.parametrize(
    "module",
    [
        "co_process",
        "deduplicate",
        "interval_join",
        "map_with_state",
        "object_aggregate",
        "object_deduplicate",
        "object_top_k",
        "process",
        "reduce",
        "regular_join",
        "running_aggregate",
        "to_changelog",
        "top_k",
        "window_aggregate",
        "window_rows",
    ],
)
def test_operators_of_many_keys_give_only_what_changed(module: str):
    assert any(map(_gives_changes, CASES[module]))


def _gives_changes(case: Case) -> bool:
    run = Run(case, incremental=True)
    assert run.lineages is not None
    for item in one_by_one(case.story, random.Random(23)):
        run.tell(item)
        run.kept()
        if run.lineages.rows_changed:
            break
    run.operator.close()
    return run.lineages.rows_changed > 0


@kept_case
@pytest.mark.parametrize("incremental", [False, True])
def test_nothing_comes_again_behind_the_end(case: Case, incremental: bool):
    run = Run(case, incremental=incremental)
    for item in case.story:
        run.tell(item)
        if incremental:
            run.kept()
    run.end()
    run.check(case.story, ended=True)
    rows, sides = len(run.rows), {tag: len(some) for tag, some in run.sides.items()}
    run.restore([run.kept()])
    run.end()
    assert len(run.rows) == rows
    assert {tag: len(some) for tag, some in run.sides.items()} == sides
    run.finish()


@kept_case
def test_what_was_kept_does_not_change_with_what_the_operator_does_next(case: Case):
    told = at_random(case.story, random.Random(13))
    run = Run(case)
    kept = []
    for item in told:
        run.tell(item)
        kept.append((run.operator.snapshot(), len(run.rows), run.watermark_us, run.clock.now_us()))
    run.end()
    run.check(told, ended=True)
    for at in sorted({0, len(told) // 2, len(told) - 1} if told else ()):
        snapshot, rows_out, watermark_us, now_us = kept[at]
        again = Run(case, clock=ManualClock(now_us))
        again.watermark_us = watermark_us
        again.restore([snapshot])
        for item in told[at + 1 :]:
            again.tell(item)
        again.end()
        rest = run.rows[rows_out:]
        assert same(again.rows, rest, ordered=case.ordered), difference(again.rows, rest)


@pytest.mark.parametrize(
    "case", [param for param in kept_case.args[1] if param.values[0].keys is not None]
)
def test_state_moves_to_other_numbers_of_subtasks(case: Case):
    rescaled(case, at_random(case.story, random.Random(17)), (1, 3, 2))


@every_case
def test_nothing_comes_of_nothing(case: Case):
    empty = replace(case, late=0, watermark=None, sides=None)
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
            run.tell(item)
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


@told_case
def test_a_job_with_hardly_any_credit_gives_the_same_rows(case: Case):
    got, rows = run(case, seed=len(case.name), parallelism=1), wanted(case)
    if case.view is not None:
        assert case.view(got) == case.view(rows)
    else:
        assert same(got, rows, ordered=case.ordered), difference(got, rows)


@pytest.mark.parametrize(
    "case", [param for param in told_case.args[1] if param.values[0].keys is not None]
)
def test_a_job_of_several_subtasks_gives_the_same_rows(case: Case):
    got, rows = run(case, seed=len(case.name), parallelism=3), wanted(case)
    if case.view is not None:
        assert case.view(got) == case.view(rows)
    else:
        assert same(got, rows, ordered=False), difference(got, rows)
