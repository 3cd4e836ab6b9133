"""What windows and aggregates keep goes on at any parallelism, and is never taken for another."""

from __future__ import annotations

import lives
import pyarrow as pa
import pytest

import raystream as rs

S = rs.micros("1s")
ROWS = [{"k": i * 5 % 7, "v": i * 37 % 101, "t": (i + i % 3) * S // 2} for i in range(200)]
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("t", pa.int64())])
WINDOWS = {
    "tumbling": rs.Tumbling("20s"),
    "sliding": rs.Sliding("20s", "5s"),
    "cumulative": rs.Cumulative("20s", "5s"),
    "session": rs.Session("2s"),
}
AGGREGATES = {
    "extreme": {"high": rs.max("v")},
    "extreme and count": {"high": rs.max("v"), "n": rs.count()},
    "first and last": {"one": rs.first("v"), "other": rs.last("v")},
    "shared parts": {"mean": rs.mean("v"), "n": rs.count("v"), "spread": rs.stddev("v")},
    "every value": {"n": rs.count_distinct("v"), "half": rs.quantile("v", 0.5)},
    "where": {"odd": rs.sum("v").where(rs.col("v") % 2 == 1), "by": rs.max_by("v", "t")},
}


def build(sink, parallelism, window, aggregates):
    job = rs.Job("windows", parallelism=parallelism, config={"batch_rows_max": 16})
    times = rs.WatermarkStrategy("t", out_of_orderness="5s")
    keyed = job.from_items(ROWS, schema=SCHEMA, watermark=times).named("read").key_by("k")
    of = keyed if window is None else keyed.window(window)
    of.aggregate(**aggregates).uid("it").sink(sink)
    return job


def shown(rows):
    """Give rows in an order of their own; sums of floats depend on their order in the last bit."""
    return sorted(
        repr({k: round(v, 9) if isinstance(v, float) else v for k, v in sorted(row.items())})
        for row in rows
    )


def lived(tmp_path, window, aggregates, moves, after=None):
    """Let a job move from one parallelism to the next; give the rows of all its lives."""
    rows, url = [], None
    for number, parallelism in enumerate(moves):
        sink = rs.MemorySink()
        if number + 1 < len(moves):
            job = build(sink, parallelism, window, aggregates)
            url = lives.savepoint(job, tmp_path / str(number), rows=60, start=url)
        else:
            job = build(sink, parallelism, window, after or aggregates)
            job.run(runtime="local", from_snapshot=url)
        rows += sink.rows
    return shown(rows)


@pytest.mark.slow
@pytest.mark.parametrize("moves", [(2, 1), (1, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("aggregates", AGGREGATES)
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_go_on_at_another_parallelism(tmp_path, window, aggregates, moves):
    straight = rs.MemorySink()
    build(straight, 1, WINDOWS[window], AGGREGATES[aggregates]).run(runtime="local")
    got = lived(tmp_path, WINDOWS[window], AGGREGATES[aggregates], moves)
    assert got == shown(straight.rows)


TWO = {"low": rs.min("v"), "total": rs.sum("v")}


@pytest.mark.parametrize("window", [None, rs.Tumbling("20s")], ids=["running", "tumbling"])
@pytest.mark.parametrize("moves", [(2, 1), (1, 2)], ids=str)
def test_aggregates_may_change_places(tmp_path, window, moves):
    straight = rs.MemorySink()
    build(straight, 1, window, TWO).run(runtime="local")
    turned = dict(reversed(TWO.items()))
    assert lived(tmp_path, window, TWO, moves, turned) == shown(straight.rows)


@pytest.mark.parametrize("window", [None, rs.Tumbling("20s")], ids=["running", "tumbling"])
def test_an_aggregate_may_go(tmp_path, window):
    straight, before, after = rs.MemorySink(), rs.MemorySink(), rs.MemorySink()
    build(straight, 1, window, TWO).run(runtime="local")
    url = lives.savepoint(build(before, 2, window, TWO), tmp_path / "s", rows=60)
    build(after, 1, window, {"total": TWO["total"]}).run(runtime="local", from_snapshot=url)
    assert all("low" not in row for row in after.rows)
    without = [{k: v for k, v in row.items() if k != "low"} for row in straight.rows]
    had = [{k: v for k, v in row.items() if k != "low"} for row in before.rows]
    assert shown([*had, *after.rows]) == shown(without)


@pytest.mark.parametrize("window", [None, rs.Tumbling("20s")], ids=["running", "tumbling"])
@pytest.mark.parametrize(
    "other",
    [{"low": rs.max("v")}, {**TWO, "new": rs.mean("v")}],
    ids=["another kind under a name", "one more"],
)
def test_other_aggregates_are_refused(tmp_path, window, other):
    with pytest.raises(rs.JobFailed, match="aggregates.* kept") as caught:
        lived(tmp_path, window, TWO, (2, 2), other)
    assert isinstance(caught.value.__cause__, rs.RestoreRefused)


def test_a_reader_shows_the_aggregates_by_their_names(tmp_path):
    url = lives.savepoint(
        build(rs.MemorySink(), 2, None, AGGREGATES["shared parts"]), tmp_path / "s", rows=100
    )
    table = rs.state.read(url)
    assert set(table.column_names) >= {"k", "mean_0", "mean_1", "n", "spread_0"}
    rows = table.to_pylist()
    assert [row["k"] for row in rows] == list(range(7))
    read = sum(row["n"] for row in rows)
    assert 100 < read < 200
    counts = [sum(one["k"] == k for one in ROWS[:read]) for k in range(7)]
    assert [row["n"] for row in rows] == counts
