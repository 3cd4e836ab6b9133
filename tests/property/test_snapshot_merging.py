"""A whole table and the deltas behind it are, put together, what a dict would have become."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.errors import CorruptSnapshot
from raystream.flow.hashing import hash_columns
from raystream.keyed.snapshot import BUCKET, GONE, KEY_GROUP, Section, keyed_section, merged

GROUPS = 4
floats = st.sampled_from([None, 0.0, -0.0, 1.5, math.nan, -math.nan, math.inf])
keys = st.tuples(st.sampled_from([None, "", "a", "b"]), floats)
changes = st.lists(st.tuples(keys, st.none() | st.integers(0, 9)), max_size=12)
"""Pairs of a key and its new value; None: the key is gone."""


def plain(key):
    text, number = key
    if number is None or math.isnan(number):
        return text, None if number is None else "NaN"
    return text, number + 0.0


def section_of(rows, *, delta: bool) -> Section:
    """Write each key once, as an operator does: what it is now."""
    columns = {
        "text": pa.array([key[0] for key, _ in rows], pa.string()),
        "number": pa.array([key[1] for key, _ in rows], pa.float64()),
        "value": pa.array([value for _, value in rows], pa.int64()),
    }
    hashes = hash_columns([columns["text"], columns["number"]])
    if delta:
        columns[GONE] = pa.array([value is None for _, value in rows], pa.bool_())
    return keyed_section("s", pa.table(columns), hashes, GROUPS, ("text", "number"), delta=delta)


@given(st.lists(changes, min_size=1, max_size=6), st.data())
def test_the_last_row_of_each_key_counts(batches, data):
    model: dict = {}
    parts: list[pa.Table] = []
    for batch in batches:
        # Of one key the newest spelling (-0.0, or another NaN) and value.
        changed = {plain(key): (key, value) for key, value in batch}
        for name, (_, value) in changed.items():
            if value is None:
                model.pop(name, None)
            else:
                model[name] = value
        if parts and data.draw(st.booleans()):
            parts.append(section_of(list(changed.values()), delta=True).table)
        else:
            parts = [section_of(_rows(model), delta=False).table]
    table = merged(parts, ("text", "number"))
    rows = table.to_pylist()
    assert {plain((row["text"], row["number"])): row["value"] for row in rows} == model
    assert len(rows) == len(model)
    assert table.column_names == [KEY_GROUP, "text", "number", "value"]
    groups = table.column(KEY_GROUP).to_numpy()
    assert (np.diff(groups) >= 0).all()


def _rows(model):
    return [
        ((text, math.nan if number == "NaN" else number), value)
        for (text, number), value in model.items()
    ]


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5))
def test_without_a_key_rows_add_up_by_key_group(batches):
    parts = []
    for number, batch in enumerate(batches):
        values = pa.array(batch, pa.int64())
        table = pa.table({"value": values})
        made = keyed_section("s", table, hash_columns([values]), GROUPS, delta=number > 0)
        parts.append(made.table)
    together = merged(parts, ())
    assert sorted(together.column("value").to_pylist()) == sorted(
        v for batch in batches for v in batch
    )
    groups = together.column(KEY_GROUP).to_numpy()
    assert (np.diff(groups) >= 0).all()


def test_without_a_key_lower_buckets_go_where_a_delta_says_so():
    def part(*buckets, gone_to=None):
        table = pa.table(
            {
                BUCKET: pa.array(buckets, pa.int64()),
                "v": pa.array(list(map(str, buckets)), pa.string()),
            }
        )
        gone = [False] * len(buckets)
        if gone_to is not None:
            table = pa.concat_tables(
                [table, pa.Table.from_pylist([{BUCKET: gone_to}], table.schema)]
            )
            gone.append(True)
        return table.append_column(GONE, pa.array(gone, pa.bool_()))

    whole = pa.table({BUCKET: [1, 2, 3, 4], "v": ["1", "2", "3", "4"]})
    parts = [whole, part(3, 9), part(5, gone_to=2), part(gone_to=1), part(3, 9)]
    together = merged(parts, ())
    assert together.column(BUCKET).to_pylist() == [3, 4, 3, 9, 5, 3, 9]
    assert together.column_names == [BUCKET, "v"]


def test_rows_keep_the_order_in_which_they_were_last_given():
    def part(*rows):
        return pa.table({"k": [k for k, _ in rows], "v": [v for _, v in rows]})

    parts = [part((1, "a"), (2, "b"), (3, "c")), part((2, "d")), part((4, "e"), (1, "f"))]
    assert merged(parts, ("k",)).to_pylist() == [
        {"k": 3, "v": "c"},
        {"k": 2, "v": "d"},
        {"k": 4, "v": "e"},
        {"k": 1, "v": "f"},
    ]


@pytest.mark.parametrize(
    "values",
    [
        [None, None],
        [True, False],
        [b"a", b"b"],
        [pa.scalar(1, pa.date32()).as_py(), None],
        [pa.scalar(1, pa.timestamp("us", "UTC")).as_py(), None],
        [pa.scalar(1, pa.duration("ms")).as_py(), None],
        [pa.scalar(1, pa.time32("s")).as_py(), None],
    ],
)
def test_keys_of_many_types_are_told_apart(values):
    column = pa.array(values)
    whole = pa.table({"k": column, "v": [0] * len(values)})
    delta = pa.table({"k": column.slice(0, 1), "v": [1], GONE: [False]})
    gone = pa.table({"k": column.slice(1), "v": pa.nulls(1, pa.int64()), GONE: [True]})
    different = len(set(values)) > 1
    assert merged([whole, delta], ("k",)).column("v").to_pylist() == ([0, 1] if different else [1])
    assert merged([whole, delta, gone], ("k",)).num_rows == int(different)


def test_parts_that_do_not_fit_are_told():
    parts = [pa.table({"k": [1]}), pa.table({"k": ["a"]})]
    with pytest.raises(CorruptSnapshot, match="differ"):
        merged(parts, ("k",))
    with pytest.raises(CorruptSnapshot, match="differ"):
        merged(parts, ())
