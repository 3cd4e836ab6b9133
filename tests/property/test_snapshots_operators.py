"""Operators with all aggregates go on from what was kept, at any moment, on any subtasks."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from cases import CASES
from conformance import Case, at_random, is_batch
from conformance_run import Run
from conformance_scaling import rescaled
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import story

from raystream.clock import ManualClock
from raystream.flow.changes import OP
from raystream.keyed.distinct_sketch import DistinctSketch
from raystream.keyed.snapshot import KEY_GROUP, Share

MODULES = (
    "object_aggregate",
    "object_window",
    "reduce",
    "running_aggregate",
    "window_aggregate",
    "window_partial",
    "window_top_k",
)
# Those whose operator may be divided among subtasks, and to which something happens; random stories
# have plain rows.
KEPT = [
    pytest.param(case, id=f"{module}: {case.name}")
    for module in MODULES
    for case in CASES[module]
    if case.keys is not None and case.story and len(case.story) > 3
    if case.input is None or OP not in case.input.names
]

STORIES = st.builds(
    lambda seed, count, jitter: (seed, count, jitter),
    st.integers(0, 10_000),
    st.integers(1, 45),
    st.sampled_from([1, 12, 40]),
)


def retold(case: Case, told: tuple[int, int, int]) -> Case:
    seed, count, jitter = told
    fresh = story(count, seed, timed=case.timed, jitter=jitter)
    return replace(case, story=at_random(fresh, random.Random(seed)), late=None)


@pytest.mark.slow
@pytest.mark.parametrize("case", KEPT)
@settings(max_examples=6)  # for each of some fifty cases
@given(told=STORIES, parallelisms=st.just((1, 3, 2)) | st.tuples(*3 * [st.integers(1, 4)]))
def test_rows_are_those_of_an_undisturbed_run_on_any_numbers_of_subtasks(case, told, parallelisms):
    case = retold(case, told)
    rescaled(case, case.story, parallelisms)


@pytest.mark.slow
@pytest.mark.parametrize("case", KEPT)
@settings(max_examples=6)  # for each of some fifty cases
@given(told=STORIES, stop=st.floats(0, 1))
def test_to_restore_what_was_kept_is_the_identity(case, told, stop):
    case = retold(case, told)
    run = Run(case)
    for item in case.story[: round(stop * len(case.story))]:
        run.tell(item)
    kept = run.operator.snapshot()
    other = Run(case, clock=ManualClock(run.clock.now_us()))
    other.restore([kept])
    again = other.operator.snapshot()
    assert [part.name for part in again] == [part.name for part in kept]
    for one, two in zip(kept, again, strict=True):
        assert two.table.schema.equals(one.table.schema)
        assert rows_of(two.table) == rows_of(one.table)
        if one.share is Share.KEYED:
            groups = two.table.column(KEY_GROUP).to_pylist()
            assert groups == sorted(groups)


def rows_of(table: pa.Table) -> Counter[str]:
    """Give the rows of a section: objects by what they hold, and in whatever order rows stand."""
    columns = [map(shown, column.to_pylist()) for column in table.columns]
    return Counter(map(repr, zip(*columns, strict=True)))


def shown(value: object) -> object:
    if isinstance(value, bytes) and value.startswith(b"\x80\x05"):
        return shown(pickle.loads(value))
    if isinstance(value, DistinctSketch):
        return value.state()
    if isinstance(value, set):
        return sorted(map(repr, value))
    if isinstance(value, tuple | list):
        return [shown(part) for part in value]
    if isinstance(value, dict):
        return {key: shown(part) for key, part in value.items()}
    return value


def test_stories_have_rows_and_watermarks():
    told = retold(CASES["window_aggregate"][0], (1, 45, 12)).story
    assert any(map(is_batch, told))
    assert not all(map(is_batch, told))
