"""on_error where users' functions have state, timers and windows."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs

ROWS = [{"k": "ab"[n % 2], "n": n} for n in range(6)]
SCHEMA = pa.schema({"k": pa.string(), "n": pa.int64()})


def stream(rows=ROWS, *, columnar=False):
    schema = SCHEMA if columnar else None
    times = [row["n"] for row in rows]
    return rs.Job("it", runtime="local").from_items(rows, schema=schema, timestamps=times)


class Counting(rs.KeyedProcessFunction):
    """Counts, then gives the count twice, and fails in between for n of 2 and 3."""

    def open(self, ctx):
        self.seen = ctx.state(rs.ValueState("seen", default=0))

    def process(self, row, ctx):
        self.seen.update(self.seen.value() + 1)
        ctx.timers.register_event_time(row["n"] + 100)
        ctx.output("aside", row["n"])
        yield ctx.key, self.seen.value()
        if row["n"] in {2, 3}:
            raise ValueError(row["n"])
        yield "end"

    def on_timer(self, timestamp, ctx):
        yield timestamp
        if timestamp == 101:
            raise KeyError(timestamp)


def run(job, *streams):
    sinks = [rs.MemorySink() for _ in streams]
    for one, sink in zip(streams, sinks, strict=True):
        one.sink(sink)
    job.run()
    return [sink.rows for sink in sinks]


def told(letters):
    return [(letter["row"], letter["error"], letter["timestamp"]) for letter in letters]


@pytest.mark.parametrize("columnar", [False, True], ids=["objects", "columns"])
def test_of_a_call_that_fails_the_rows_are_dropped_and_the_state_and_timers_stay(columnar):
    job = rs.Job("it", runtime="local")
    schema = SCHEMA if columnar else None
    rows = job.from_items(ROWS, schema=schema, timestamps=range(6))
    keyed = rows.key_by("k") if columnar else rows.key_by(lambda row: row["k"])
    it = keyed.process(Counting()).on_error("dead_letter")
    given, aside, dead = run(job, it, it.side_output("aside"), it.dead_letters)
    counts = [("a", 1), ("b", 1), ("a", 3), ("b", 3)]
    assert given[:8] == [one for count in counts for one in (count, "end")]
    assert given[8:] == [100, 102, 103, 104, 105]
    assert aside == [0, 1, 4, 5]
    assert told(dead) == [
        (ROWS[2], "ValueError: 2", 2),
        (ROWS[3], "ValueError: 3", 3),
        ({"timer": 101, "key": "b"}, "KeyError: 101", 101),
    ]
    assert "in on_timer" in dead[2]["traceback"]


def test_a_call_of_which_a_row_does_not_fit_its_column_gives_none():
    class Three(rs.ProcessFunction):
        def process(self, row, ctx):
            return [{"x": row["n"]}, {"x": "two" if row["n"] == 2 else 2}, {"x": 3}]

    job = rs.Job("it", runtime="local")
    rows = job.from_items(ROWS[:4], timestamps=range(4))
    it = rows.process(Three(), pa.schema({"x": pa.int64()})).on_error("dead_letter")
    given, dead = run(job, it, it.dead_letters)
    assert [row["x"] for row in given] == [0, 2, 3, 1, 2, 3, 3, 2, 3]
    assert [letter["row"] for letter in dead] == [ROWS[2]]


def test_either_input_of_two_may_fail():
    class Both(rs.CoProcessFunction):
        def process_left(self, row, ctx):
            return [1 // row]

        def process_right(self, row, ctx):
            return [-1 // row]

    job = rs.Job("it", runtime="local")
    left, right = job.from_items([1, 0]), job.from_items([0, 1])
    it = left.connect(right).process(Both()).on_error("dead_letter")
    given, dead = run(job, it, it.dead_letters)
    assert sorted(given) == [-1, 1]
    assert [letter["row"] for letter in dead] == [0, 0]


def test_a_window_that_fails_when_it_fires_is_one_letter_and_gives_nothing():
    def pick(key, window, rows):
        yield from (row["n"] for row in rows)
        if key == "b" and window.start == 2:
            raise RuntimeError("no")

    job = rs.Job("it", runtime="local")
    rows = job.from_items(ROWS, timestamps=range(6)).key_by(lambda row: row["k"])
    it = rows.window(rs.Tumbling(2)).apply(pick).on_error("dead_letter")
    given, dead = run(job, it, it.dead_letters)
    assert sorted(given) == [0, 1, 2, 4, 5]
    window = {"key": "b", "window_start": 2, "window_end": 4}
    assert told(dead) == [(window, "RuntimeError: no", 3)]


class Sum(rs.AggregateFunction):
    type = pa.int64()

    def create(self):
        return 0

    def add(self, acc, row):
        return acc + 10 // (row["n"] - 2)

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return 10 // acc


@pytest.mark.parametrize("window", [rs.Tumbling(3), rs.Session(1)], ids=str)
def test_a_row_that_cannot_be_added_is_in_no_aggregate_and_makes_no_window(window):
    job = rs.Job("it", runtime="local")
    rows = job.from_items([{"n": n} for n in (0, 2, 4, 20, 22)], timestamps=[0, 3, 6, 9, 12])
    it = rows.key_by(lambda row: "k").window(window).aggregate(n=rs.count(), sum=Sum())
    given, dead = run(job, it.on_error("dead_letter"), it.dead_letters)
    assert [(row["n"], row["sum"]) for row in given] == [(1, -2), (1, 2)]
    assert dead[0]["row"] == {"n": 2}
    assert dead[0]["error"] == "ZeroDivisionError: integer division or modulo by zero"
    # Those whose sum is zero fail when they fire: their windows are given up.
    assert sorted(one["row"]["window_start"] for one in dead[1:]) == [9, 12]


def test_triggers_and_gaps_may_fail():
    class Picky(rs.Trigger):
        def on_row(self, row, timestamp, window, ctx):
            if row["n"] == 1:
                raise ValueError("row")
            return rs.TriggerResult.CONTINUE

        def on_event_time(self, timestamp, window, ctx):
            return rs.TriggerResult.CONTINUE

        def on_processing_time(self, timestamp, window, ctx):
            return rs.TriggerResult.CONTINUE

        def clear(self, window, ctx):
            raise ValueError("clear")

    job = rs.Job("it", runtime="local")
    rows = job.from_items([{"n": n} for n in range(3)], timestamps=range(3)).key_by(lambda row: 1)
    triggered = rows.window(rs.Tumbling(10)).trigger(Picky()).aggregate(n=rs.count())
    sessions = rows.window(rs.Session(lambda row: 10 // row["n"])).aggregate(n=rs.count())
    for one in (triggered, sessions):
        one.on_error("dead_letter")
    none, dead, two, gone = run(
        job, triggered, triggered.dead_letters, sessions, sessions.dead_letters
    )
    assert none == []
    assert [letter["error"] for letter in dead] == ["ValueError: row", "ValueError: clear"]
    assert [row["n"] for row in two] == [2]
    assert [letter["row"] for letter in gone] == [{"n": 0}]


def test_rows_that_cannot_be_ranked_are_given_up():
    job = rs.Job("it", runtime="local")
    rows = job.from_items([3, 0, 1, 2]).key_by(lambda n: "k")
    best = rows.top_k(2, by=lambda n: 1 / n).on_error("dead_letter")
    given, dead = run(job, best, best.dead_letters)
    assert set(given) >= {1, 2}
    assert [letter["row"] for letter in dead] == [0]


def test_rows_of_which_nobody_can_say_the_watermark_are_given_up():
    def mark(row):
        return row["n"] if 6 // row["n"] else None

    job = rs.Job("it", runtime="local")
    strategy = rs.Punctuated("n", mark)
    source = job.from_items([{"n": n} for n in (1, 0, 3)], watermark=strategy)
    later = job.from_items([{"n": n} for n in (0, 2)]).assign_timestamps(strategy)
    for one in (source, later):
        one.on_error("dead_letter")
    given, dead, two, gone = run(job, source, source.dead_letters, later, later.dead_letters)
    assert [row["n"] for row in given + two] == [1, 3, 2]
    assert [letter["row"] for letter in dead + gone] == [{"n": 0}, {"n": 0}]


@pytest.mark.parametrize(
    "computed",
    [
        lambda keyed: keyed.aggregate(n=rs.count()),
        lambda keyed: keyed.window(rs.Tumbling(2)).aggregate(n=rs.count()),
        lambda keyed: keyed.top_k(1, by="n"),
        lambda keyed: keyed.deduplicate(),
    ],
    ids=["aggregate", "window", "top_k", "deduplicate"],
)
def test_what_computes_whole_columns_has_no_rows_that_fail(computed):
    it = computed(stream(columnar=True).key_by("k"))
    with pytest.raises(rs.PlanError, match="on_error\\(\\) is for operators that call user code"):
        it.on_error("skip")
    it.on_error("fail")
