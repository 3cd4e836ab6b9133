"""What was written too long ago is never seen, is in no snapshot, and does not stay in memory."""

from __future__ import annotations

import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.errors import UserError
from raystream.keyed.cells import Expiring
from raystream.keyed.key_form import KeyForm
from raystream.keyed.store import KeyedStore

TTL = 100


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["memory", "disk"])
def store(request, clock, tmp_path):
    store = KeyedStore(KeyForm.objects(), clock, 128, request.param, str(tmp_path))
    yield store
    store.close()


def rows(store, name):
    return next(one.table.num_rows for one in store.snapshot() if one.name == f"state:{name}")


def restored(store, clock, descriptor):
    again = KeyedStore(KeyForm.objects(), clock, 128)
    again.restore(tuple(store.snapshot()))
    again.select("a", "a")
    return again.register(descriptor)


def test_a_value_expires_after_its_last_write(store, clock):
    total = store.register(rs.ValueState("total", default=0, ttl=TTL))
    store.select("a", "a")
    total.update(1)
    clock.advance(TTL - 1)
    assert total.value() == 1
    total.update(2)
    clock.advance(TTL - 1)
    assert total.value() == 2
    clock.advance(1)
    assert total.value() == 0
    assert rows(store, "total") == 0


def test_reading_is_no_write(store, clock):
    total = store.register(rs.ReducingState("total", max, ttl=TTL))
    store.select("a", "a")
    total.add(1)
    for _ in range(TTL):
        clock.advance(1)
        seen = total.get()
    assert seen is None
    total.add(0)
    assert total.get() == 0


def test_each_element_of_a_list_has_its_own_time(store, clock):
    items = store.register(rs.ListState("items", ttl=TTL))
    store.select("a", "a")
    items.add(1)
    clock.advance(60)
    items.add(2)
    assert items.get() == [1, 2]
    clock.advance(40)
    assert items.get() == [2]
    again = restored(store, clock, rs.ListState("items", ttl=TTL))
    assert again.get() == [2]
    clock.advance(60)
    assert (items.get(), again.get()) == ([], [])
    assert rows(store, "items") == 0


def test_each_entry_of_a_map_has_its_own_time(store, clock):
    counts = store.register(rs.MapState("counts", ttl=TTL))
    store.select("a", "a")
    counts.put("x", 1)
    counts.put(1.5, 1)
    clock.advance(60)
    counts.put("y", 2)
    clock.advance(40)
    assert (counts.items(), counts.get("x"), "x" in counts, 1.5 in counts, len(counts)) == (
        [("y", 2)],
        None,
        False,
        False,
        1,
    )
    again = restored(store, clock, rs.MapState("counts", ttl=TTL))
    assert again.items() == [("y", 2)]
    clock.advance(59)
    assert not counts.is_empty()
    clock.advance(1)
    assert counts.is_empty()
    assert again.is_empty()
    assert rows(store, "counts") == 0


def test_time_is_kept_over_a_snapshot(store, clock):
    total = store.register(rs.ValueState("total", ttl=TTL))
    store.select("a", "a")
    total.update(1)
    clock.advance(60)
    again = restored(store, clock, rs.ValueState("total", ttl=TTL))
    clock.advance(39)
    assert again.value() == 1
    clock.advance(1)
    assert again.value() is None


def test_state_that_had_no_ttl_was_written_when_it_is_restored(store, clock):
    total = store.register(rs.ValueState("total"))
    store.select("a", "a")
    total.update(1)
    again = restored(store, clock, rs.ValueState("total", ttl=TTL))
    clock.advance(TTL - 1)
    assert again.value() == 1
    clock.advance(1)
    assert again.value() is None


def test_the_dead_leave_memory_while_others_are_written(clock):
    cells = Expiring(clock, TTL)
    for key in range(1_000):
        cells[key] = key
        clock.advance(1)
    assert cells.held() <= TTL + 1


def test_the_dead_leave_the_disk_while_others_are_written(clock, tmp_path):
    keys = KeyForm.objects()
    store = KeyedStore(keys, clock, 128, "disk", str(tmp_path), cached_values_max=4)
    total = store.register(rs.ValueState("total", ttl=TTL))
    for key in range(1_000):
        store.select(key, key)
        total.update(key)
        clock.advance(1)
    cells = store._states["total"].cells._cells
    assert sum(1 for _ in cells._rows(b"")) <= 4 * TTL
    store.close()


@pytest.mark.parametrize("ttl", [0, "-1s"])
def test_a_ttl_is_longer_than_nothing(ttl):
    with pytest.raises(UserError, match='ttl of state "total" must be longer than nothing'):
        rs.ValueState("total", ttl=ttl)
