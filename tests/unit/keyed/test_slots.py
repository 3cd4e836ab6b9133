"""Columns by slot are filled as they began, however far they grow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.keyed.slots import SlotColumn


@pytest.mark.parametrize(
    ("dtype", "fill"), [("i8", 0), ("i8", 7), ("?", False), ("?", True), ("O", None), ("f8", -1.0)]
)
def test_slots_that_come_are_filled_as_the_first_were(dtype, fill):
    column = SlotColumn(dtype, fill)
    kept = column.values.copy()
    column.reserve(5 * len(kept))
    assert column.values.dtype == kept.dtype
    assert column.values.tolist() == [fill] * len(column.values)
    assert len(column.values) >= 5 * len(kept)
    np.testing.assert_array_equal(column.values[: len(kept)], kept)


@pytest.mark.parametrize("emit", ["row", "changes"])
def test_the_greatest_text_of_many_keys_is_known(emit):
    rows = [{"key": key, "text": f"{key % 7}{turn}"} for turn in (1, 0) for key in range(3_000)]
    schema = pa.schema({"key": pa.int64(), "text": pa.string()})
    job = rs.Job("texts", runtime="local", config={"batch_rows_max": 500})
    greatest = job.from_items(rows, schema=schema).key_by("key")
    told = greatest.aggregate(text=rs.max("text"), emit=emit).collect()
    assert {row["key"]: row["text"] for row in told} == {key: f"{key % 7}1" for key in range(3_000)}
