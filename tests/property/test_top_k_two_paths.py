"""The best rows of each key are the same, told in the same order, in columns and row by row."""

import math

import pyarrow as pa
import pytest
from conformance_lineage import Lineages
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.flow.element import MAX_TIME
from raystream.keyed import best_rows
from raystream.operators import top_k_by_row, top_k_in_columns
from raystream.operators.running_top_k import TopKPlan
from raystream.operators.top_k_by_row import TopKByRow
from raystream.operators.top_k_in_columns import TopKInColumns

ROW = pa.schema([("k", pa.int64()), ("i", pa.int64()), ("f", pa.float64()), ("s", pa.string())])
FLOATS = [0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 1.5, -2.5, None]
VALUES = st.tuples(
    st.none() | st.integers(0, 30),
    st.sampled_from([0, 1, 2, -1, 2**63 - 1, -(2**63)]) | st.none(),
    st.sampled_from(FLOATS),
    st.sampled_from(["", "a", "b", "ä", None]),
    st.integers(-9, 9),
)


@st.composite
def stories(draw):
    """Rows of few keys or many, cut into batches; where a snapshot is taken up by another."""
    keys = draw(st.sampled_from([st.just(7), st.integers(0, 2), st.integers(0, 40)]))
    whole = draw(st.booleans())  # without nulls, integers need no sorting
    rows = st.tuples(keys, VALUES).map(lambda pair: (pair[0], *pair[1][1:]))
    if whole:
        rows = rows.map(lambda row: (row[0], row[1] or 0, row[2] or 0.5, *row[3:]))
    batches = draw(st.lists(st.lists(rows, min_size=1, max_size=60), min_size=1, max_size=4))
    return batches, draw(st.integers(0, len(batches)))


@st.composite
def plans(draw):
    names = draw(st.lists(st.sampled_from("ifs"), min_size=1, max_size=3, unique=True))
    by = tuple((name, draw(st.booleans())) for name in names)
    rank = draw(st.sampled_from([None, "rank"]))
    emit = draw(st.sampled_from(["row", "batch", "final", "changes"]))
    schema = ROW if rank is None else ROW.append(pa.field(rank, pa.int64()))
    output = wire_schema(schema, timed=True, changes=emit == "changes")
    given = wire_schema(ROW, timed=True)
    k = draw(st.sampled_from([1, 2, 3, 7, 20]))
    return TopKPlan(("k",), k, by, False, rank, emit, given, output, draw(st.booleans()))


def told(build, plan, batches, cut, rows_max):
    """Give what comes out, batch by batch; another goes on where the story is cut."""

    def opened():
        made = build(plan)
        made.open(OpenContext("best", limits=Limits(batch_rows_max=rows_max)))
        return made

    operator, out, parts = opened(), [], Lineages()
    for number, rows in enumerate(batches):
        if number == cut:
            parts.take(operator.changes())
            operator = opened()
            operator.restore(parts.snapshot())
            parts = Lineages()
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(zip(*rows, strict=True), plan.input, strict=True)
        ]
        record = pa.RecordBatch.from_arrays(arrays, schema=plan.input)
        out.append([line for made in operator.on_batch(0, Columns(record)) for line in lines(made)])
        parts.take(operator.changes())
    # What goes out at the end is in no order of keys, but each key's is in order of rank.
    ended = [line for made in operator.on_watermark(MAX_TIME) for line in lines(made)]
    out.append(sorted(ended, key=lambda line: str(line[0])))
    return out


def lines(batch):
    assert batch.num_rows
    return [tuple(map(repr, row.values())) for row in batch.record.to_pylist()]


@pytest.mark.parametrize("build", [TopKByRow, TopKInColumns])
def test_thousands_of_keys_are_taken_up(build):
    output = wire_schema(ROW, timed=True, changes=False)
    plan = TopKPlan(("k",), 1, (("i", True),), False, None, "final", output, output)
    rows = [(key, key, 0.5, "", 0) for key in range(3_000)]
    *_, kept = told(build, plan, [rows, [(7, 9_000, 0.5, "", 0), (8, 7, 0.5, "", 0)]], 1, 1_000)
    values = {int(key): int(value) for key, value, *_ in kept}
    assert values == {key: key for key in range(3_000)} | {7: 9_000}


@pytest.mark.slow
@given(plans(), stories(), st.sampled_from([3, 1_000]), st.sampled_from([1, 2, 16]), st.booleans())
def test_both_ways_tell_the_same(plan, story, rows_max, few_keys, small):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_rows, "_FEW_KEYS", few_keys)
        if small:
            patch.setattr(top_k_in_columns, "CELLS_MAX", 40)
            patch.setattr(top_k_in_columns, "_COMPACT_MIN", 3)
            patch.setattr(top_k_by_row, "_COMPACT_MIN", 3)
        expected = told(TopKByRow, plan, *story, rows_max)
        assert told(TopKInColumns, plan, *story, rows_max) == expected
