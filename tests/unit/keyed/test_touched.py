import numpy as np
import pyarrow as pa
import pytest

from raystream.keyed.snapshot import Section
from raystream.keyed.touched import Lineage, TouchedSlots


def give(lineage: Lineage, changed: int, rows: int) -> str:
    """Give what a section would: 'whole' or 'delta'."""
    whole = lineage.wants_whole(changed)
    count = rows if whole else changed
    lineage.given(Section("s", pa.table({"v": np.zeros(count)}), delta=not whole))
    return "whole" if whole else "delta"


def test_deltas_are_given_up_to_as_many_rows_as_the_whole_table_had():
    lineage = Lineage()
    given = [give(lineage, 4, 10) for _ in range(7)]
    assert given == ["whole", "delta", "delta", "whole", "delta", "delta", "whole"]


def test_a_section_without_rows_is_whole_at_first():
    lineage = Lineage()
    assert [give(lineage, 0, 0) for _ in range(2)] == ["whole", "delta"]
    assert give(lineage, 1, 1) == "whole"


@pytest.mark.parametrize("changed", [0, 1])
def test_a_whole_table_is_due_behind_256_deltas(changed):
    lineage = Lineage()
    given = [give(lineage, changed, 10_000) for _ in range(258)]
    assert given == ["whole", *["delta"] * 256, "whole"]


def test_slots_are_taken_once_and_all_of_them_at_first():
    touched = TouchedSlots()
    touched.mark(np.array([1, 2]), 3)
    assert touched.take(3) is None
    assert touched.take(3).tolist() == []
    touched.mark(np.array([5, 2, 2]), 6)
    touched.mark(np.array([3_000]), 3_001)
    assert touched.take(3_001).tolist() == [2, 5, 3_000]
    assert touched.take(3_001).tolist() == []
    assert touched.take(100_000).tolist() == []
