"""The simulated run itself: it ends where nothing is left, and says so where something has no end."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs
from raystream.testing.run import simulate
from raystream.testing.simulated_clock import SimulatedClock

T = rs.testing
TABLE = pa.table(
    {"t": range(40), "a": [i % 3 for i in range(40)], "c": [i * i % 13 for i in range(40)]}
)
SCHEMA = TABLE.schema


def test_time_stands_still_until_it_is_let_pass():
    clock = SimulatedClock()
    clock.drift(500)
    assert (clock.now_us(), clock.monotonic_us(), clock.left_us()) == (0, 500, None)
    clock.await_time(30)
    clock.await_time(20)
    clock.pass_time(10)
    assert (clock.now_us(), clock.monotonic_us(), clock.left_us()) == (10, 510, 10)
    clock.pass_time(10)
    assert clock.left_us() == 10
    clock.pass_time(10)
    assert clock.left_us() is None


class Silent(rs.Source):
    """A source that never has anything, and never ends."""

    bounded = False

    def splits(self):
        return [rs.Split("only")]

    def open(self, split, position):
        return SilentReader()


class SilentReader(rs.Reader):
    def poll(self, max_rows):
        return None

    def position(self):
        return None


def plan_of(stream):
    return stream._tip.draft.plan().prune([stream._tip.node]), stream._tip.node


def test_a_source_without_end_is_named_by_the_last_lines_of_the_trace():
    plan, node = plan_of(rs.Job("t").source(Silent()))
    with pytest.raises(rs.JobFailed, match="does not end") as caught:
        simulate(plan, node, None, 0, steps_max=500)
    assert "split only: nothing now" in str(caught.value)
    assert "test source in its place" in str(caught.value)


class Restless(rs.ProcessFunction):
    """Asks to be called again at once, for ever."""

    def open(self, ctx):
        self.rows = ctx.state(rs.OperatorListState("rows"))

    def process(self, row, ctx):
        yield row


class Again(rs.KeyedProcessFunction):
    """Sets the timer that has just fired."""

    def process(self, row, ctx):
        ctx.timers.register_processing_time(ctx.timers.now())

    def on_timer(self, timestamp, ctx):
        ctx.timers.register_processing_time(timestamp)
        yield timestamp


def test_a_silent_source_does_not_keep_time_from_passing_for_others():
    job = rs.Job("t")
    both = job.source(Silent()).union(job.source(T.Source([1, T.Advance("1s"), 2, T.Open()])))
    plan, node = plan_of(both)
    with pytest.raises(rs.JobFailed) as caught:
        simulate(plan, node, None, 0, steps_max=2_000)
    assert "      1.000000" in str(caught.value)


AGGREGATES = st.sampled_from(["rows", "running", "final", "window", "window_all"])
STEPS = st.lists(st.sampled_from(["filter", "add", "map", "rebalance", "union"]), max_size=3)


def build(source, steps, end):
    s = source
    for step in steps:
        s = {
            "filter": lambda s: s.filter(rs.col("c") > 2),
            "add": lambda s: s.with_columns(c=rs.col("c") + rs.col("a")),
            "map": lambda s: s.map(lambda row: row | {"a": row["a"] + 1}, schema=SCHEMA),
            "rebalance": lambda s: s.rebalance(),
            "union": lambda s: s.union(s.filter(rs.col("a") == 1)),
        }[step](s)
    sums = {"n": rs.count(), "total": rs.sum("c")}
    return {
        "rows": lambda: s,
        "running": lambda: s.key_by("a").aggregate(n=rs.count()),
        "final": lambda: s.key_by("a").aggregate(emit="final", **sums),
        "window": lambda: s.key_by("a").window(rs.Tumbling(10)).aggregate(**sums),
        "window_all": lambda: s.window_all(rs.Sliding(10, 5)).aggregate(**sums),
    }[end]()


def as_set(rows):
    return sorted(tuple(row.items()) for row in rows)


@given(
    steps=STEPS,
    end=AGGREGATES,
    parallelism=st.integers(1, 3),
    splits=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_seed_the_rows_are_those_of_a_plain_run(steps, end, parallelism, splits, seed):
    strategy = rs.WatermarkStrategy("t", out_of_orderness=0)
    plain = build(rs.Job("t").from_items(TABLE, watermark=strategy), steps, end).collect()
    parts = [[] for _ in range(splits)]
    rng = random.Random(seed)
    for row in TABLE.to_pylist():
        rng.choice(parts).append(row)
    tested = rs.Job("t").source(T.Source(splits=parts, schema=SCHEMA), watermark=strategy)
    run = T.run(build(tested, steps, end), seed=seed, parallelism=parallelism)
    assert as_set(run.rows) == as_set(plain)
