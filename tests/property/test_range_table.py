"""An array over a range gives the slots that a hash table gives, wherever codes come to lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed import range_table
from raystream.keyed.code_table import CodeTable
from raystream.keyed.range_table import RangeTable

ENDS = [-(2**63), 2**63 - 1, -(2**62), 2**62, 0, -1]
CODES = st.integers(-40, 60) | st.integers(0, 2_000) | st.sampled_from(ENDS)
BATCHES = st.lists(st.lists(CODES, max_size=30), min_size=1, max_size=8)


@given(BATCHES, st.integers(1, 300))
def test_slots_are_those_of_a_hash_table(batches, wide):
    before = (range_table._RANGE_MIN, range_table._RANGE_PER_ROW)
    range_table._RANGE_MIN, range_table._RANGE_PER_ROW = wide, 1
    try:
        ranged, hashed = RangeTable(), CodeTable(1)
        for batch in batches:
            codes = np.array(batch, np.int64)
            assert ranged.find([codes]).tolist() == hashed.find([codes]).tolist()
            slots = ranged.lookup([codes]).tolist()
            # Which of several new codes comes first may differ: of a batch, those in range do.
            assert len(set(zip(slots, batch, strict=True))) == len(set(batch))
            hashed = CodeTable(1)
            hashed.lookup(ranged.codes(np.arange(ranged.count)))
            assert hashed.lookup([codes]).tolist() == slots
            assert hashed.count == ranged.count
            assert ranged.hashed().find([codes]).tolist() == slots
    finally:
        range_table._RANGE_MIN, range_table._RANGE_PER_ROW = before


def test_new_slots_are_in_order_of_arrival():
    table = RangeTable()
    assert table.lookup([np.array([30, 10, 30, 20])]).tolist() == [0, 1, 0, 2]
    assert table.lookup([np.array([5, 20, 10, 4, 5])]).tolist() == [3, 2, 1, 4, 3]
    assert table.lookup([np.array([2**40, 4, 2**41, 2**40])]).tolist() == [5, 4, 6, 5]
    assert table.codes(np.arange(7))[0].tolist() == [30, 10, 20, 5, 4, 2**40, 2**41]
    assert table.find([np.array([2**41, 11, 2**50])]).tolist() == [6, -1, -1]


def test_codes_at_both_ends_are_hashed_and_none_overflows():
    table = RangeTable()
    ends = np.array([2**63 - 1, 2**63 - 2, -(2**63), 0])
    assert not RangeTable.suits(ends)
    assert table.lookup([np.array([2**63 - 2])]).tolist() == [0]
    assert table.lookup([ends]).tolist() == [2, 0, 3, 1] or table.count == 4
    assert sorted(table.codes(np.arange(4))[0].tolist()) == sorted(ends.tolist())
