"""A process function in any number of subtasks is what it is in plain Python.

Rows, watermarks, time that passes, snapshots that are taken up by as many subtasks or by others:
in any order, each step gives the rows that the model gives, and state is the same at the end.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from process_model import Model

import raystream as rs
from raystream.flow.element import MAX_TIME
from raystream.flow.hashing import hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.keyed.snapshot import share

MAX_PARALLELISM = 128
KEYS = ["a", "b", "c", 1, None]
TIMES = st.integers(-5, 30)
CALLS = [
    "register_event_time",
    "register_processing_time",
    "delete_event_time",
    "delete_processing_time",
]


class Obeys(rs.BroadcastProcessFunction):
    """Does what its rows say."""

    def open(self, ctx):
        self.count = ctx.state(rs.ValueState("count", type=pa.int64(), default=0))
        self.list = ctx.state(rs.ListState("list"))
        self.map = ctx.state(rs.MapState("map", type=pa.int64()))
        self.known = ctx.state(rs.BroadcastState("known"))

    def process(self, row, ctx):
        self.count.update(self.count.value() + 1)
        self.list.add(row["time"])
        for call in row["calls"]:
            getattr(ctx.timers, call)(row["time"])
        self.map.put(row["time"], self.count.value())
        if row["rows"] == 0:
            ctx.output("none", ctx.key)
        for number in range(row["rows"]):
            yield "row", ctx.key, ctx.timestamp, number, len(self.known.items())

    def process_broadcast(self, row, ctx):
        self.known.put(row, ctx.timestamp)

    def on_timer(self, timestamp, ctx):
        now = ctx.watermark if ctx.domain == "event" else ctx.processing_time
        yield ctx.domain, ctx.key, timestamp, now, self.count.value(), tuple(self.list.get())
        if timestamp % 3 == 0:
            ctx.timers.register_event_time(timestamp + 1)
            ctx.timers.delete_processing_time(timestamp + 1)
        elif timestamp % 3 == 1:
            self.list.update(self.list.get()[-1:])
        else:
            ctx.timers.register_processing_time(timestamp)
            ctx.timers.delete_processing_time(timestamp)
            self.map.clear()
            self.count.clear()


def rows() -> st.SearchStrategy[Any]:
    return st.tuples(
        st.just("row"),
        st.sampled_from(KEYS),
        st.none() | TIMES,
        st.fixed_dictionaries(
            {
                "time": TIMES,
                "calls": st.lists(st.sampled_from(CALLS), max_size=3),
                "rows": st.integers(0, 3),
            }
        ),
    )


STEPS = st.lists(
    rows()
    | rows()
    | st.tuples(st.just("known"), st.integers(0, 3), TIMES)
    | st.tuples(st.just("watermark"), TIMES)
    | st.tuples(st.just("advance"), st.integers(0, 9))
    | st.tuples(st.just("restore"), st.integers(1, 4)),
    max_size=40,
)


class Subtasks:
    """The same function in several subtasks, keys to those that own them."""

    def __init__(self) -> None:
        self.now = self.advanced = 0
        self.they = [self._one()]

    def _one(self) -> rs.testing.Harness:
        one = rs.testing.harness(Obeys, keyed_by=lambda row: row["key"])
        one.advance(self.now)
        return one

    def owner(self, key: Any) -> rs.testing.Harness:
        groups = key_groups(hash_objects([key]), MAX_PARALLELISM)
        (place,) = subtask_of(groups, len(self.they), MAX_PARALLELISM).tolist()
        return self.they[place]

    def restore(self, parallelism: int) -> None:
        kept = [one.snapshot() for one in self.they]
        self.they = [self._one() for _ in range(parallelism)]
        for place, one in enumerate(self.they):
            one.restore(share(kept, place, parallelism, MAX_PARALLELISM))


def step(its: Subtasks, model: Model, what: tuple[Any, ...]) -> list[Any]:
    """Let the subtasks and the model do one thing; give what came of it in the subtasks."""
    match what:
        case ("row", key, time, row):
            model.row("process", time, {**row, "key": key}, key)
            model.advance(0)  # a timer set for the past fires at once
            return its.owner(key).push({**row, "key": key}, ts=time)
        case ("known", row, time):
            model.row("process_broadcast", time, row)
            return [out for one in its.they for out in one.push(row, ts=time, to="broadcast")]
        case ("watermark", time):
            model.watermark_is(time)
            model.advance(0)
            return [out for one in its.they for out in one.watermark(time)]
        case ("advance", us):
            model.advance(us)
            its.now += us
            return [out for one in its.they for out in one.advance(us)]
        case ("restore", parallelism):
            its.restore(parallelism)
    return []


def watermarks_rise(steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leave out watermarks that do not rise: a subtask is never told one."""
    level, kept = -(10**9), []
    for what in steps:
        if what[0] != "watermark":
            kept.append(what)
        elif what[1] > level:
            level = what[1]
            kept.append(what)
    return kept


@given(STEPS)
def test_subtasks_that_come_and_go_do_what_plain_python_does(steps):
    its, model = Subtasks(), Model(Obeys(), timed=False)
    for what in [*watermarks_rise(steps), ("watermark", MAX_TIME)]:
        before = len(model.rows)
        got = step(its, model, what)
        wanted = [row for _, row in model.rows[before:]]
        assert Counter(got) == Counter(wanted), what
        if what[0] == "watermark":
            for one in its.they:
                mine = [row for row in got if row[0] == "event" and its.owner(row[1]) is one]
                times = [row[2] for row in mine]
                assert times == sorted(times)
    for name in ("count", "list", "map"):
        present = {key: value for one in its.they for key, value in one.state(name).items()}
        assert present == model.present(name)
    for one in its.they:
        assert one.state("known") == model.present("known").get("all", {})
