"""Readers of logs tell how many messages are to come, for a job that sizes itself by it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from nats_server import nats_server, running_nats  # noqa: F401  fixtures
from redis_server import redis_server, running_redis  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import kafka, nats, redis, redis_stream
from raystream.contracts.source import END

SCHEMA = pa.schema({"n": pa.int64()})
POLLS_MAX = 4_000


def lines(numbers):
    return [json.dumps({"n": n}).encode() for n in numbers]


def opened(source, position=None):
    (split,) = source.splits()
    return source.open(split, position)


def until(reader, count):
    """Poll until so many rows came."""
    for _ in range(POLLS_MAX):
        polled = reader.poll(count)
        count -= polled.num_rows if isinstance(polled, pa.RecordBatch) else 0
        if not count:
            return
    raise AssertionError(f"{count} rows never come")


def dry(reader):
    """Poll until there is nothing more, and nothing comes."""
    for _ in range(POLLS_MAX):
        if reader.poll(10) in (None, END):
            return
    raise AssertionError("there is always something")


@pytest.fixture(params=["Kafka", "NATS"])
def log(request):
    """Give how a log is written to, and what reads it with these settings."""
    if request.param == "Kafka":
        broker = request.getfixturevalue("broker")
        topic = broker.topic()
        return (
            lambda numbers: broker.write(topic, lines(numbers)),
            lambda **more: kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, **more),
        )
    server = request.getfixturevalue("nats_server")
    stream = server.stream()
    return (
        lambda numbers: server.publish(f"{stream}.x", lines(numbers)),
        lambda **more: nats.NatsSource(rs.secret("NATS_URL"), stream, SCHEMA, **more),
    )


def test_what_is_there_and_not_read_is_the_backlog(log):
    write, source = log
    write(range(10))
    reader = opened(source())
    assert reader.backlog() is None
    until(reader, 4)
    assert reader.backlog() == 6
    until(reader, 6)
    assert reader.backlog() == 0
    dry(reader)
    write(range(10, 13))
    until(reader, 1)
    assert reader.backlog() == 2
    until(reader, 2)
    dry(reader)
    assert reader.backlog() == 0
    reader.close()


def test_what_is_behind_the_end_of_a_bounded_source_does_not_count(log):
    write, source = log
    write(range(5))
    bounded = source(bounded=True)
    (split,) = bounded.splits()
    write(range(5, 100))
    reader = bounded.open(split, None)
    until(reader, 2)
    assert reader.backlog() == 3
    until(reader, 3)
    assert reader.poll(10) is END
    assert reader.backlog() == 0
    reader.close()


def test_a_reader_that_goes_on_counts_from_there(log):
    write, source = log
    write(range(20))
    first = opened(source())
    until(first, 15)
    position = first.position()
    first.close()
    again = opened(source(), position)
    until(again, 1)
    assert again.backlog() == 4
    again.close()


def test_nothing_is_to_come_where_nothing_is(log):
    _, source = log
    reader = opened(source())
    dry(reader)
    assert reader.backlog() == 0
    reader.close()


def test_what_an_open_transaction_has_written_is_not_to_come(broker):
    from confluent_kafka import Producer

    topic = broker.topic()
    broker.write(topic, lines(range(2)))
    settings = {"bootstrap.servers": broker.servers, "transactional.id": f"id-{topic}"}
    producer = Producer(settings)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, lines([2])[0])
    producer.flush(30)
    reader = opened(kafka.KafkaSource(broker.servers, topic, schema=SCHEMA))
    until(reader, 2)
    dry(reader)
    assert reader.backlog() == 0
    producer.commit_transaction(30)
    until(reader, 1)
    dry(reader)
    assert reader.backlog() == 0
    reader.close()


def test_messages_that_are_removed_are_not_to_come(nats_server):
    stream = nats_server.stream()
    nats_server.publish(f"{stream}.x", lines(range(9)))
    reader = opened(nats.NatsSource(rs.secret("NATS_URL"), stream, SCHEMA))
    until(reader, 4)
    assert reader.backlog() == 5
    nats_server.run(lambda js: js.purge_stream(stream))
    dry(reader)
    assert reader.backlog() == 0
    reader.close()


def test_a_split_counts_its_own_subject_alone(nats_server):
    stream = nats_server.stream("a", "b")
    for subject, count in (("a", 5), ("b", 50)):
        nats_server.publish(f"{stream}.{subject}", lines(range(count)))
    reader = opened(nats.NatsSource(rs.secret("NATS_URL"), stream, SCHEMA, subjects=f"{stream}.a"))
    until(reader, 2)
    assert reader.backlog() == 3
    reader.close()


def test_entries_of_a_stream_of_redis_are_counted(redis_server, monkeypatch):
    monkeypatch.setattr(redis_stream, "_COUNTED_EVERY_S", 0)
    with redis_server.connect() as client:
        ids = [client.xadd("counted", {"n": n}) for n in range(10)]
        client.xtrim("counted", maxlen=8, approximate=False)
        source = redis.RedisStreamSource(rs.secret("REDIS_URL"), "counted", SCHEMA)
        reader = opened(source)
        assert reader.backlog() is None
        until(reader, 3)
        assert reader.backlog() == 5
        again = opened(source, reader.position())
        until(again, 1)
        assert again.backlog() == 4
        again.close()
        client.xdel("counted", ids[-1])  # it was to come: nobody knows that it will not
        until(reader, 4)
        assert reader.backlog() == 1
        dry(reader)
        assert reader.backlog() == 0
        client.xadd("counted", {"n": 1})
        client.xadd("counted", {"n": 2})
        until(reader, 1)
        assert reader.backlog() == 2  # with the deleted one
        reader.close()


def test_entries_are_counted_now_and_then_and_taken_off_in_between(redis_server, monkeypatch):
    with redis_server.connect() as client:
        for n in range(10):
            client.xadd("counted", {"n": n})
        reader = opened(redis.RedisStreamSource(rs.secret("REDIS_URL"), "counted", SCHEMA))
        until(reader, 2)
        monkeypatch.setattr(redis_stream, "_COUNTED_EVERY_S", 1e9)
        client.xadd("counted", {"n": 10})
        until(reader, 3)
        assert reader.backlog() == 5
        reader.close()


def test_nobody_counts_a_stream_that_is_read_from_its_middle_on(redis_server):
    with redis_server.connect() as client:
        first, *_ = [client.xadd("counted", {"n": n}) for n in range(5)]
        source = redis.RedisStreamSource(rs.secret("REDIS_URL"), "counted", SCHEMA, start=first)
        reader = opened(source)
        until(reader, 2)
        assert reader.backlog() is None
        dry(reader)
        assert reader.backlog() == 0
        reader.close()
