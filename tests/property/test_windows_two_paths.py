"""Windows of columns and windows row by row give the same, whatever is aggregated."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from cases_keyed import MODELS, OWN, bind
from cases_windows import schema_of
from conformance import Case
from conformance_run import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from stories import ODD, ODD_WIRE, VALUES

from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import wire_schema
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_lists import Ranking
from raystream.operators.window_outcomes import Aggregating, of_columns
from raystream.operators.window_rows import WindowRowsSpec
from raystream.operators.window_top_k import WindowTopKSpec

ROWS = st.lists(
    st.tuples(
        st.integers(-40, 40),
        st.fixed_dictionaries({name: st.sampled_from(some) for name, some in VALUES.items()}),
    ),
    min_size=1,
    max_size=12,
)
STORIES = st.lists(ROWS | st.integers(-40, 40), max_size=8)
WINDOWS = st.one_of(
    st.builds(Tumbling, st.integers(1, 20), st.integers(-9, 9)),
    st.builds(Sliding, st.integers(1, 20), st.integers(1, 20), st.integers(-9, 9)),
)
KEYS = st.sampled_from([(), ("k",), ("f",), ("k", "d"), ("t", "b"), ("i",)])
ORDER = st.sampled_from(
    [(("f", True),), (("i", False), ("k", True)), (("d", True), ("t", False)), (("b", True),)]
)


def told(spec, output, story):
    """Play a story, and give what came out of it and how many rows were late."""
    case = Case("it", lambda: spec, story, lambda some, ended: [], ODD_WIRE, output)
    run = Run(case)
    for item in story:
        run.tell(item)
    run.end()
    return Counter(run.rows), run.context.metrics.counter("late_rows").value


def by_row(window, outcome, keys, output):
    fields = tuple(ODD.field(key) for key in keys)
    return WindowRowsSpec(
        window, outcome, fields, keys, output, timed=True, operator="it", where=""
    )


@settings(max_examples=25)
@given(window=WINDOWS, keys=KEYS, story=STORIES)
def test_aggregates_are_the_same(window, keys, story):
    bounds = (*bind(MODELS), OWN)
    output = schema_of(keys, [pa.field(one.name, one.output) for one in bounds])
    columns = WindowAggregateSpec(keys, window, bounds, output)
    rows = by_row(window, Aggregating(of_columns(bounds)), keys, output)
    assert told(rows, output, story) == told(columns, output, story)


@given(
    window=WINDOWS,
    keys=KEYS,
    story=STORIES,
    order=ORDER,
    k=st.integers(1, 3),
    ties=st.booleans(),
)
def test_the_best_rows_are_the_same(  # noqa: PLR0917  drawn by name
    window, keys, story, order, k, ties
):
    output = wire_schema(ODD.append(pa.field("place", pa.int64())), timed=True)
    columns = WindowTopKSpec(keys, window, k, order, ties, "place", output)
    rows = by_row(window, Ranking(k, order, ties, "place"), keys, output)
    assert told(rows, output, story) == told(columns, output, story)
