"""A week of rows that come in random order, by a bounded delay, gives the windows of the week."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.flow.batch import Int64s
from raystream.flow.control import JobStatus
from raystream.graph.planner import physical_plan
from raystream.runtime import local

HOUR = 3_600_000_000
START = 1_704_067_200_000_000  # Monday, 2024-01-01, UTC
WEEK = 7 * 24 * HOUR
ROWS = 2_000
SCHEMA = pa.schema({"t": pa.timestamp("us", "UTC"), "k": pa.int64(), "v": pa.int64()})


class Arriving(rs.Source):
    """Splits of rows in the order of their arrival, so many a poll."""

    schema = SCHEMA

    def __init__(self, parts: list[pa.RecordBatch], rows_a_poll: int) -> None:
        self._parts, self._rows_a_poll = parts, rows_a_poll

    def splits(self) -> list[rs.Split]:
        return [rs.Split(str(index), index) for index in range(len(self._parts))]

    def open(self, split: rs.Split, position: Any) -> rs.Reader:
        return ArrivingReader(self._parts[split.payload], self._rows_a_poll)


class ArrivingReader(rs.Reader):
    def __init__(self, rows: pa.RecordBatch, rows_a_poll: int) -> None:
        self._rows, self._rows_a_poll, self._next = rows, rows_a_poll, 0

    def poll(self, max_rows: int) -> Any:
        if self._next >= self._rows.num_rows:
            return rs.END
        some = self._rows.slice(self._next, min(self._rows_a_poll, max_rows))
        self._next += some.num_rows
        return some

    def position(self) -> int:
        return self._next


def week(seed: int) -> tuple[Int64s, Int64s, Int64s]:
    """Give times, keys and values; quiet nights, some times twice, the ends of hours too."""
    rng = np.random.default_rng(seed)
    times = START + rng.integers(0, WEEK, ROWS)
    times = times[(times // HOUR) % 24 >= 5]
    times[::17] = times[::17] // HOUR * HOUR
    times[1::17] = times[1::17] // HOUR * HOUR + HOUR - 1
    return times, rng.integers(0, 3, len(times)), rng.integers(-100, 100, len(times))


def arriving(seed: int, splits: int, delay_us: int) -> list[pa.RecordBatch]:
    """Deal the week out to splits, each in the order of time plus a random delay."""
    times, keys, values = week(seed)
    rng = np.random.default_rng(seed + 1)
    due = times + (rng.integers(0, delay_us, len(times)) if delay_us else 0)
    of = rng.integers(0, splits, len(times))
    parts = []
    for split in range(splits):
        mine = np.flatnonzero(of == split)
        order = mine[np.lexsort((times[mine], due[mine]))]
        columns = [pa.array(column[order]) for column in (times, keys, values)]
        columns[0] = columns[0].cast(SCHEMA.field("t").type)
        parts.append(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    return parts


def expected(seed: int, size_us: int, slide_us: int) -> Counter[tuple[int, int, int, int]]:
    """Count by brute force: (key, start, rows, sum) of each window."""
    counts: dict[tuple[int, int], list[int]] = {}
    for time, key, value in zip(*(column.tolist() for column in week(seed)), strict=True):
        start = time // slide_us * slide_us
        while start > time - size_us:
            counts.setdefault((key, start), []).append(value)
            start -= slide_us
    return Counter((k, start, len(some), sum(some)) for (k, start), some in counts.items())


def windows_of(
    source: rs.Source,
    watermark: Any,
    window: Any,
    parallelism: int,
    rng: random.Random | None = None,
) -> tuple[Counter[tuple[int, int, int, int]], int]:
    """Run the job; give its windows, and how many rows were late."""
    job = rs.Job("week", parallelism=parallelism)
    stream = job.source(source, watermark=watermark)
    sink = rs.MemorySink()
    stream.key_by("k").window(window).aggregate(n=rs.count(), v=rs.sum("v")).sink(sink)
    told: list[JobStatus] = []
    local.run(physical_plan(job._draft.plan()), rng=rng, progress=told.append)
    late = sum(operator.late_rows for operator in told[-1].operators)
    rows = ((row["k"], rs.micros(row["window_start"]), row["n"], row["v"]) for row in sink.rows)
    return Counter(rows), late


WINDOWS = [(rs.Tumbling("1h"), HOUR, HOUR), (rs.Sliding("3h", "30m"), 3 * HOUR, HOUR // 2)]
BOUNDED = rs.WatermarkStrategy("t", out_of_orderness="1h")


@pytest.mark.parametrize("rows_a_poll", [20, 100, 10_000])
@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize(("window", "size_us", "slide_us"), WINDOWS, ids=["tumbling", "sliding"])
def test_a_week_in_random_order_is_the_week(window, size_us, slide_us, parallelism, rows_a_poll):
    wanted = expected(1, size_us, slide_us)
    in_order = Arriving(arriving(1, 1, 0), 1_000)
    assert windows_of(in_order, rs.WatermarkStrategy("t"), window, 1) == (wanted, 0)
    source = Arriving(arriving(1, 3, HOUR), rows_a_poll)
    assert windows_of(source, BOUNDED, window, parallelism) == (wanted, 0)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_next(seed):
    rng = random.Random(seed)
    source = Arriving(arriving(seed, 4, HOUR), rng.choice([50, 300]))
    alignment = rs.Alignment("week", rng.choice(["0s", "1h", "1d"]))
    strategy = rs.WatermarkStrategy("t", out_of_orderness="1h", alignment=alignment)
    got = windows_of(source, strategy, rs.Tumbling("1h"), 2, rng)
    assert got == (expected(seed, HOUR, HOUR), 0)


def test_watermarks_that_rows_bring_do_as_well():
    # Rows at the beginning of an hour say that none of before the last hour will come.
    def said(row: dict[str, Any]) -> int | None:
        time_us = rs.micros(row["t"])
        return time_us - HOUR - 1 if time_us % HOUR == 0 else None

    source = Arriving(arriving(1, 2, HOUR), 200)
    got = windows_of(source, rs.Punctuated("t", said), rs.Tumbling("1h"), 2)
    assert got == (expected(1, HOUR, HOUR), 0)


def test_a_promise_that_is_too_bold_loses_rows_and_counts_them():
    source = Arriving(arriving(1, 1, HOUR), 20)
    bold = rs.WatermarkStrategy("t", out_of_orderness="10m")
    got, late = windows_of(source, bold, rs.Tumbling("1h"), 1)
    wanted = expected(1, HOUR, HOUR)
    assert late > 0
    assert sum(n for _, _, n, _ in got.elements()) + late == sum(
        n for _, _, n, _ in wanted.elements()
    )


@pytest.mark.parametrize("rows_a_poll", [1, 10, 1_000])
def test_what_is_late_by_a_row_s_word_does_not_depend_on_batches(rows_a_poll):
    # Every row says that it is the last of all before it: the same rows are late in every cut.
    def boldly(row: dict[str, Any]) -> Any:
        return row["t"]

    (rows,) = arriving(1, 1, HOUR)
    some = rows.slice(0, 300)
    source = Arriving([some], rows_a_poll)
    got = windows_of(source, rs.Punctuated("t", boldly), rs.Tumbling("1h"), 1)
    latest, kept, late = 0, Counter[tuple[int, int]](), 0
    for time, key in zip(
        some.column("t").cast(pa.int64()).to_pylist(), some.column("k").to_pylist(), strict=True
    ):
        start = time // HOUR * HOUR
        if start + HOUR - 1 <= latest:
            late += 1
        else:
            kept[key, start] += 1
        latest = max(latest, time)
    assert late > 0
    assert got[1] == late
    assert Counter({(k, start): n for k, start, n, _ in got[0].elements()}) == kept
