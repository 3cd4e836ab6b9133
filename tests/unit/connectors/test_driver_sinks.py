"""Sinks that work in the process that started the job."""

from __future__ import annotations

import pickle
import threading
from datetime import datetime, timezone

import pyarrow as pa
import pytest

from raystream.connectors.callback import CallbackSink
from raystream.connectors.console import PrintSink
from raystream.connectors.memory import MemorySink
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.errors import SinkError, UserFunctionError

RECORD = pa.record_batch({"a": [1, 2], "t": pa.array([0, None], pa.timestamp("us", "UTC"))})
ROWS = [{"a": 1, "t": datetime(1970, 1, 1, tzinfo=timezone.utc)}, {"a": 2, "t": None}]


@pytest.mark.parametrize("sink", [PrintSink(), MemorySink(), CallbackSink(print)])
def test_the_writer_delivers_batches_to_the_driver(sink):
    delivered = []
    writer = sink.open(OpenContext(deliver=delivered.append))
    batches = [Batch(RECORD), Batch([1])]
    for batch in [*batches, Batch([])]:
        writer.write(batch)
    assert delivered == batches
    assert sink.to_driver


def test_rows_are_kept_in_order_and_grow_while_the_job_runs():
    sink = MemorySink()
    rows = sink.rows
    assert rows == []
    assert not sink.receive(Batch(RECORD))
    assert sink.rows is rows
    assert rows == ROWS
    sink.receive(Batch(["x"]))
    assert sink.rows == [*ROWS, "x"]
    assert len(sink) == 3


def test_a_limit_is_reached_and_never_passed():
    sink = MemorySink(limit=3)
    assert not sink.receive(Batch(RECORD))
    assert sink.receive(Batch(RECORD))
    assert sink.receive(Batch(RECORD))
    assert [row["a"] for row in sink.rows] == [1, 2, 1]
    objects = MemorySink(limit=1)
    assert objects.receive(Batch(["a", "b"], [1, 2]))
    assert objects.rows == ["a"]


def test_rows_make_a_table():
    sink = MemorySink()
    sink.receive(Batch(RECORD))
    sink.receive(Batch(RECORD))
    assert sink.table().num_rows == 4
    assert sink.table().schema == RECORD.schema
    objects = MemorySink()
    with pytest.raises(SinkError, match="no rows came"):
        objects.table()
    schema = pa.schema([("a", pa.int8())])
    assert objects.table(schema).schema == schema
    objects.receive(Batch([{"a": 1}]))
    assert objects.table(schema).to_pylist() == [{"a": 1}]
    objects.receive(Batch(["x"]))
    with pytest.raises(SinkError, match="make no table"):
        objects.table()


def test_rows_do_not_travel_with_the_sink():
    sink = MemorySink(limit=2)
    sink.receive(Batch(RECORD))
    copy = pickle.loads(pickle.dumps(sink))
    assert copy.rows == []
    assert copy.receive(Batch(RECORD))
    assert len(sink) == 2


def test_a_callback_gets_each_row_and_need_not_travel():
    got, lock = [], threading.Lock()

    def take(row):
        with lock:
            got.append(row)

    sink = CallbackSink(take)
    pickle.dumps(sink)
    assert not sink.receive(Batch(RECORD))
    assert got == ROWS
    assert "take" in sink.describe()


def test_a_callback_that_raises_is_told_with_its_row():
    sink = CallbackSink(lambda row: 1 // row)
    with pytest.raises(UserFunctionError, match="ZeroDivisionError") as failed:
        sink.receive(Batch([1, 0]))
    assert failed.value.row == "0"


def test_rows_are_printed_one_a_line(capsys):
    PrintSink().receive(Batch([{"a": 1}, "x"]))
    PrintSink("out").receive(Batch([None]))
    assert capsys.readouterr().out == "{'a': 1}\nx\nout> None\n"
