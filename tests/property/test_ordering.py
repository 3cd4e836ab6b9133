"""Orders and different values of whole numbers are NumPy's, however far apart the numbers lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.batch import Int64s
from raystream.flow.ordering import by_key_and_time, stable_order
from raystream.keyed.slots import distinct

_INT64 = np.iinfo(np.int64)


@st.composite
def _numbers(draw: st.DrawFn) -> Int64s:
    """Numbers of a range of any width, at any place, some alike."""
    width = 2 ** draw(st.integers(0, 64))
    low = draw(st.integers(_INT64.min, _INT64.max))
    values = draw(st.lists(st.integers(0, width - 1), max_size=60))
    values += values[: draw(st.integers(0, len(values)))]
    return np.array([min(low + value, _INT64.max) for value in values], np.int64)


@given(_numbers())
def test_order_is_that_of_a_stable_sort(values: Int64s) -> None:
    assert stable_order(values).tolist() == np.argsort(values, kind="stable").tolist()


@given(_numbers())
def test_different_values_are_those_of_a_set(values: Int64s) -> None:
    assert distinct(values).tolist() == sorted(set(values.tolist()))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-(2**40), 2**40))))
def test_rows_lie_by_key_and_in_time_within_a_key(rows: list[tuple[int, int]]) -> None:
    slots, times = np.array(rows, np.int64).reshape(-1, 2).T
    assert by_key_and_time(slots, times).tolist() == np.lexsort((times, slots)).tolist()


@pytest.mark.parametrize("bits", [1, 15, 16, 17, 32, 33, 48, 49, 62])
def test_many_numbers_of_each_width(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, 5_000)
    assert stable_order(values).tolist() == np.argsort(values, kind="stable").tolist()
