"""Handles over cells: what a function reads is what it wrote for the same key, and nothing else."""

from __future__ import annotations

from datetime import date, datetime, timezone
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.errors import UserError, UserFunctionError
from raystream.flow.key import canonical
from raystream.keyed.key_form import KeyForm
from raystream.keyed.snapshot import KEY_GROUP
from raystream.keyed.store import KeyedStore

HOUR_US = 3_600_000_000
WORDS = KeyForm.columns([pa.field("word", pa.string())])


@pytest.fixture(params=["memory", "disk"])
def backend(request):
    return request.param


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def opened(backend, clock, tmp_path):
    """Makes stores, and closes them in the end."""
    stores = []

    def make(keys=None, **named):
        keys = keys or KeyForm.objects()
        # Two values in use at a time: almost every look-up goes to disk.
        store = KeyedStore(keys, clock, 128, backend, str(tmp_path), cached_values_max=2, **named)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()
    assert not list(tmp_path.iterdir())


def at(store, key):
    store.select(canonical(key), key)


def restored(opened, store, keys=None):
    """Give a store that was made of another one's snapshot."""
    again = opened(keys)
    again.restore(tuple(store.snapshot()))
    return again


def section(store, name):
    return next(one.table for one in store.snapshot() if one.name == f"state:{name}")


def test_each_key_has_a_value_of_its_own(opened):
    store = opened()
    total = store.register(rs.ValueState("total", default=0))
    for key in ["a", "b", "a", None, 1, True, 1.0, ("a", 1)]:
        at(store, key)
        total.update(total.value() + 1)
    found = {}
    for key in ["a", "b", None, 1, True, 1.0, ("a", 1), "c"]:
        at(store, key)
        found[repr(key)] = total.value()
    assert list(found.values()) == [2, 1, 1, 1, 1, 1, 1, 0]


def test_clearing_and_none_give_the_default_again(opened):
    store = opened()
    total = store.register(rs.ValueState("total", default=7))
    at(store, "a")
    for forget in (total.clear, partial(total.update, None)):
        total.update(1)
        assert total.value() == 1
        forget()
        assert total.value() == 7
    assert section(store, "total").num_rows == 0


def test_a_default_is_copied_and_kept_by_update_only(opened):
    default = {"n": []}
    store = opened()
    value = store.register(rs.ValueState("value", default=default))
    at(store, "a")
    value.value()["n"].append(1)
    assert value.value() == {"n": []} == default
    mine = value.value()
    mine["n"].append(1)
    value.update(mine)
    assert value.value() == {"n": [1]}
    at(store, "b")
    assert value.value() == {"n": []}


def test_a_default_that_can_be_called_is_called(opened):
    store = opened()
    value = store.register(rs.ValueState("value", default=list))
    at(store, "a")
    assert value.value() == []


def test_a_list_is_handed_out_as_a_copy(opened):
    store = opened()
    items = store.register(rs.ListState("items"))
    at(store, "a")
    assert items.get() == []
    items.add(1)
    items.add(2)
    items.get().append(3)
    assert items.get() == [1, 2]
    given = [5, 6]
    items.update(given)
    given.append(7)
    assert items.get() == [5, 6]
    items.add(8)
    assert items.get() == [5, 6, 8]
    items.update([])
    assert items.get() == []
    assert section(store, "items").num_rows == 0


def test_a_map_has_the_methods_of_a_dict(opened):
    store = opened()
    counts = store.register(rs.MapState("counts"))
    at(store, "a")
    assert counts.is_empty()
    assert counts.get("x", 3) == 3
    counts.put("x", 1)
    counts["y"] = 2
    assert (counts.get("x"), counts["y"], "x" in counts, counts.contains("z")) == (
        1,
        2,
        True,
        False,
    )
    assert sorted(counts.items()) == [("x", 1), ("y", 2)]
    assert (sorted(counts.keys()), sorted(counts.values()), len(counts)) == (["x", "y"], [1, 2], 2)
    at(store, "b")
    assert counts.is_empty()
    at(store, "a")
    counts.remove("x")
    counts.remove("x")
    with pytest.raises(KeyError):
        counts["x"]
    with pytest.raises(KeyError):
        del counts["x"]
    del counts["y"]
    assert counts.is_empty()
    assert section(store, "counts").num_rows == 0


def test_a_map_may_be_changed_while_its_keys_are_read(opened):
    store = opened()
    counts = store.register(rs.MapState("counts"))
    at(store, "a")
    for key in range(5):
        counts.put(key, key)
    for key in counts:
        counts.remove(key)
    assert counts.is_empty()


def test_the_keys_of_a_map_are_told_apart_as_keys_are(opened):
    store = opened()
    names = store.register(rs.MapState("names"))
    at(store, "a")
    moment = datetime(2024, 1, 2, tzinfo=timezone.utc)
    for key in [1, 1.0, True, (1, "x"), moment, np.int64(5), b"raw", None, -0.0]:
        names.put(key, repr(key))
    assert [names[1], names[1.0], names[True]] == ["1", "1.0", "True"]
    assert names[(1, "x")] == "(1, 'x')"
    assert names[moment] == repr(moment)
    assert (names[5], names[b"raw"], names[None], names[0.0]) == (
        repr(np.int64(5)),
        "b'raw'",
        "None",
        "-0.0",
    )
    assert len(names) == 9
    assert sorted(map(repr, restored_map(opened, store))) == sorted(map(repr, names.items()))


def restored_map(opened, store):
    again = restored(opened, store)
    names = again.register(rs.MapState("names"))
    at(again, "a")
    return names.items()


@pytest.mark.parametrize("key", [[1], {"a": 1}, {1}, object()])
def test_what_cannot_be_a_key_of_a_map_is_refused(opened, key):
    store = opened()
    names = store.register(rs.MapState("names"))
    at(store, "a")
    with pytest.raises(UserFunctionError, match="a key cannot be a"):
        names.put(key, 1)


def test_a_reducing_state_folds(opened):
    store = opened()
    least = store.register(rs.ReducingState("least", min))
    at(store, "a")
    assert least.get() is None
    for value in (5, 3, 4):
        least.add(value)
    assert least.get() == 3
    least.clear()
    assert least.get() is None


class Longest(rs.AggregateFunction):
    type = pa.int64()

    def create(self):
        return []

    def add(self, acc, row):
        acc.append(len(row))
        return acc

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return max(acc)


def test_an_aggregating_state_takes_rows(opened):
    store = opened()
    mean = store.register(rs.AggregatingState("mean", rs.mean("x")))
    longest = store.register(rs.AggregatingState("longest", Longest()))
    count = store.register(rs.AggregatingState("count", rs.count(), type=pa.int64()))
    last = store.register(rs.AggregatingState("last", rs.last("x")))
    at(store, "a")
    assert (mean.get(), longest.get(), count.get()) == (None, None, None)
    for x in (1, 2, 6):
        for state in (mean, count, last):
            state.add({"x": x})
        longest.add("x" * x)
    assert (mean.get(), longest.get(), count.get(), last.get()) == (3.0, 6, 3, 6)
    again = restored(opened, store)
    last = again.register(rs.AggregatingState("last", rs.last("x")))
    at(again, "a")
    last.add({"x": 9})
    assert last.get() == 9
    mean.clear()
    assert mean.get() is None


def test_namespaces_keep_windows_apart(opened):
    store = opened()
    count = store.register(rs.ValueState("count", default=0), namespaced=True)
    total = store.register(rs.ValueState("total", default=0))
    for key, window in [("a", (0, 10)), ("a", (10, 20)), ("b", (0, 10)), ("a", (0, 10)), ("a", 3)]:
        at(store, key)
        store.enter(window)
        count.update(count.value() + 1)
        total.update(total.value() + 1)
    for one in (store, restored(opened, store)):
        count = one.register(rs.ValueState("count", default=0), namespaced=True)
        total = one.register(rs.ValueState("total", default=0))
        at(one, "a")
        found = []
        for window in [(0, 10), (10, 20), 3, None]:
            one.enter(window)
            found.append(count.value())
        assert (found, total.value()) == ([2, 1, 1, 0], 4)
        one.enter((0, 10))
        at(one, "b")
        assert count.value() == 1


def test_a_name_twice_is_the_same_handle(opened):
    store = opened()
    first = store.register(rs.ValueState("total", type=pa.int64()))
    assert store.register(rs.ValueState("total", type=pa.int64())) is first


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            rs.ValueState("total", type=pa.string()),
            r'state "total" is a ValueState\(type=string\), but was a ValueState\(type=int64\)',
        ),
        (rs.ListState("total"), "is a ListState, but was a ValueState"),
        (rs.MapState("total", key_type=pa.string()), r"is a MapState\(key_type=string\), but was"),
    ],
)
def test_a_name_for_two_things_is_refused(opened, other, message):
    store = opened()
    store.register(rs.ValueState("total", type=pa.int64()))
    with pytest.raises(UserError, match=message):
        store.register(other)


def test_what_is_no_keyed_state_is_refused(opened):
    store = opened()
    with pytest.raises(UserError, match="an OperatorListState, which belongs to no key"):
        store.register(rs.OperatorListState("offsets"))
    with pytest.raises(UserError, match="'total' describes no state"):
        store.register("total")


def test_a_typed_state_is_a_column_of_that_very_type(opened):
    store = opened(WORDS)
    total = store.register(rs.ValueState("total", type=pa.int16()))
    items = store.register(rs.ListState("items", type=pa.float64()))
    names = store.register(rs.MapState("names", key_type=pa.date32(), type=pa.string()))
    for word in ("a", "b"):
        at(store, word)
        total.update(5)
        items.update([1.5, 2.5])
        names.put(date(2024, 5, 6), word)
    schema = {KEY_GROUP: pa.int32(), "word": pa.string()}
    assert types(section(store, "total")) == schema | {"value": pa.int16()}
    assert types(section(store, "items")) == schema | {"value": pa.list_(pa.float64())}
    assert types(section(store, "names")) == schema | {
        "map_key": pa.date32(),
        "value": pa.string(),
    }
    again = restored(opened, store, WORDS)
    at(again, "b")
    assert again.register(rs.ValueState("total", type=pa.int16())).value() == 5
    assert again.register(rs.ListState("items", type=pa.float64())).get() == [1.5, 2.5]
    names = again.register(rs.MapState("names", key_type=pa.date32(), type=pa.string()))
    assert names.items() == [(date(2024, 5, 6), "b")]


def types(table):
    return dict(zip(table.schema.names, table.schema.types, strict=True))


@pytest.mark.parametrize(
    ("type", "value"), [(pa.int64(), "x"), (pa.int64(), 1.5), (pa.string(), 3), (pa.float64(), "x")]
)
def test_a_value_of_the_wrong_type_is_told_where_it_is_written(opened, type, value):
    store = opened(operator="sessions")
    total = store.register(rs.ValueState("total", type=type))
    at(store, "a")
    with pytest.raises(UserError, match=rf'state "total" of sessions is of type .*{value}'):
        total.update(value)
    assert total.value() is None


@pytest.mark.parametrize(("type", "value"), [(pa.int8(), 300), (pa.uint64(), -1)], ids=str)
def test_an_integer_outside_of_a_narrow_type_is_told_at_once(opened, type, value):
    store = opened(operator="sessions")
    total = store.register(rs.ValueState("total", type=type))
    at(store, "a")
    total.update(3)
    with pytest.raises(UserError, match=rf'state "total" of sessions is of type .*{value}'):
        total.update(value)
    assert total.value() == 3


def test_a_value_too_large_is_told_with_the_snapshot(opened):
    store = opened(operator="sessions")
    total = store.register(rs.ValueState("total", type=pa.int64()))
    for key, value in [("a", 3), ("b", 1 << 63)]:
        at(store, key)
        total.update(value)
    with pytest.raises(UserError, match=r'state "total" of sessions is of type int64, and 9223'):
        store.snapshot()


def test_a_number_of_another_kind_becomes_one_of_the_type(opened):
    store = opened()
    total = store.register(rs.ValueState("total", type=pa.float64()))
    at(store, "a")
    total.update(3)
    assert type(total.value()) is float
    total.update(np.float32(2.5))
    assert type(total.value()) is float


def test_a_snapshot_does_not_change_with_what_is_written_next(opened):
    store = opened()
    value = store.register(rs.ValueState("value"))
    items = store.register(rs.ListState("items"))
    at(store, "a")
    value.update({"n": [1]})
    items.add([1])
    kept = tuple(store.snapshot())
    value.value()["n"].append(2)
    items.get()[0].append(2)
    items.add(3)
    again = opened()
    again.restore(kept)
    at(again, "a")
    assert again.register(rs.ValueState("value")).value() == {"n": [1]}
    assert again.register(rs.ListState("items")).get() == [[1]]


def test_what_pickle_cannot_is_kept_all_the_same(opened):
    store = opened()
    value = store.register(rs.ValueState("value"))
    at(store, "a")
    value.update(lambda x: x + 1)
    again = restored(opened, store)
    at(again, "a")
    assert again.register(rs.ValueState("value")).value()(1) == 2


def test_what_nobody_has_registered_waits_and_is_kept(opened):
    store = opened()
    value = store.register(rs.ValueState("value"))
    at(store, "a")
    value.update(1)
    third = restored(opened, restored(opened, store))
    at(third, "a")
    assert third.register(rs.ValueState("value")).value() == 1


def test_what_was_registered_before_takes_it_up(opened):
    store = opened()
    value = store.register(rs.ValueState("value"))
    at(store, "a")
    value.update(1)
    again = opened()
    value = again.register(rs.ValueState("value"))
    again.restore(tuple(store.snapshot()))
    at(again, "a")
    assert value.value() == 1


@pytest.mark.parametrize(
    "other", [rs.ListState("value"), rs.MapState("value"), rs.ValueState("value", type=pa.string())]
)
def test_state_that_was_another_one_before_is_refused(opened, other):
    store = opened()
    value = store.register(rs.ValueState("value", type=pa.int64()))
    at(store, "a")
    value.update(1)
    again = restored(opened, store)
    with pytest.raises(UserError, match='state "value" was kept as'):
        again.register(other)


def test_a_typed_key_is_found_by_what_it_was_put_with(opened):
    store = opened()
    counts = store.register(rs.MapState("counts", key_type=pa.float64()))
    at(store, "a")
    counts.put(1, "one")
    assert (counts.get(1), counts[1.0], 1 in counts) == ("one", "one", True)
    counts.remove(1)
    assert counts.is_empty()
    with pytest.raises(UserError, match="state \"counts\" is of type double, and 'x'"):
        counts.put("x", 1)


def test_keys_of_other_columns_are_refused(opened):
    store = opened(WORDS)
    value = store.register(rs.ValueState("value"))
    at(store, "a")
    value.update(1)
    other = restored(opened, store, KeyForm.columns([pa.field("user", pa.string())]))
    with pytest.raises(UserError, match="kept by other keys: .*word.*, the key is user"):
        other.register(rs.ValueState("value"))
