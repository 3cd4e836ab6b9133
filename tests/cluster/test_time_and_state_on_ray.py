"""Windows, state, timers, async calls and failing rows on real Ray actors: as in one process."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pyarrow as pa
import pytest

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

ROW = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("t", pa.int64())])
MINUTE = 60_000_000


def rows(count: int, seed: int = 1) -> list[dict[str, int]]:
    """Make rows a second apart, up to five seconds out of order, some of them hours late."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        late = 3_600 * rng.randint(2, 5) if rng.random() < 0.02 else rng.uniform(0, 5)
        made.append({"k": rng.randrange(20), "v": number, "t": round((1e5 + number - late) * 1e6)})
    return made


def given(job: rs.Job, count: int = 3_000) -> rs.Stream:
    watermark = rs.WatermarkStrategy("t", out_of_orderness="5s")
    return job.from_items(rows(count), schema=ROW, watermark=watermark)


def job(name: str, **config) -> rs.Job:
    return rs.Job(f"{name}-{time.monotonic_ns()}", parallelism=2, config=config)


class Quiet(rs.KeyedProcessFunction):
    """Say when a key has been quiet for a minute, and send odd values aside."""

    def open(self, ctx):
        self.last = ctx.state(rs.ValueState("last", type=pa.int64()))
        self.seen = ctx.state(rs.MapState("seen"))

    def process(self, row, ctx):
        self.last.update(max(ctx.timestamp, self.last.value() or 0))
        self.seen.put(row["v"], True)
        ctx.timers.register_event_time(ctx.timestamp + MINUTE)
        if row["v"] % 2:
            ctx.output("odd", row)

    def on_timer(self, timestamp, ctx):
        if timestamp == self.last.value() + MINUTE:
            yield {"k": ctx.key, "n": len(list(self.seen.keys()))}


@pytest.mark.parametrize("backend", ["memory", "disk"])
def test_state_and_timers_give_what_one_process_gives(backend):
    out = pa.schema([("k", pa.int64()), ("n", pa.int64())])

    def quiet(one: rs.Job) -> tuple[rs.MemorySink, rs.MemorySink]:
        stream = given(one).key_by("k").process(Quiet(), schema=out)
        main, odd = rs.MemorySink(), rs.MemorySink()
        stream.sink(main)
        stream.side_output("odd").sink(odd)
        return main, odd

    on_ray, here = job("quiet", state_backend=backend), job("quiet")
    ray_rows, ray_odd = quiet(on_ray)
    our_rows, our_odd = quiet(here)
    on_ray.run(timeout="60s")
    here.run(runtime="local")
    assert Counter(map(repr, ray_odd.rows)) == Counter(map(repr, our_odd.rows))
    last = {row["k"]: row["n"] for row in our_rows.rows}
    assert {row["k"]: row["n"] for row in ray_rows.rows} == last
    assert sum(last.values()) == 3_000


def test_sessions_with_lateness_lose_no_row():
    one = job("sessions", batch_rows_max=64)
    windows = given(one).key_by("k").window(rs.Session("30s")).allowed_lateness("1h")
    stream = windows.late_to("late").aggregate(n=rs.count(), vs=rs.collect("v"))
    main, late = rs.MemorySink(), rs.MemorySink()
    stream.sink(main)
    stream.side_output("late").sink(late)
    one.run(timeout="60s")
    gathered = {v for row in main.rows for v in row["vs"]}
    aside = {row["v"] for row in late.rows}
    assert not gathered & aside
    assert gathered | aside == set(range(3_000))


def test_windows_of_the_clock_fire_while_the_input_goes_on():
    one = job("clock")
    made = one.source(rs.DataGenSource(ROW, rows=4_000, rows_per_second=2_000))
    counts = made.key_by(even=rs.col("k") % 2).window(rs.Tumbling("200ms", time="processing"))
    sink = rs.MemorySink()
    counts.aggregate(n=rs.count()).sink(sink)
    one.run(timeout="60s")
    assert len({row["window_start"] for row in sink.rows}) >= 3
    # What had not fired when the input ended is not given (its clock has not come).
    assert 0 < sum(row["n"] for row in sink.rows) <= 4_000


class Asks:
    """Answers after a moment; fails for every hundredth row."""

    async def open(self, ctx):
        self.asked = 0

    async def __call__(self, row):
        self.asked += 1
        await asyncio.sleep(0.001 * (row["v"] % 3))
        if row["v"] % 100 == 0:
            raise ValueError(f"no answer for {row['v']}")
        return {**row, "answer": -row["v"]}

    async def close(self):
        del self.asked


def test_async_calls_overlap_and_what_fails_is_a_dead_letter():
    one = job("async")
    answered = given(one, 1_000).async_map(
        Asks, capacity=50, schema=ROW.append(pa.field("answer", pa.int64()))
    )
    answered.on_error("dead_letter")
    main, dead = rs.MemorySink(), rs.MemorySink()
    answered.sink(main)
    answered.dead_letters.sink(dead)
    result = one.run(timeout="60s")
    assert {row["answer"] for row in main.rows} == {-n for n in range(1_000) if n % 100}
    assert sorted(letter["row"]["v"] for letter in dead.rows) == list(range(0, 1_000, 100))
    assert all("no answer for" in letter["error"] for letter in dead.rows)
    assert result.records_in == 1_000


def test_aligned_sources_go_on_to_the_end():
    one = job("aligned", batch_rows_max=50)
    ahead = rs.Alignment("both", max_drift="30s")
    watermark = rs.WatermarkStrategy("t", out_of_orderness="5h", alignment=ahead)
    left = one.from_items(rows(1_000, 1), schema=ROW, watermark=watermark)
    right = one.from_items(rows(1_000, 2), schema=ROW, watermark=watermark)
    both = left.union(right).key_by("k").window(rs.Tumbling("1m")).aggregate(n=rs.count())
    sink = rs.MemorySink()
    both.sink(sink)
    one.run(timeout="60s")
    assert sum(row["n"] for row in sink.rows) == 2_000


def test_rules_that_are_broadcast_reach_every_subtask():
    class Limits(rs.BroadcastProcessFunction):
        def open(self, ctx):
            self.limits = ctx.state(rs.BroadcastState("limits"))

        def process_broadcast(self, rule, ctx):
            self.limits.put("limit", rule["v"])
            yield {"k": -1, "v": ctx.key is None}

        def process(self, row, ctx):
            yield {"k": row["k"], "v": True}

    one = job("rules")
    rules = one.from_items([{"v": 10}], schema=pa.schema([("v", pa.int64())]))
    out = pa.schema([("k", pa.int64()), ("v", pa.bool_())])
    sink = rs.MemorySink()
    payments = given(one, 200).key_by("k")
    payments.connect(rules.broadcast()).process(Limits(), schema=out).sink(sink)
    one.run(timeout="60s")
    assert sum(row["k"] == -1 for row in sink.rows) == 2
    assert sum(row["k"] >= 0 for row in sink.rows) == 200


@pytest.mark.parametrize("keep", ["first", "last"])
def test_changes_end_in_the_same_table(keep):
    def table(one: rs.Job, runtime: str) -> list:
        kept = given(one).key_by("k").deduplicate(keep, emit="changes")
        return sorted(map(repr, kept.collect(runtime=runtime)))

    assert len(table(job("dedup"), "ray")) == 20
    if keep == "last":
        assert table(job("dedup"), "ray") == table(job("dedup"), "local")
