"""As-of joins against brute force: any rows, however they are driven."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from cases_window_join import case, shape
from hypothesis import given
from hypothesis import strategies as st
from join_models import AsOfJoins
from join_stories import KEYS, drive, stories
from stories import ODD

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns
from raystream.flow.element import MAX_TIME


@given(
    stories(),
    st.sampled_from(["left", "inner"]),
    st.sampled_from([None, 0, 3, 20, 10**6]),
    st.sampled_from(KEYS),
    st.integers(0, 3),
)
def test_each_row_meets_the_newest_of_its_key(told, how, tolerance, keys, mode):
    most = math.inf if tolerance is None else tolerance
    made = case(
        "any",
        lambda: AsOfJoins(shape(how, keys), most),
        told,
        keys=keys,
        tolerance=tolerance,
    )
    drive(made, mode)


def record_of(made, keys, times):
    nulls = pa.nulls(len(keys))
    columns = {field.name: nulls.cast(field.type) for field in ODD} | {"i": pa.array(keys)}
    return Columns(pa.record_batch([*columns.values(), pa.array(times)], schema=made.input))


@pytest.mark.parametrize("tolerance", [None, 1_000])
def test_what_is_held_does_not_grow(tolerance):
    """Of a key only the newest row stays, and with a tolerance only while it can match."""
    made = case(
        "state", lambda: AsOfJoins(shape("left", ("i",))), [], keys=("i",), tolerance=tolerance
    )
    operator = made.spec().build()
    operator.open(OpenContext(limits=Limits(batch_rows_max=1_000)))
    rng = np.random.default_rng(1)
    most = 0
    for step in range(60):
        low = step * 500 if tolerance is not None else 0
        keys, times = rng.integers(low, low + 500, 1_000), step * 1_000 + np.arange(1_000)
        for port in (1, 0):
            list(operator.on_batch(port, record_of(made, keys, times)))
        out = [batch for batch in operator.on_watermark(step * 1_000 + 999) if batch.num_rows]
        assert sum(batch.num_rows for batch in out) == 1_000
        # Each row of the left has one of the right of its own time.
        assert all(batch.visible.column("b_right").null_count for batch in out)
        most = max(most, operator.row_count)
    assert most < 11_000
    assert len(operator.snapshot()[2].table) <= 1_000
    list(operator.on_watermark(MAX_TIME))
    assert len(operator.snapshot()[0].table) == 0
