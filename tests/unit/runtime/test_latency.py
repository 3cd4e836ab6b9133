"""Markers tell how long rows take from each source to each sink, and touch nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from watched import Endless, Watched

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator.metrics import samples
from raystream.flow.element import Marker
from raystream.flow.figures import HistogramFigures


def numbers(clock: ManualClock, cost_us: int = 100_000):
    def rows() -> Iterator[list[int]]:
        for n in range(10**6):
            clock.advance(cost_us)
            yield [n]

    return rows


def latencies(watched: Watched, seconds: float) -> dict[tuple[str, str], HistogramFigures]:
    """Give the histograms by source and sink, all subtasks together."""
    found: dict[tuple[str, str], HistogramFigures] = {}
    for sample in samples(watched.run(seconds)):
        if sample.metric.name == "latency_ms":
            assert isinstance(sample.value, HistogramFigures)
            key = (sample.labels["source"], sample.labels["operator"])
            before = found.get(key)
            counts = sample.value.counts
            if before is not None:
                counts = tuple(a + b for a, b in zip(before.counts, counts, strict=True))
            found[key] = HistogramFigures(counts, 0.0)
    watched.close()
    return found


def slowly(clock: ManualClock, cost_us: int):
    def work(row: Any) -> Any:
        clock.advance(cost_us)
        return row

    return work


def test_a_marker_a_second_reaches_each_sink_over_channels_and_through_chains():
    clock = ManualClock()
    job = rs.Job("timed", parallelism=3)
    rows = job.source(Endless({"a": numbers(clock)}), name="read").key_by(lambda n: n % 7)
    counted = rows.map_with_state(lambda seen, n: ((seen or 0) + 1, n)).named("count")
    counted.sink(rs.CallbackSink(lambda row: None)).named("first")
    counted.rebalance().map(slowly(clock, 30_000)).sink(rs.CallbackSink(lambda row: None)).named(
        "second"
    )
    found = latencies(Watched(job, clock), 20)
    assert set(found) == {("read", "first"), ("read", "second")}
    assert 14 <= found["read", "first"].count <= 20
    assert 13 <= found["read", "second"].count <= 20


def test_latency_is_the_time_that_rows_take():
    clock = ManualClock()
    job = rs.Job("slow")
    rows = job.source(Endless({"a": numbers(clock)}), name="read")
    rows.map(slowly(clock, 400_000)).sink(rs.CallbackSink(lambda row: None)).named("write")
    found = latencies(Watched(job, clock), 20)["read", "write"]
    assert found.quantile(0.01) == found.quantile(0.99) == 500  # of 400 ms, the bound above


def test_two_sources_are_told_apart_at_one_sink():
    clock = ManualClock()
    job = rs.Job("two")
    left = job.source(Endless({"a": numbers(clock)}), name="left")
    right = job.source(Endless({"a": numbers(clock)}), name="right")
    left.union(right).sink(rs.CallbackSink(lambda row: None)).named("write")
    assert set(latencies(Watched(job, clock), 6)) == {("left", "write"), ("right", "write")}


def test_rows_are_the_same_and_in_the_same_order_with_markers_between_them():
    def rows_of(cost_us: int) -> list[int]:
        clock, seen = ManualClock(), list[int]()
        job = rs.Job("order")
        source = Endless({"a": lambda: ([n] for n in ticking(clock, cost_us))})
        read = job.source(source, name="read").rebalance()
        read.map(lambda n: n * 2).sink(rs.CallbackSink(seen.append))
        watched = Watched(job, clock)
        while len(seen) < 50:
            watched.run(1)
        watched.close()
        return seen[:50]

    assert rows_of(400_000) == rows_of(1_000) == [n * 2 for n in range(50)]


def ticking(clock: ManualClock, cost_us: int) -> Iterator[int]:
    for n in range(10**6):
        clock.advance(cost_us)
        yield n


def test_a_marker_travels_as_it_is():
    from raystream.flow.codec import Header, decode, encode
    from raystream.flow.ids import ChannelId

    marker = Marker("quelle→ö", 1_700_000_000_000_123)
    frame = encode(Header(1, ChannelId(0, 0, 0), 0, 1), [marker])
    assert list(decode(frame, None)) == [marker]
