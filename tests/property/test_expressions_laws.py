"""Column steps give, for any batches, what plain Python gives row by row."""

import functools
import itertools

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from raystream.contracts.context import OpenContext
from raystream.flow.batch import wire_schema, with_times
from raystream.operators.columns import (
    ColumnsSpec,
    Drop,
    Filter,
    Rename,
    Select,
    WithColumns,
    fuse,
    output_schema,
    required_columns,
)
from raystream.operators.expressions import event_time

col, lit, when = nw.col, nw.lit, nw.when
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("s", pa.string())])


def null_or(function):
    return lambda *values: None if None in values else function(*values)


# Pairs of an expression over a and b, and the same for one row in plain Python.
NUMBERS = st.recursive(
    st.sampled_from(
        [
            (col("a"), lambda row: row["a"]),
            (col("b"), lambda row: row["b"]),
            (lit(3), lambda row: 3),
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(
            lambda p: (
                p[0][0] + p[1][0],
                lambda r: null_or(lambda x, y: x + y)(p[0][1](r), p[1][1](r)),
            )
        ),
        st.tuples(inner, inner).map(
            lambda p: (
                p[0][0] - p[1][0],
                lambda r: null_or(lambda x, y: x - y)(p[0][1](r), p[1][1](r)),
            )
        ),
        inner.map(lambda e: (e[0] * 2, lambda r: null_or(lambda x: x * 2)(e[1](r)))),
        inner.map(lambda e: (e[0] % 7, lambda r: null_or(lambda x: x % 7)(e[1](r)))),
        inner.map(lambda e: (e[0] // 4, lambda r: null_or(lambda x: x // 4)(e[1](r)))),
        inner.map(
            lambda e: (
                when(e[0] > 5).then(e[0]).otherwise(lit(-1)),
                lambda r: e[1](r) if e[1](r) is not None and e[1](r) > 5 else -1,
            )
        ),
        inner.map(lambda e: (e[0].fill_null(9), lambda r: 9 if e[1](r) is None else e[1](r))),
    ),
    max_leaves=5,
)


@st.composite
def predicates(draw):
    expr, plain = draw(NUMBERS)
    if draw(st.booleans()):
        return expr > 4, lambda row: plain(row) is not None and plain(row) > 4
    return ~(expr == 3) & ~col("s").is_null(), (
        lambda row: plain(row) is not None and plain(row) != 3 and row["s"] is not None
    )


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(-100, 100),
            "b": st.none() | st.integers(-(2**40), 2**40),
            "s": st.none() | st.sampled_from(["x", "y"]),
            "__ts": st.integers(0, 10**15),
        }
    ),
    max_size=12,
)


def batches_of(rows, cuts):
    bounds = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(bounds):
        part = rows[start:stop]
        record = pa.RecordBatch.from_pylist(part, SCHEMA)
        yield with_times(record, np.array([row["__ts"] for row in part], dtype=np.int64))


def run(spec, batches):
    operator = spec.build()
    operator.open(OpenContext())
    rows = []
    for batch in batches:
        for out in operator.on_batch(0, batch):
            assert out.record.schema.equals(spec.output, check_metadata=True)
            assert out.num_rows
            rows += out.record.to_pylist()
    return rows


def specs(steps):
    schema = SCHEMA
    for step in steps:
        schema = output_schema(schema, True, step, "", "s")
        yield ColumnsSpec("run", (step,), wire_schema(schema, timed=True))


@given(NUMBERS, NUMBERS, predicates(), ROWS, st.lists(st.integers(0, 100), max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_run_of_steps_equals_the_rows_one_by_one(first, second, predicate, rows, cuts):
    steps = (
        WithColumns((("c", first[0]), ("a2", col("a")))),
        Filter(predicate[0]),
        Rename((("c", "d"),)),
        Drop(("a2",)),
        Select((("e", second[0]), ("d", None), ("five", lit(5)), ("t", event_time()))),
    )
    expected = [
        {"e": second[1](row), "d": first[1](row), "five": 5, "__ts": row["__ts"]}
        for row in rows
        if predicate[1](row)
    ]
    apart = list(specs(steps))
    whole = apart[0]
    for spec in apart[1:]:
        whole = fuse(whole, spec)
    given_rows = run(whole, batches_of(rows, cuts))
    for row in given_rows:
        moment = row.pop("t")
        assert int(moment.timestamp() * 1_000_000 + 0.5) // 1000 == row["__ts"] // 1000
    assert given_rows == expected


@given(NUMBERS, predicates(), ROWS, st.lists(st.integers(0, 100), max_size=3))
@settings(max_examples=40, deadline=None)
def test_one_operator_for_all_steps_equals_one_for_each(expr, predicate, rows, cuts):
    steps = (Filter(predicate[0]), WithColumns((("a", expr[0]),)), Filter(col("a") < 50))
    apart = list(specs(steps))
    whole = fuse(fuse(apart[0], apart[1]), apart[2])
    in_turn = list(batches_of(rows, cuts))
    for spec in apart:
        operator = spec.build()
        operator.open(OpenContext())
        in_turn = [out for batch in in_turn for out in operator.on_batch(0, batch)]
    expected = [row for batch in in_turn for row in batch.record.to_pylist()]
    assert run(whole, batches_of(rows, cuts)) == expected


@given(NUMBERS, predicates(), ROWS)
@settings(max_examples=40, deadline=None)
def test_columns_that_pushdown_leaves_out_change_nothing(expr, predicate, rows):
    dead = (("dead", nw.concat_str("s", lit("!")) == "x!"),)
    steps = (
        Filter(predicate[0]),
        WithColumns(dead),
        Select((("e", expr[0]), ("dead", None), ("b", None))),
        Select((("e", None),)),
    )
    needed = required_columns(steps, SCHEMA, True, None)
    spec = functools.reduce(fuse, specs(steps))
    batches = list(batches_of(rows, []))
    narrow = []
    for batch in batches:
        kept = [name for name in SCHEMA.names if name in needed]
        narrow.append(with_times(batch.visible.select(kept), batch.timestamps))
    assert run(spec, narrow) == run(spec, batches)
