"""A broker that is there and answers nobody: whoever waits for it says so, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import time

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors import kafka, kafka_client, kafka_commits, kafka_reader, kafka_sink
from raystream.contracts.source import END

SCHEMA = pa.schema({"n": pa.int64()})
OUTER_S = 60
"""However slow the machine is; nothing of this took less than minutes while it had no bound."""


@pytest.fixture
def ours(broker):
    """A broker that can be stopped."""
    if broker.child is None:
        pytest.skip("the broker is not ours to be stopped")
    return broker


@contextlib.contextmanager
def stuck(broker):
    """Stop a broker, for connectors that have little patience as long as it is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (kafka_commits, kafka_sink):
            patch.setattr(module, "REQUEST_S", 1.0)
        patch.setattr(kafka_commits, "GRACE_S", 0.5)
        patch.setattr(kafka_commits, "_SILENT_S", 2.0)
        patch.setattr(kafka_commits, "_PIECE_S", 0.5)
        patch.setattr(kafka_reader, "_SILENT_S", 1.0)
        patch.setattr(kafka_client, "CLOSE_S", 0.5)
        with broker.child.stuck():
            yield


def batch(*numbers):
    return rs.Batch(pa.RecordBatch.from_pydict({"n": numbers}, SCHEMA))


def numbers(broker, topic):
    return [json.loads(message.value())["n"] for message in broker.read(topic)]


def opened(sink, folder):
    return sink.open(rs.OpenContext(staging=str(folder)))


def read(reader):
    """Read to the end."""
    found = []
    while (polled := reader.poll(100)) is not END:
        if isinstance(polled, pa.RecordBatch):
            found += polled.column("n").to_pylist()
    return found


@pytest.fixture
def within():
    """Tell whether less than so many seconds have gone by."""
    start_s = time.monotonic()
    return lambda seconds: time.monotonic() - start_s < seconds


def test_a_commit_that_gets_no_answer_fails_and_is_repeated_once_it_can_be(ours, tmp_path, within):
    topic = ours.topic()
    sink = kafka.KafkaSink(ours.servers, topic)
    writer = opened(sink, tmp_path)
    for checkpoint, number in enumerate((1, 2)):
        writer.write(batch(number))
        prepared = writer.prepare_commit(checkpoint)
        if checkpoint:
            with stuck(ours), pytest.raises(rs.SinkError, match="cannot commit to topic"):
                sink.commit(checkpoint, prepared)
        sink.commit(checkpoint, prepared)
    writer.close()
    assert within(OUTER_S)
    assert numbers(ours, topic) == [1, 2]


def test_a_broker_that_stops_while_it_commits(ours, tmp_path, monkeypatch, within):
    """All has been sent: whether the commit was done nobody knows, until the broker answers."""
    topic = ours.topic()
    sink = kafka.KafkaSink(ours.servers, topic)
    writer = opened(sink, tmp_path)
    writer.write(batch(1))
    prepared = writer.prepare_commit(1)
    ends = kafka_commits._end_of
    with contextlib.ExitStack() as until_here:

        def end_of(producer):
            until_here.enter_context(stuck(ours))
            ends(producer)

        monkeypatch.setattr(kafka_commits, "_end_of", end_of)
        with pytest.raises(rs.SinkError, match="cannot commit to topic"):
            sink.commit(1, prepared)
    assert within(OUTER_S)
    monkeypatch.setattr(kafka_commits, "_end_of", ends)
    sink.commit(1, prepared)
    writer.close()
    assert numbers(ours, topic) == [1]


@pytest.mark.parametrize("end", ["prepare_commit", "close"])
def test_rows_that_have_not_arrived_are_told(ours, tmp_path, end, within):
    """A writer that closes with rows on their way has not written them."""
    sink = kafka.KafkaSink(ours.servers, ours.topic(), guarantee="at_least_once")
    writer = opened(sink, tmp_path)
    writer.write(batch(1))
    writer.prepare_commit(1)
    with stuck(ours):
        writer.write(batch(2, 3))
        with pytest.raises(
            rs.SinkError, match="2 messages were sent, and none has arrived for 1 s"
        ):
            writer.prepare_commit(2) if end == "prepare_commit" else writer.close()
        writer.close()  # nothing is waited for twice
    assert within(OUTER_S)


def test_a_reader_closes_while_nobody_answers_it(ours, within):
    topic = ours.topic()
    ours.write(topic, [b'{"n": 1}'])
    source = kafka.KafkaSource(ours.servers, topic, schema=SCHEMA, bounded=True, group="stuck")
    reader = source.open(source.splits()[0], None)
    assert read(reader) == [1]
    with stuck(ours):
        reader.checkpointed(reader.position())
        reader.close()
    assert within(OUTER_S)


def test_a_bounded_reader_waits_for_what_is_to_come_and_says_that_it_does_not(ours, within):
    topic = ours.topic()
    ours.write(topic, [b'{"n": 1}'])
    source = kafka.KafkaSource(ours.servers, topic, schema=SCHEMA, bounded=True)
    (split,) = source.splits()
    with stuck(ours):
        reader = source.open(split, None)
        with pytest.raises(rs.SourceError, match="nothing has come for 1 s, and offset 1 is not"):
            read(reader)
        reader.close()
    assert within(OUTER_S)
    reader = source.open(split, None)
    assert read(reader) == [1]
    reader.close()


def test_a_partition_that_is_shorter_than_it_was_has_not_been_read(ours, monkeypatch):
    monkeypatch.setattr(kafka_reader, "_SILENT_S", 1.0)
    topic = ours.topic()
    ours.write(topic, [b'{"n": 1}'])
    source = kafka.KafkaSource(ours.servers, topic, schema=SCHEMA, bounded=True)
    (split,) = source.splits()
    name, partition, start, stop = split.payload
    reader = source.open(rs.Split(split.id, (name, partition, start, stop + 1)), None)
    with pytest.raises(rs.SourceError, match="ends at offset 1, before 2"):
        read(reader)
    reader.close()
