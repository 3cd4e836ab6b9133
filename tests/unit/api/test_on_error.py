"""on_error and dead_letters, as scripts use them."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs

N = pa.schema({"n": pa.int64(), "text": pa.string()})
ROWS = [{"n": n, "text": text} for n, text in enumerate(["1", "x", "3", "", "5"])]


@pytest.fixture
def job() -> rs.Job:
    return rs.Job("it", runtime="local")


def refuse(row):
    if row["text"] in {"x", ""}:
        raise ValueError(row["text"])
    return row["n"]


def test_a_row_that_fails_fails_the_job_unless_something_else_is_said(job):
    with pytest.raises(rs.JobFailed):
        job.from_items(ROWS).map(refuse).collect()
    assert job.from_items(ROWS).map(refuse).on_error("skip").collect() == [0, 2, 4]


def test_dead_letters_tell_the_row_the_error_and_the_operator(job):
    rows = job.from_items(ROWS, schema=N, timestamps=range(10, 15))
    numbers = rows.map(refuse).on_error("dead_letter").named("refusing")
    kept, dead = rs.MemorySink(), rs.MemorySink()
    numbers.sink(kept)
    numbers.dead_letters.sink(dead)
    result = job.run()
    assert kept.rows == [0, 2, 4]
    assert [
        (letter["row"], letter["error"], letter["operator"], letter["timestamp"])
        for letter in dead.rows
    ] == [
        (ROWS[1], "ValueError: x", "refusing", 11),
        (ROWS[3], "ValueError", "refusing", 13),
    ]
    assert "in refuse" in dead.rows[0]["traceback"]
    assert "rejecting.py" not in dead.rows[0]["traceback"]
    assert result.metrics["refusing"]["failed_rows"] == 2
    assert result.metrics["refusing"]["rows_in"] == 5


def test_expressions_give_up_the_rows_that_they_fail_on(job):
    rows = job.from_items(ROWS, schema=N)
    cast = rows.with_columns(value=rs.col("text").cast(rs.Int64)).on_error("dead_letter")
    behind = cast.select("n")  # nobody reads the value, and the row is dead all the same
    kept = rs.MemorySink()
    behind.sink(kept)
    assert [row["row"] for row in cast.dead_letters.collect()] == [ROWS[1], ROWS[3]]
    assert [row["n"] for row in behind.collect()] == [0, 2, 4]


def test_a_sink_gives_up_the_rows_that_it_cannot_write(job):
    written = []

    class Sink(rs.Sink):
        def open(self, ctx):
            return self

        def write(self, batch):
            for row in batch:
                written.append(refuse(row))

    end = job.from_items(ROWS).sink(Sink()).on_error("dead_letter").named("out")
    dead = rs.MemorySink()
    end.dead_letters.sink(dead)
    result = job.run()
    assert set(written) == {0, 2, 4}
    assert [letter["row"] for letter in dead.rows] == [ROWS[1], ROWS[3]]
    assert dead.rows[0]["error"] == "ValueError: x"
    assert result.metrics["out"]["failed_rows"] == 2


def test_a_source_gives_up_rows_without_time(job):
    rows = [{"at": 1}, {"at": None}, {"at": 3}]
    source = job.from_items(rows, watermark=rs.WatermarkStrategy("at")).on_error("dead_letter")
    sink, dead = rs.MemorySink(), rs.MemorySink()
    source.sink(sink)
    source.dead_letters.sink(dead)
    job.run()
    assert sink.rows == [{"at": 1}, {"at": 3}]
    (letter,) = dead.rows
    assert (letter["row"], letter["timestamp"]) == ({"at": None}, None)
    assert "no event time" in letter["error"]


def test_every_row_of_a_column_stream_stands_whole_in_its_letter(job):
    rows = job.from_items(ROWS, schema=N).select("n", "text")
    odd = rows.filter(lambda row: 1 // (row["n"] % 2)).on_error("dead_letter")
    assert [letter["row"] for letter in odd.dead_letters.collect()] == [
        row for row in ROWS if row["n"] % 2 == 0
    ]


def test_unknown_words_are_refused_with_the_known_ones(job):
    with pytest.raises(rs.PlanError, match=r"'fail', 'skip', 'dead_letter', got 'ignore'"):
        job.from_items(ROWS).on_error("ignore")


def test_a_union_has_no_policy_and_no_letters(job):
    both = job.from_items([1]).union(job.from_items([2]))
    with pytest.raises(rs.PlanError, match="union"):
        both.on_error("skip")
    with pytest.raises(rs.PlanError, match="union"):
        both.dead_letters  # noqa: B018  a property that refuses


def test_letters_are_refused_where_none_are_kept_whenever_that_is_said(job):
    stream = job.from_items([1, 0]).map(lambda n: 1 // n).named("divide")
    letters = stream.dead_letters
    letters.print()
    with pytest.raises(rs.PlanError, match='"divide" has no dead letters: its on_error is "fail"'):
        job.run()
    with pytest.raises(rs.PlanError, match="no dead letters"):
        job.explain()
    stream.on_error("dead_letter")
    assert len(letters.collect()) == 1
    assert stream.dead_letters._tip.node is letters._tip.node


def test_plans_say_what_becomes_of_rows_that_fail(job):
    rows = job.from_items(ROWS, schema=N)
    (
        rows.with_columns(value=rs.col("text").cast(rs.Int64))
        .on_error("skip")
        .select("n")
        .print()
        .on_error("dead_letter")
    )
    plan = job.explain(physical=True)
    logical, physical = plan.split("physical plan")
    for part in (logical, physical):
        lines = part.splitlines()
        assert sum("on_error=skip" in line and "with_columns" in line for line in lines) == 1
        assert sum("on_error=dead_letter" in line and "print" in line for line in lines) == 1
    assert '"on_error": "skip"' in job.explain(format="json")
