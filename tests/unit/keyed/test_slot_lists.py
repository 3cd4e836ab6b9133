"""Lists by slot equal a dict of lists, whatever is appended, shortened and left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.groups import Grouper
from raystream.keyed.row_ids import RowIds
from raystream.keyed.slot_lists import SlotLists, spread

SLOTS = 12
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=30)),
        st.tuples(st.just("shorten"), st.integers(0, SLOTS - 1)),
        st.tuples(st.just("keep"), st.integers(1, 4)),
        st.tuples(st.just("close up"), st.none()),
    ),
    max_size=20,
)


@given(ACTS)
def test_lists_are_those_of_a_dict(acts):
    lists, grouper, model, written = SlotLists(), Grouper(), {s: [] for s in range(SLOTS)}, 0
    lists.reserve(SLOTS)
    every = np.arange(SLOTS)
    for act, value in acts:
        if act == "append":
            numbers = np.arange(written, written + len(value))
            written += len(value)
            lists.append(grouper.group(np.array(value), SLOTS), numbers)
            for slot, number in zip(value, numbers.tolist(), strict=True):
                model[slot].append(number)
        elif act == "shorten":
            count = (len(model[value]) + 1) // 2
            lists.shorten(np.array([value]), np.array([count]))
            model[value] = model[value][count:]
        elif act == "keep":
            numbers, _ = lists.read(every)
            lists.keep(every, numbers % value != 0)
            model = {slot: [n for n in some if n % value] for slot, some in model.items()}
        else:
            lists._close_up()
        numbers, counts = lists.read(every)
        cuts = np.cumsum(counts)[:-1]
        assert [part.tolist() for part in np.split(numbers, cuts)] == list(model.values())


def test_places_that_lists_have_left_are_used_again():
    lists, grouper, slots = SlotLists(), Grouper(), np.arange(500)
    lists.reserve(500)
    groups = grouper.group(np.repeat(slots, 4), 500)
    for number in range(200):
        lists.append(groups, np.full(2_000, number))
        lists.shorten(slots, lists.counts(slots) - 1)
    assert lists._used <= 100_000  # of 400,000 numbers
    assert lists.read(slots)[0].tolist() == [199] * 500


def test_spread_counts_up():
    assert spread(np.array([7, 2, 5]), np.array([3, 2, 0])).tolist() == [7, 8, 9, 2, 3]
    assert spread(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


def test_equal_rows_have_one_number_whatever_their_columns_are():
    nan = float("nan")
    columns = [
        pa.array([nan, nan, None, nan]),
        pa.array([[1, None], [1, None], [1, None], [1]]),
        pa.array([{"a": 1.0}, {"a": 1.0}, None, {"a": 1.0}]),
    ]
    ids = RowIds([column.type for column in columns])
    assert ids.lookup(columns).tolist() == [0, 0, 1, 2]
    assert ids.lookup([column.slice(2) for column in columns]).tolist() == [1, 2]
    assert ids.count == 3


def test_rows_of_many_columns_are_told_apart_by_each():
    width = 80
    rows = np.zeros((width + 1, width), np.int64)
    rows[np.arange(width), np.arange(width)] = 1
    columns = [pa.array(rows[:, place], mask=rows[:, place] == 1) for place in range(width)]
    ids = RowIds([pa.int64()] * width)
    assert ids.lookup(columns).tolist() == list(range(width + 1))
    assert ids.lookup(columns).tolist() == list(range(width + 1))
