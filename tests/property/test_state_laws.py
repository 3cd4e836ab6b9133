"""State and timers do what dicts and sorted sets do, over snapshots and other parallelisms."""

from __future__ import annotations

import tempfile
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from conformance_lineage import Lineages, same_rows
from hypothesis import given, settings
from hypothesis import strategies as st

import raystream as rs
from raystream.clock import ManualClock
from raystream.flow.hashing import hash_value
from raystream.flow.key import canonical
from raystream.flow.keygroup import subtask_of
from raystream.keyed.key_form import KeyForm
from raystream.keyed.snapshot import share
from raystream.keyed.store import KeyedStore
from raystream.keyed.timers import Timers

GROUPS, TTL = 16, 50
BACKENDS = ["memory", pytest.param("disk", marks=pytest.mark.slow)]
TOTAL = rs.ValueState("total", type=pa.int64(), default=0)
SEEN = rs.ValueState("seen", ttl=TTL)
ITEMS = rs.ListState("items", type=pa.string())
RECENT = rs.ListState("recent", ttl=TTL)
COUNTS = rs.MapState("counts", key_type=pa.string(), type=pa.int64())
LATEST = rs.MapState("latest", ttl=TTL)
LEAST = rs.ReducingState("least", min, type=pa.int64())
MEAN = rs.AggregatingState("mean", rs.mean("x"))
PLAIN = [SEEN, ITEMS, RECENT, COUNTS, LATEST, LEAST, MEAN]


class Subtasks:
    """The stores of all subtasks, and what dicts would hold."""

    def __init__(self, backend, form, folder):
        self.backend, self.form, self.folder = backend, form, folder
        self.clock = ManualClock()
        self.stores, self.handles = [], []
        self.model = defaultdict(dict)
        self.spread([()], 1)

    def spread(self, snapshots, parallelism):
        for store in self.stores:
            store.close()
        self.stores, self.handles = [], []
        self.lineages = [Lineages() for _ in range(parallelism)]
        for index in range(parallelism):
            store = KeyedStore(
                self.form, self.clock, GROUPS, self.backend, self.folder, cached_values_max=4
            )
            handles = {one.name: store.register(one) for one in PLAIN}
            store.restore(share(snapshots, index, parallelism, GROUPS))
            # Registered behind restore: what nobody asked for waits.
            handles["total"] = store.register(TOTAL, namespaced=True)
            self.stores.append(store)
            self.handles.append(handles)

    def rescale(self, parallelism):
        self.spread([tuple(store.snapshot()) for store in self.stores], parallelism)

    def keep_changes(self):
        for store, lineage in zip(self.stores, self.lineages, strict=True):
            lineage.take(tuple(store.changes()))
            same_rows(lineage.snapshot(), tuple(store.snapshot()))

    def rescale_from_changes(self, parallelism):
        self.keep_changes()
        self.spread([lineage.snapshot() for lineage in self.lineages], parallelism)

    def at(self, key, space=None):
        groups = np.array([hash_value(key) % GROUPS])
        index = int(subtask_of(groups, len(self.stores), GROUPS)[0])
        self.stores[index].select(canonical(key), key)
        self.stores[index].enter(space)
        return self.handles[index]

    def alive(self, name, slot):
        """Give what has not expired: (written_us, value) by place or key."""
        now_us, kept = self.clock.now_us(), self.model[name].get(slot, {})
        return {place: value for place, (at_us, value) in kept.items() if now_us - at_us < TTL}

    def check(self, key, space):
        handles, model = self.at(key, space), self.model
        key = canonical(key)
        assert handles["total"].value() == model["total"].get((key, space), 0)
        assert handles["seen"].value() == self.alive("seen", key).get(0)
        assert handles["items"].get() == model["items"].get(key, [])
        assert handles["recent"].get() == list(self.alive("recent", key).values())
        assert dict(handles["counts"].items()) == model["counts"].get(key, {})
        assert dict(handles["latest"].items()) == self.alive("latest", key)
        assert len(handles["latest"]) == len(self.alive("latest", key))
        assert handles["latest"].is_empty() == (not self.alive("latest", key))
        added = model["least"].get(key)
        assert handles["least"].get() == (min(added) if added else None)
        assert handles["mean"].get() == (sum(added) / len(added) if added else None)

    def apply(self, name, key, space, n):
        handles, model, now_us = self.at(key, space), self.model, self.clock.now_us()
        key = canonical(key)  # dicts take True for 1
        word = "abc"[n % 3]
        if name == "total":
            handles["total"].update(handles["total"].value() + n)
            model["total"][key, space] = model["total"].get((key, space), 0) + n
        elif name == "seen":
            handles["seen"].update([n])
            model["seen"][key] = {0: (now_us, [n])}
        elif name == "items":
            handles["items"].add(word)
            model["items"].setdefault(key, []).append(word)
        elif name == "replace":
            handles["items"].update([word] * (n % 3))
            model["items"][key] = [word] * (n % 3)
        elif name == "recent":
            handles["recent"].add(n)
            kept = model["recent"].setdefault(key, {})
            kept[len(kept)] = (now_us, n)
        elif name == "counts":
            handles["counts"].put(word, n)
            model["counts"].setdefault(key, {})[word] = n
        elif name == "remove":
            handles["counts"].remove(word)
            handles["latest"].remove((word, 1.5))
            model["counts"].get(key, {}).pop(word, None)
            model["latest"].get(key, {}).pop((word, 1.5), None)
        elif name == "latest":
            handles["latest"][word, 1.5] = None if n == 5 else n
            value = None if n == 5 else n
            model["latest"].setdefault(key, {})[word, 1.5] = (now_us, value)
        elif name == "added":
            handles["least"].add(n)
            handles["mean"].add({"x": n})
            model["least"].setdefault(key, []).append(n)
        elif name == "clear":
            for one in handles.values():
                one.clear()
            for kept in model.values():
                kept.pop(key, None)
            model["total"].pop((key, space), None)
        elif name == "advance":
            self.clock.advance(n * 10)
        elif name == "rescale":
            self.rescale(n % 3 + 1)
        elif name == "changes":
            self.keep_changes()
        elif name == "rescale from changes":
            self.rescale_from_changes(n % 3 + 1)


WRITES = ["total", "seen", "items", "replace", "recent", "counts", "remove", "latest", "added"]
REST = ["clear", "advance", "advance", "changes", "changes", "rescale", "rescale from changes"]
SPACES = [None, (0, 10), 3]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*WRITES, *WRITES, *REST]),
        st.integers(0, 5),
        st.sampled_from(SPACES),
        st.integers(0, 9),
    ),
    max_size=40,
)
FORMS = [
    pytest.param(KeyForm.objects(), [1, "1", None, 1.5, ("a", 1), True], id="objects"),
    pytest.param(
        KeyForm.columns([pa.field("a", pa.string()), pa.field("value", pa.float64())]),
        [("a", 1.0), ("a", 2.0), ("b", 1.0), (None, 0.0), ("a", None), ("", -1.0)],
        id="columns",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["memory", "disk"])
@pytest.mark.parametrize(("form", "keys"), FORMS)
@given(steps=STEPS)
@settings(max_examples=30)
def test_state_is_what_dicts_hold(backend, form, keys, steps):
    with tempfile.TemporaryDirectory() as folder:
        subtasks = Subtasks(backend, form, folder)
        for name, key, space, n in steps:
            subtasks.apply(name, keys[key], space, n)
            subtasks.check(keys[key], space)
        subtasks.rescale(2)
        for key in keys:
            for space in SPACES:
                subtasks.check(key, space)
        for store in subtasks.stores:
            store.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_c29_every_key_keeps_its_value_over_other_parallelisms(backend, tmp_path):
    subtasks = Subtasks(backend, KeyForm.columns([pa.field("k", pa.int64())]), str(tmp_path))
    keys = range(300)
    for key in keys:
        subtasks.apply("total", key, (0, 10), key)
        subtasks.apply("counts", key, None, key)
    for parallelism in (3, 5, 2):
        subtasks.rescale(parallelism)
        tables = [store.snapshot()[-1].table for store in subtasks.stores]
        assert sorted(k for table in tables for k in table.column("k").to_pylist()) == list(keys)
        for key in keys:
            subtasks.check(key, (0, 10))
    for store in subtasks.stores:
        store.close()
    assert not list(tmp_path.iterdir())


TIMER_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["register", "register", "delete", "fire", "changes", "restore", "restore changes"]
        ),
        st.sampled_from(["event", "processing"]),
        st.integers(0, 12),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([None, (0, 10)]),
    ),
    max_size=60,
)


@given(steps=TIMER_STEPS)
def test_timers_are_a_sorted_set(steps):
    check_timers(lambda: Timers(KeyForm.objects(), GROUPS), steps)


@pytest.mark.slow
@given(steps=TIMER_STEPS, held_max=st.integers(1, 12))
@settings(max_examples=40)
def test_timers_on_disk_are_a_sorted_set(steps, held_max):
    stores = []

    def opened():
        while stores:
            stores.pop().close()
        store = KeyedStore(
            KeyForm.objects(), ManualClock(), GROUPS, "disk", folder, cached_values_max=held_max
        )
        stores.append(store)
        return store.timers()

    with tempfile.TemporaryDirectory() as folder:
        check_timers(opened, steps)
        stores.pop().close()


def check_timers(opened, steps):
    timers, model, lineage = opened(), set(), Lineages()
    for name, domain, time_us, key, space in steps:
        if name == "register":
            timers.register(domain, time_us, key, key, space)
            model.add((domain, time_us, key, space))
        elif name == "delete":
            timers.delete(domain, time_us, key, space)
            model.discard((domain, time_us, key, space))
        elif name == "fire":
            fired = []
            while (timer := timers.pop(domain, time_us)) is not None:
                fired.append((domain, timer.time_us, timer.key, timer.namespace))
            due = {one for one in model if one[0] == domain and one[1] <= time_us}
            assert set(fired) == due
            assert [one[1] for one in fired] == sorted(one[1] for one in due)
            model -= due
        elif name == "changes":
            lineage.take(tuple(timers.changes()))
            same_rows(lineage.snapshot(), tuple(timers.snapshot()))
        else:
            kept = [tuple(timers.snapshot())]
            if name == "restore changes":
                lineage.take(tuple(timers.changes()))
                kept = [lineage.snapshot()]
            parts = [share(kept, index, 2, GROUPS) for index in range(2)]
            timers, lineage = opened(), Lineages()
            for part in parts:
                timers.restore(part)
        assert len(timers) == len(model)
        for each in ("event", "processing"):
            times = [one[1] for one in model if one[0] == each]
            assert timers.due_us(each) == (min(times) if times else None)
