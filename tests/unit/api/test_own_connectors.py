"""Sources and sinks of a user's own, which need not be derived from more than the contract asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest
from goldens import load

import raystream as rs
from raystream.contracts.source import discovery_period_us
from raystream.operators.source import SourceSpec

ONE = pa.schema({"a": pa.int64()})


class BareReader:
    """Has what a reader must have and no more: no close, no checkpointed."""

    def __init__(self, gives: list[Any]) -> None:
        self._gives = list(gives)

    def poll(self, max_rows: int) -> Any:
        return self._gives.pop(0) if self._gives else rs.END

    def position(self) -> int:
        return len(self._gives)


class Giving(rs.Source):
    """Gives what it is told to."""

    schema = ONE

    def __init__(self, gives: list[Any], reader: Callable[..., Any] = BareReader) -> None:
        self._gives = gives
        self._reader = reader

    def splits(self) -> list[rs.Split]:
        return [rs.Split("only")]

    def open(self, split: rs.Split, position: Any) -> Any:
        return self._reader(self._gives)


class BareWriter:
    """Has a write and nothing else."""

    def __init__(self, seen: list[Any]) -> None:
        self._seen = seen

    def write(self, batch: rs.Batch) -> None:
        self._seen += batch.to_pylist()


class Into(rs.Sink):
    """Writes into a list."""

    def __init__(self, seen: list[Any]) -> None:
        self._seen = seen

    def open(self, ctx: rs.OpenContext) -> Any:
        return BareWriter(self._seen)


class PreparingWriter(BareWriter):
    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        prepared, self._seen = self._seen, []
        return prepared


class CommittedAtOnce(rs.Sink):
    """Wants one commit of what all subtasks prepared."""

    global_commit = True

    def __init__(self) -> None:
        self.commits: list[list[Any]] = []

    def open(self, ctx: rs.OpenContext) -> Any:
        return PreparingWriter([])

    def commit(self, checkpoint_id: int, committables: Any) -> None:
        self.commits.append(list(committables))


def read(source: rs.Source) -> list[Any]:
    return rs.Job("own").source(source).collect()


def test_a_reader_gives_rows_in_every_form_and_needs_no_close():
    rows = pa.record_batch({"a": [2]})
    gives = [[{"a": 1}], None, rows, rs.Batch([{"a": 3}]), pa.table({"a": [4]}), []]
    assert [row["a"] for row in read(Giving(gives))] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([{"b": 1}], 'has no "a"'),
        ([{"a": 1, "b": 2}], "which is no column"),
        ([{"a": "x"}], "does not fit int64"),
        (pa.record_batch({"a": ["x"]}), "do not fit its schema"),
        ("text", "where rows are expected"),
    ],
)
def test_what_a_reader_gives_wrong_is_told_as_the_source_s(given: Any, told: str):
    with pytest.raises(rs.JobFailed, match=told) as failure:
        read(Giving([given]))
    assert isinstance(failure.value.__cause__, rs.SourceError)
    assert 'source "source#1" gave' in str(failure.value)


def test_timestamps_come_as_many_as_rows():
    source = Giving([])
    schema = ONE.append(pa.field("__ts", pa.int64(), nullable=False))
    operator = SourceSpec(source, schema, None, "s", "", timed=True).build()
    with pytest.raises(rs.SourceError, match="2 timestamps for 1 rows"):
        operator.convert(rs.Batch([{"a": 1}], timestamps=[1, 2]))


def test_timestamps_of_a_batch_may_be_datetimes():
    noon = datetime(1970, 1, 1, 12, tzinfo=timezone.utc)
    batch = rs.Batch([1, 2], timestamps=[noon, 7])
    assert batch.timestamps is not None
    assert batch.timestamps.tolist() == [12 * 3_600_000_000, 7]


def test_a_reader_that_fails_to_close_fails_the_job_and_not_the_engine():
    class Clinging(BareReader):
        def poll(self, max_rows: int) -> Any:
            raise ValueError("no rows today")

        def close(self) -> None:
            raise OSError("stuck")

    with pytest.raises(rs.JobFailed, match="no rows today"):
        read(Giving([], Clinging))


def test_a_source_without_end_that_can_discover_is_asked_to():
    class Growing(Giving):
        bounded = False

        def discover(self) -> list[rs.Split]:
            return []

    growing = Growing([])
    assert discovery_period_us(growing) == 1_000_000
    growing.discover_every_us = 5
    assert discovery_period_us(growing) == 5
    assert discovery_period_us(Giving([])) is None


def test_a_writer_needs_only_to_write():
    seen: list[Any] = []
    job = rs.Job("own", runtime="local")
    job.from_items([1, 2]).sink(Into(seen))
    job.run()
    assert seen == [1, 2]


@pytest.mark.parametrize("prepared", [None, (), (1, 2)])
def test_a_writer_may_prepare_any_sequence_or_nothing(prepared: Any):
    class Saying(BareWriter):
        def prepare_commit(self, checkpoint_id: int) -> Any:
            return prepared

    class Committing(CommittedAtOnce):
        def open(self, ctx: rs.OpenContext) -> Any:
            return Saying([])

    sink = Committing()
    job = rs.Job("own", runtime="local")
    job.from_items([1]).sink(sink)
    job.run()
    assert sink.commits == ([[1, 2]] if prepared else [])


def test_a_global_commit_is_one_for_all_subtasks():
    sink = CommittedAtOnce()
    job = rs.Job("own", runtime="local", parallelism=3)
    job.from_items(range(9)).rebalance().sink(sink)
    job.run()
    assert [sorted(commit) for commit in sink.commits] == [list(range(9))]


def test_the_lesson_s_sink_commits_a_checkpoint_once_whoever_repeats_it(tmp_path):
    path = tmp_path / "words.db"
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE done (id INTEGER PRIMARY KEY); CREATE TABLE words (word)")
    sink = load("examples/09_own_sink.py").Table(str(path))
    writer = sink.open(rs.OpenContext())
    epochs = []
    for epoch in (1, 2):
        writer.write(rs.Batch([f"a{epoch}", f"b{epoch}"]))
        epochs.append((epoch, list(writer.prepare_commit(epoch))))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda told: sink.commit(*told), epochs * 3))
    words = [word for (word,) in sqlite3.connect(path).execute("SELECT word FROM words")]
    assert sorted(words) == ["a1", "a2", "b1", "b2"]


class Modulo:
    """A class of functions: made where it is needed."""

    def __init__(self, divisor: int = 2) -> None:
        self._divisor = divisor

    def __call__(self, row: int) -> int:
        return row % self._divisor


class Where:
    def open(self, ctx: rs.OpenContext) -> None:
        self._index = ctx.subtask_index

    def __call__(self, row: int) -> tuple[int, int]:
        return row, self._index


def test_keys_and_partitions_are_made_by_classes_with_their_arguments():
    items = rs.Job("own", parallelism=3).from_items(range(6))
    counts = items.key_by(Modulo, fn_kwargs={"divisor": 3}).aggregate(n=rs.count(), emit="final")
    assert sorted((row["key"], row["n"]) for row in counts.collect()) == [(0, 2), (1, 2), (2, 2)]
    placed = items.partition_by(Modulo, fn_kwargs={"divisor": 3}).map(Where)
    assert sorted(placed.collect()) == [(row, row % 3) for row in range(6)]
    with pytest.raises(rs.PlanError, match="fn_kwargs= goes to a function"):
        items.with_schema(ONE).key_by("a", fn_kwargs={"divisor": 3})


def test_event_time_is_read_by_a_class_of_functions():
    watermark = rs.WatermarkStrategy(Modulo, unit="s")
    windows = rs.Job("own").from_items([3, 2], watermark=watermark).window_all(rs.Tumbling("1s"))
    counts = windows.aggregate(n=rs.count()).collect()
    assert [(row["window_start"].second, row["n"]) for row in counts] == [(0, 1), (1, 1)]


def test_event_times_that_a_source_does_not_announce_are_refused_not_lost():
    class Reader(rs.Reader):
        def poll(self, max_rows):
            return rs.Batch([1, 2], timestamps=[5, 6])

        def position(self):
            return 0

    class Unannounced(rs.Source):
        def splits(self):
            return [rs.Split("all")]

        def open(self, split, position):
            return Reader()

    with pytest.raises(rs.JobFailed, match="set timed = True on Unannounced"):
        rs.Job("t").source(Unannounced()).collect()
