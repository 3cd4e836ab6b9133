"""Timers are a set, fire by time, and are exact when they are deleted."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raystream.clock import ManualClock
from raystream.flow.key import canonical
from raystream.keyed.key_form import KeyForm
from raystream.keyed.snapshot import share
from raystream.keyed.store import KeyedStore
from raystream.keyed.timers import Timer, Timers

WORDS = KeyForm.columns([pa.field("word", pa.string())])


@pytest.fixture(params=["objects", "columns", "disk"])
def timers(request, tmp_path):
    if request.param != "disk":
        yield Timers(KeyForm.objects() if request.param == "objects" else WORDS, 128)
        return
    # Two timers in memory: the others are written and read again.
    keys, clock = KeyForm.objects(), ManualClock()
    store = KeyedStore(keys, clock, 128, "disk", str(tmp_path), cached_values_max=2)
    yield store.timers()
    store.close()


def put(timers, key, *times, domain="event", namespace=None):
    for time_us in times:
        timers.register(domain, time_us, canonical(key), key, namespace)


def fired(timers, upto_us, domain="event"):
    found = []
    while (timer := timers.pop(domain, upto_us)) is not None:
        found.append((timer.key, timer.time_us))
    return found


def test_c10_a_timer_registered_again_is_one_and_fires_by_time(timers):
    put(timers, "k", 10, 10, 10, 5)
    put(timers, "j", 10)
    first, *others = fired(timers, 10)
    assert (first, sorted(others)) == (("k", 5), [("j", 10), ("k", 10)])
    assert fired(timers, 10) == []


def test_c10_a_deleted_timer_does_not_fire_and_its_neighbours_do(timers):
    put(timers, "k", 10, 10, 10, 5)
    put(timers, "j", 10)
    timers.delete("event", 10, "k")
    timers.delete("event", 10, "k")
    timers.delete("event", 11, "k")
    assert fired(timers, 10) == [("k", 5), ("j", 10)]


def test_c11_a_timer_of_the_past_waits_for_the_next_look(timers):
    assert timers.pop("event", 20) is None
    put(timers, "k", 15)
    assert timers.due_us("event") == 15
    assert timers.pop("event", 21) == Timer(15, "k", "k", None)


def test_what_is_registered_while_timers_fire_fires_in_the_same_pass(timers):
    put(timers, "a", 10, 20)
    put(timers, "b", 10)
    assert timers.pop("event", 20).key == "a"
    put(timers, "c", 10, 5)
    found = fired(timers, 20)
    assert found[0] == ("c", 5)
    assert sorted(found[1:3]) == [("b", 10), ("c", 10)]
    assert found[3:] == [("a", 20)]


def test_domains_and_namespaces_are_apart(timers):
    put(timers, "k", 10)
    put(timers, "k", 7, domain="processing")
    put(timers, "k", 10, namespace=(0, 10))
    put(timers, "k", 10, namespace=3)
    assert (timers.due_us("event"), timers.due_us("processing")) == (10, 7)
    assert len(timers) == 4
    timers.delete("event", 10, "k", (0, 10))
    assert [timers.pop("event", 10).namespace for _ in range(2)] == [None, 3]
    assert (timers.due_us("event"), timers.due_us("processing")) == (None, 7)


def test_deleted_timers_do_not_stay_in_memory(timers):
    put(timers, "first", 0)
    for time_us in range(1, 10_000):
        put(timers, "k", time_us)
        timers.delete("event", time_us, "k")
    queue = timers._queues["event"]
    assert len(queue.heap) <= 100
    assert len(queue.moments) == 1


def test_a_snapshot_gives_the_same_timers_in_the_same_order(timers):
    for key in "abc":
        put(timers, key, 10, 5, namespace=(0, 10))
        put(timers, key, 7, domain="processing")
    assert timers.pop("event", 10).key == "a"
    again = Timers(timers._keys, 128)
    again.restore(tuple(timers.snapshot()))
    assert len(again) == len(timers) == 8
    assert sorted(fired(again, 10)) == sorted(fired(timers, 10))
    assert sorted(fired(again, 10, "processing")) == [("a", 7), ("b", 7), ("c", 7)]


@pytest.mark.parametrize("key", [1.5, True, None, ("a", 1), 2**70, b"raw", 5])
def test_keys_come_back_as_they_were(key):
    timers = Timers(KeyForm.objects(), 16)
    put(timers, key, 1)
    again = Timers(KeyForm.objects(), 16)
    again.restore(share([tuple(timers.snapshot())], 0, 1, 16))
    timer = again.pop("event", 1)
    assert (timer.key, timer.key_id) == (key, canonical(key))
    assert type(timer.key) is type(key)


def test_timers_of_one_moment_fire_in_the_order_of_their_registering():
    timers = Timers(WORDS, 128)
    for key in "cab":
        put(timers, key, 10)
    assert [key for key, _ in fired(timers, 10)] == ["c", "a", "b"]


def test_timers_in_memory_are_bounded_on_disk(tmp_path):
    keys, clock = KeyForm.objects(), ManualClock()
    store = KeyedStore(keys, clock, 128, "disk", str(tmp_path), cached_values_max=20)
    timers = store.timers()
    times = [n * 37 % 500 for n in range(500)]
    for time_us in times:
        put(timers, "k", time_us)
        assert len(timers._queues["event"].moments) <= 20
    found = []
    while (timer := timers.pop("event", 500)) is not None:
        assert len(timers._queues["event"].moments) <= 20
        found.append(timer.time_us)
    assert found == sorted(times)
    store.close()
