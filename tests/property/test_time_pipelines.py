"""What comes out of time and state does not depend on batches, parallelism, or what runs first.

Rows come out of order, none later than the strategy allows. Each pipeline runs once as plainly as
it can, and then with other batches, on more subtasks, in an order that a seed draws, on columns and
on objects: the rows are the same.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raystream as rs
from raystream.graph.planner import physical_plan
from raystream.runtime import local

LATE = 7
SCHEMA = pa.schema({"k": pa.string(), "v": pa.float64(), "n": pa.int64(), "t": pa.int64()})
BATCHES = [1, 7, 4096]
IN_ANY_ORDER = {
    "count": rs.count(),
    "values": rs.count("v"),
    "sum": rs.sum("n"),
    "mean": rs.mean("n"),
    "least": rs.min("n"),
    "most": rs.max("n"),
    "different": rs.count_distinct("v"),
    "middle": rs.quantile("n", 0.5),
}
IN_ORDER = {
    **IN_ANY_ORDER,
    "first": rs.first("n"),
    "last": rs.last("n"),
    "at_least": rs.min_by("n", "v"),
    "all": rs.collect("n"),
}


class Waiting(rs.KeyedProcessFunction):
    """Counts; sets a timer for each time, which sets itself once more, for now."""

    def open(self, ctx):
        self.count = ctx.state(rs.ValueState("count", type=pa.int64(), default=0))
        self.again = ctx.state(rs.MapState("again"))

    def process(self, row, ctx):
        self.count.update(self.count.value() + 1)
        ctx.timers.register_event_time(ctx.timestamp + 3)  # ahead of the watermark for any row
        yield "row", ctx.key, ctx.timestamp, self.count.value()

    def on_timer(self, timestamp, ctx):
        yield "timer", ctx.key, timestamp, ctx.timestamp
        if timestamp not in self.again:
            self.again.put(timestamp, True)
            ctx.timers.register_event_time(timestamp)


def add(state, row):
    return state + row["n"], {"k": row["k"], "state": state}


LENGTHS = st.integers(1, 20)
STEPS = st.integers(1, 9)
WINDOWS = st.one_of(
    st.builds(lambda size, offset: rs.Tumbling(size, offset=offset), LENGTHS, st.integers(-9, 9)),
    st.builds(rs.Sliding, LENGTHS, STEPS),
    st.builds(rs.Session, LENGTHS),
    st.builds(lambda step, times: rs.Cumulative(step * times, step), STEPS, st.integers(1, 4)),
)
COUNTS = st.one_of(
    st.builds(rs.TumblingCount, st.integers(1, 4)),
    st.builds(rs.SlidingCount, st.integers(1, 4), st.integers(1, 3)),
)


def in_windows(window, aggregates, stream):
    return stream.window(window).aggregate(**aggregates)


def best(window, options, stream):
    made = stream if window is None else stream.window(window)
    return made.top_k(by=["v", "n"], descending=[True, False], **options)


def one_each(window, keep, stream):
    return (stream if window is None else stream.window(window)).deduplicate(keep)


def running(emit, stream):
    return stream.aggregate(emit=emit, **IN_ORDER)


def with_state(type, schema, stream):
    return stream.map_with_state(add, 0, type=type, schema=schema)


def waiting(stream):
    return stream.process(Waiting)


def over(length, stream):
    return stream.aggregate(over=length, **{f"a_{name}": one for name, one in IN_ORDER.items()})


def verbs(build, *drawn):
    return st.tuples(*drawn).map(lambda some: partial(build, *some))


RANKS = st.fixed_dictionaries(
    {"k": st.integers(1, 3), "rank": st.sampled_from([None, "place"]), "ties": st.booleans()}
)
STATES = pa.schema({"k": pa.string(), "state": pa.int64()})
VERBS = {
    "windows": verbs(in_windows, WINDOWS, st.just(IN_ORDER)),
    "counts": verbs(in_windows, COUNTS, st.just(IN_ORDER)),
    "top_k": verbs(best, st.none() | WINDOWS, RANKS),
    "deduplicate": verbs(one_each, st.none() | WINDOWS, st.sampled_from(["first", "last"])),
    "running": verbs(running, st.sampled_from(["row", "final"])),
    "map_with_state": verbs(
        with_state, st.sampled_from([None, pa.int64()]), st.sampled_from([None, STATES])
    ),
    "process": st.just(waiting),
    "over": verbs(over, st.sampled_from([1, 3, "5us", "20us"])),
}


@st.composite
def arriving(draw):
    """Draw rows whose event times go up, but for what the strategy allows."""
    newest, made = draw(st.integers(-30, 30)), []
    for number in range(draw(st.integers(1, 40))):
        newest += draw(st.integers(0, 5))
        key = draw(st.sampled_from(["a", "b", "c", None]))
        value = draw(st.sampled_from([-1.5, 0.0, 2.25, math.nan, None]))
        late = draw(st.integers(0, LATE))
        made.append({"k": key, "v": value, "n": number, "t": newest - late})
    return made


def plain(value):
    """Give a value that equals itself, and that a multiset takes."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, dict):
        return tuple((name, plain(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value


def ran(build, inputs, *, kind, parallelism=1, batch=4096, seed=None):
    """Run a pipeline and give the multiset of its rows."""
    limits = {"batch_rows_max": batch, "row_batch_rows_max": batch}
    job = rs.Job("it", runtime="local", parallelism=parallelism, config=limits)
    strategy = rs.WatermarkStrategy("t", out_of_orderness=LATE)
    schema = SCHEMA if kind == "columns" else None
    first, *others = (job.from_items(one, schema=schema, watermark=strategy) for one in inputs)
    sink = rs.MemorySink()
    build(first.union(*others).key_by("k") if others else first.key_by("k")).sink(sink)
    plan = physical_plan(job._draft.plan())
    local.run(plan, rng=None if seed is None else random.Random(seed), timeout_s=60)
    return Counter(map(plain, sink.rows))


def check(data, build, inputs, kinds=("columns", "objects")):
    expected = ran(build, inputs, kind="columns")
    for batch in BATCHES:
        kind = data.draw(st.sampled_from(kinds), label="kind")
        parallelism = data.draw(st.integers(1, 3), label="parallelism")
        seed = data.draw(st.integers(0, 99), label="seed")
        got = ran(build, inputs, kind=kind, parallelism=parallelism, batch=batch, seed=seed)
        assert got == expected, f"too many: {got - expected}, missing: {expected - got}"
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@settings(max_examples=20)
@given(data=st.data())
def test_one_input_gives_the_same_rows_however_it_is_run(verb, data):
    build = data.draw(VERBS[verb], label="pipeline")
    kinds = ("columns",) if verb == "over" else ("columns", "objects")
    check(data, build, [data.draw(arriving(), label="rows")], kinds)


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data())
def test_several_inputs_in_any_order_lose_nothing_in_windows(data):
    build = data.draw(verbs(in_windows, WINDOWS, st.just(IN_ANY_ORDER)), label="pipeline")
    check(data, build, data.draw(st.lists(arriving(), min_size=2, max_size=3), label="rows"))
