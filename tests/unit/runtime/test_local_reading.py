"""What a subtask still wanted to read when it failed is not read for the one in its place."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs
from raystream.operators.source import SourceSpec
from raystream.runtime.shell import Readers
from raystream.subtask.events import Poll

SCHEMA = pa.schema([("n", pa.int64())])


class Fails(rs.Source):
    """Two splits; the first poll of all fails."""

    schema = SCHEMA

    def __init__(self):
        self.opened = []
        self.polls = 0

    def splits(self):
        return [rs.Split("a"), rs.Split("b")]

    def open(self, split, position):
        self.opened.append(split.id)
        return Counting(self, 0 if position is None else position)


class Counting(rs.Reader):
    def __init__(self, source, at):
        self.source, self.at = source, at

    def poll(self, max_rows):
        self.source.polls += 1
        if self.source.polls == 1:
            raise RuntimeError("power cut")
        if self.at == 5:
            return rs.END
        self.at += 1
        return [{"n": self.at}]

    def position(self):
        return self.at


class Numbers(rs.Source):
    """One split, whose reader has what it is given under the name ``backlog``."""

    schema = SCHEMA

    def __init__(self, backlog):
        self.backlog = backlog

    def splits(self):
        return [rs.Split("a")]

    def open(self, split, position):
        reader = Counting(self, 0 if position is None else position)
        reader.backlog = self.backlog
        self.polls = 1
        return reader


@pytest.mark.parametrize(
    ("backlog", "told"), [(lambda: 7, 7), (lambda: None, None), (lambda: "many", None), ([1], None)]
)
def test_a_backlog_is_a_number_that_a_reader_tells_or_its_own_affair(backlog, told):
    spec = SourceSpec(Numbers(backlog), SCHEMA, None, "numbers", "", timed=False)
    polled = Readers(spec).poll(Poll(rs.Split("a"), 10))
    assert (polled.rows, polled.backlog_rows) == ([{"n": 1}], told)


def test_a_poll_that_was_asked_before_a_failure_is_not_made_after_it():
    source, sink = Fails(), rs.MemorySink()
    job = rs.Job("fails", runtime="local", restart=rs.Restart.fixed(1, 0))
    job.source(source).sink(sink)
    assert job.run().restarts == 1
    assert source.opened == ["a", "a", "b"]
    assert sorted(row["n"] for row in sink.rows) == sorted([*range(1, 6)] * 2)
