"""What was kept is divided among other subtasks: nothing lost, nothing twice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.errors import CorruptSnapshot
from raystream.flow.hashing import hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.keyed.snapshot import (
    Section,
    Share,
    arrival_section,
    keyed_section,
    restored_arrival,
    restored_watermark,
    section,
    share,
    watermark_section,
)


def kept(keys: list[int], name: str = "s", groups: int = 16) -> Section:
    table = pa.table({"k": pa.array(keys, pa.int64()), "at": np.arange(len(keys))})
    return keyed_section(name, table, hash_objects(keys), groups)


@given(st.lists(st.integers(-50, 50), max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_each_key_goes_to_its_owner_in_order_of_arrival(keys, before, after):
    owner = subtask_of(key_groups(hash_objects(keys), 16), before, 16) if keys else []
    parts = [[k for k, o in zip(keys, owner, strict=True) if o == i] for i in range(before)]
    snapshots = [(kept(part),) for part in parts]
    found: list[int] = []
    for index in range(after):
        table = section(share(snapshots, index, after, 16), "s")
        assert table is not None
        mine = table.column("k").to_pylist()
        owners = subtask_of(key_groups(hash_objects(mine), 16), after, 16) if mine else []
        assert all(o == index for o in owners)
        for key in set(mine):
            at = [a for k, a in zip(mine, table.column("at").to_pylist(), strict=True) if k == key]
            assert at == sorted(at)
        found += mine
    assert sorted(found) == sorted(keys)


def listed(*items: str, how: Share = Share.SPLIT) -> tuple[Section, ...]:
    return (Section("l", pa.table({"item": pa.array(items, pa.string())}), how),)


def items(snapshots, index, parallelism) -> list[str]:
    table = section(share(snapshots, index, parallelism, 128), "l")
    assert table is not None
    return table.column("item").to_pylist()


def test_c30_lists_are_dealt_out_anew_and_stay_where_the_parallelism_does():
    two = [listed("A", "B", "C"), listed("D", "E")]
    assert [items(two, i, 3) for i in range(3)] == [["A", "B"], ["C", "D"], ["E"]]
    assert [items(two, i, 2) for i in range(2)] == [["A", "B", "C"], ["D", "E"]]


def test_c30_a_union_goes_to_all_and_a_broadcast_copy_by_copy():
    union = [listed("A", "B", how=Share.UNION), listed("C", how=Share.UNION)]
    assert [items(union, i, 3) for i in range(3)] == [["A", "B", "C"]] * 3
    copies = [listed("x", how=Share.BROADCAST), listed("y", how=Share.BROADCAST)]
    assert [items(copies, i, 4) for i in range(4)] == [["x"], ["y"], ["x"], ["y"]]


def test_the_least_watermark_counts():
    snapshots = [(watermark_section(7),), (watermark_section(5),)]
    assert restored_watermark(share(snapshots, 0, 3, 128)) == 5
    assert restored_watermark(()) is None


def test_rows_that_come_now_are_numbered_behind_those_of_all_subtasks():
    snapshots = [(arrival_section(7),), (arrival_section(9),)]
    assert restored_arrival(share(snapshots, 1, 3, 128)) == 9
    assert restored_arrival(()) == 0


def test_parts_that_do_not_fit_are_refused():
    other = (Section("l", pa.table({"item": [1]}), Share.UNION),)
    with pytest.raises(CorruptSnapshot, match="differ in their columns"):
        share([listed("A", how=Share.UNION), other], 0, 1, 128)


def test_c29_ten_thousand_keys_from_3_to_5_to_2_stay_what_they_are_with_one_owner_each():
    keys = list(range(10_000))
    table = pa.table({"k": pa.array(keys, pa.int64()), "value": np.arange(10_000) * 7})
    whole = keyed_section("s", table, hash_objects(keys), 128)
    snapshots = [share([(whole,)], index, 3, 128) for index in range(3)]
    for before, after in ((3, 5), (5, 2)):
        assert len(snapshots) == before
        snapshots = [share(snapshots, index, after, 128) for index in range(after)]
        owner = subtask_of(key_groups(hash_objects(keys), 128), after, 128)
        found = {}
        for index, snapshot in enumerate(snapshots):
            kept_rows = section(snapshot, "s")
            assert kept_rows is not None
            for row in kept_rows.to_pylist():
                assert row["k"] not in found
                assert owner[row["k"]] == index
                found[row["k"]] = row["value"]
        assert found == {key: 7 * key for key in keys}
