"""Bounded readers end where their rows do, however little they wait for a server."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures
from redis_server import redis_server, running_redis  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import kafka, kafka_reader, postgres_server, redis, redis_stream
from raystream.connectors import postgres as pg
from raystream.contracts.source import END

SCHEMA = pa.schema({"n": pa.int64()})
COUNT = 3_000


def numbers(source, max_rows=7):
    """Read all splits to their ends."""
    found = []
    for split in source.splits():
        reader = source.open(split, None)
        while (polled := reader.poll(max_rows)) is not END:
            rows = getattr(polled, "rows", polled)
            if isinstance(rows, pa.RecordBatch):
                found += rows.column("n").to_pylist()
        reader.close()
    return found


def test_a_topic(broker, monkeypatch):
    monkeypatch.setattr(kafka_reader, "_WAIT_S", 0)
    monkeypatch.setattr(kafka_reader, "_WAIT_AT_END_S", 0)
    topic = broker.topic(2)
    for partition in range(2):
        some = range(partition, COUNT, 2)
        broker.write(topic, [json.dumps({"n": n}).encode() for n in some], partition)
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, bounded=True)
    assert sorted(numbers(source)) == list(range(COUNT))


def test_a_stream_of_redis(redis_server, monkeypatch):
    monkeypatch.setattr(redis_stream, "_WAIT_MS", 1)
    with redis_server.connect() as client:
        for n in range(100):
            client.xadd("hasty", {"n": n})
    source = redis.RedisStreamSource(rs.secret("REDIS_URL"), "hasty", SCHEMA, bounded=True)
    assert numbers(source) == list(range(100))


@pytest.fixture
def table(postgres):
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE hasty (n bigint PRIMARY KEY, x text)")
        connection.execute(
            f"INSERT INTO hasty SELECT n, repeat('x', 2000) FROM generate_series(0, {COUNT - 1}) n"
        )
    return postgres


def test_a_table(table, monkeypatch):
    """A server that is asked at once whether it is there is, and goes on."""
    monkeypatch.setattr(postgres_server, "SILENT_S", 0.000_1)
    source = pg.PostgresSource(table.dsn, "hasty", ranges=3)
    assert sorted(numbers(source, 500)) == list(range(COUNT))


def test_a_table_whose_reader_is_cut_off_has_not_been_read(table):
    source = pg.PostgresSource(table.dsn, "hasty", ranges=1)
    reader = source.open(source.splits()[0], None)
    count = reader.poll(1).rows.num_rows
    with table.connect() as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE 'COPY %'"
        )
    with pytest.raises(rs.SourceError, match="cannot read table hasty"):
        rest(reader)
    assert count == 1
    reader.close()


def rest(reader):
    while reader.poll(500) is not END:
        pass
