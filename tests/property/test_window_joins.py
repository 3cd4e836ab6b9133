"""Window joins against brute force: any rows, windows and kinds, however they are driven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from cases_window_join import HOWS, case, shape
from conformance import is_batch
from conformance_run import Run
from hypothesis import given
from hypothesis import strategies as st
from join_models import SessionJoins, WindowJoins
from join_stories import KEYS, drive, stories
from stories import ODD
from window_models import cumulative, sliding

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.contracts.window_unaligned import Session
from raystream.flow.batch import Columns

WINDOWS = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(-9, 9)).map(
        lambda drawn: (Tumbling(drawn[0], offset=drawn[1]), sliding(drawn[0], *drawn))
    ),
    st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(-9, 9)).map(
        lambda drawn: (Sliding(drawn[0], drawn[1], offset=drawn[2]), sliding(*drawn))
    ),
    st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(-9, 9)).map(
        lambda drawn: (
            Cumulative(drawn[0] * drawn[1], drawn[0], offset=drawn[2]),
            cumulative(drawn[0] * drawn[1], drawn[0], drawn[2]),
        )
    ),
)


@given(stories(), WINDOWS, st.sampled_from(HOWS), st.sampled_from(KEYS), st.integers(0, 3))
def test_rows_of_a_key_and_window_meet(told, window, how, keys, mode):
    made, assign = window
    drive(case("any", lambda: WindowJoins(shape(how, keys), assign), told, made, keys=keys), mode)


@given(
    stories("near"),
    st.integers(1, 25),
    st.sampled_from(HOWS),
    st.sampled_from(KEYS),
    st.integers(0, 3),
)
def test_rows_of_a_key_and_session_meet(told, gap, how, keys, mode):
    drive(
        case("any", lambda: SessionJoins(shape(how, keys), gap), told, Session(gap), keys=keys),
        mode,
    )


@given(stories(), st.integers(0, 10**6))
def test_it_does_not_matter_how_rows_of_both_sides_come_together(told, seed):
    """Batches between two watermarks may come in any order."""
    rng = np.random.default_rng(seed)
    mixed, run = [], []
    for item in [*told, None]:
        if item is not None and is_batch(item):
            run.append(item)
            continue
        mixed += [run[at] for at in rng.permutation(len(run))]
        run = []
        if item is not None:
            mixed.append(item)
    model = lambda: WindowJoins(shape("full", ("k",)), sliding(12, 5))
    wanted = case("any", model, told, Sliding(12, 5))
    Run(replace(wanted, story=mixed)).play(mixed)


def opened(window):
    """Give an operator of a plain join in windows, with the limits that jobs have."""
    model = lambda: WindowJoins(shape("inner", ("i",)), sliding(1, 1))
    made = case("state", model, [], window, keys=("i",))
    operator = made.spec().build()
    operator.open(OpenContext(limits=Limits(batch_rows_max=1_000)))
    return operator, made.input


def put(operator, schema, numbers, times):
    """Let rows of these keys come in at both ports."""
    nulls = pa.nulls(len(numbers))
    columns = {field.name: nulls.cast(field.type) for field in ODD} | {"i": pa.array(numbers)}
    record = pa.record_batch([*columns.values(), pa.array(times)], schema=schema)
    for port in (0, 1):
        list(operator.on_batch(port, Columns(record)))


@pytest.mark.parametrize(
    ("window", "most"),
    [(Tumbling(1_000), 6_000), (Sliding(5_000, 500), 14_000), (Session(20), 24_000)],
)
def test_what_is_held_does_not_grow(window, most):
    """Rows are held once, however many windows they lie in, and go with the last."""
    operator, schema = opened(window)
    for step in range(30):
        numbers, times = np.arange(1_000) + 1_000 * step, 1_000 * step + np.arange(1_000)
        put(operator, schema, numbers, times)
        assert all(batch.num_rows <= 1_000 for batch in operator.on_watermark(int(times[-1])))
        assert operator._waiting.row_count <= most
    list(operator.on_watermark(40_000))
    snapshot = {one.name: one.table.num_rows for one in operator.snapshot()}
    assert snapshot == {"watermark": 1, "left": 0, "right": 0}


def test_rows_and_cells_of_sessions_that_are_over_go():
    operator, schema = opened(Session(5))
    out = 0
    for step in range(12):
        put(operator, schema, np.arange(10_000) + 10_000 * step, np.full(10_000, 100 * step))
        # Half of the sessions go on: what is copied together is found again.
        put(operator, schema, np.arange(5_000) + 10_000 * step, np.full(5_000, 100 * step + 5))
        out += sum(batch.num_rows for batch in operator.on_watermark(100 * step + 7))
        assert operator._waiting.row_count <= 60_000
    assert operator._waiting._cells.count < 100_000
    out += sum(batch.num_rows for batch in operator.on_watermark(10_000))
    assert out == 12 * (5_000 + 5_000 * 4)
