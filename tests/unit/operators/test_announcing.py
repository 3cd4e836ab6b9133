"""Operators that announce the rows that leave their table: what they keep for it."""

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.errors import RestoreRefused
from raystream.flow.batch import Columns, wire_schema
from raystream.flow.changes import op_names
from raystream.operators.deduplicate import DeduplicateSpec
from raystream.operators.to_changelog import ToChangelogSpec

PLAIN = pa.schema({"k": pa.int64(), "v": pa.int64()})
WORDS = PLAIN.append(pa.field("op", pa.string()))
CHANGES = wire_schema(PLAIN, timed=False, changes=True)


def opened(spec, clock=None, rows_max=7):
    operator = spec.build()
    limits = Limits(batch_rows_max=rows_max)
    operator.open(OpenContext("it", clock=clock or ManualClock(0), limits=limits))
    return operator


def push(operator, record):
    out = []
    for batch in operator.on_batch(0, Columns(record)):
        rows = zip(*batch.visible.to_pydict().values(), strict=True)
        out += zip(op_names(batch.ops), rows, strict=True)
    return [(op, *row) for op, row in out]


def words(*changes):
    return pa.RecordBatch.from_pylist(
        [dict(zip(("op", "k", "v"), change, strict=True)) for change in changes], schema=WORDS
    )


def deduplicating(keep="last", ttl_us=None, *, before):
    return DeduplicateSpec(("k",), keep, "changes", ttl_us, PLAIN, CHANGES, before=before)


def table(*, before):
    return ToChangelogSpec(("k",), "op", WORDS, CHANGES, before=before)


def test_a_row_that_takes_the_place_of_a_forgotten_one_takes_it_back():
    clock = ManualClock(0)
    first = opened(deduplicating("first", 100, before=True), clock)
    rows = pa.RecordBatch.from_pydict({"k": [1, 1], "v": [1, 2]}, schema=PLAIN)
    assert push(first, rows) == [("+I", 1, 1)]
    clock.advance(100)
    later = pa.RecordBatch.from_pydict({"k": [1], "v": [3]}, schema=PLAIN)
    assert push(first, later) == [("-U", 1, 1), ("+U", 1, 3)]


@pytest.mark.parametrize("make", [deduplicating, table])
def test_what_kept_no_rows_cannot_be_taken_up_by_what_needs_them(make):
    some = words(("+I", 1, 1))
    record = some if make is table else some.select(["k", "v"])
    before = opened(make(before=False))
    push(before, record)
    with pytest.raises(RestoreRefused, match=r'"it" kept no rows'):
        opened(make(before=True)).restore(before.snapshot())
    back = opened(make(before=True))
    push(back, record)
    opened(make(before=True)).restore(back.snapshot())


def test_keys_without_a_row_are_forgotten_and_the_others_are_not():
    operator = opened(table(before=True), rows_max=20_000)

    def every(op, values):
        ops = pa.array([op] * len(values))
        record = pa.RecordBatch.from_arrays([pa.array(values)] * 2 + [ops], schema=WORDS)
        return push(operator, record)

    every("+I", np.arange(9_000))
    every("-D", np.arange(2, 9_000))
    every("+I", np.arange(9_000, 14_000))
    every("-D", np.arange(9_000, 14_000))
    assert operator.snapshot()[0].table.num_rows == 14_000
    every("+I", np.arange(14_000, 19_000))
    assert operator.snapshot()[0].table.num_rows == 5_002
    assert push(operator, words(("+U", 1, 7), ("+U", 5, 7), ("-D", 0, None))) == [
        ("-U", 1, 1),
        ("+U", 1, 7),
        ("+I", 5, 7),
        ("-D", 0, 0),
    ]


def test_batches_keep_their_bound():
    operator = opened(table(before=True), rows_max=3)
    many = words(*(("+U", 1, v) for v in range(5)))
    sizes = [batch.num_rows for batch in operator.on_batch(0, Columns(many))]
    assert sizes == [3, 3, 3]


def test_a_result_that_does_not_fit_is_given_up_once_and_never_taken_back():
    rows = [{"k": 1, "v": v} for v in (1, 2, 3, 4)]
    keyed = rs.Job("sums").from_items(rows, schema=PLAIN).key_by("k")

    def total(a, b):
        return {**b, "v": "three" if b["v"] == 3 else b["v"]}

    sums = keyed.reduce(total, emit="changes").on_error("dead_letter")
    kept = sums.filter(rs.col("v") > 0).to_rows()
    told = [(row["op"], row["v"]) for row in kept.collect()]
    assert told == [("+I", 1), ("-U", 1), ("+U", 2), ("+U", 4)]
    assert len(sums.dead_letters.collect()) == 1
