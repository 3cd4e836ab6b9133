"""Servers that are there and answer nobody: whoever waits for one says so, and loses nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from children import stuck
from elasticsearch_server import running_elasticsearch, search  # noqa: F401  fixtures
from nats_server import nats_server, running_nats  # noqa: F401  fixtures
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures
from redis_server import redis_server, running_redis  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import (
    elasticsearch,
    nats,
    nats_client,
    nats_sink,
    nats_source,
    postgres_server,
    redis,
)
from raystream.connectors import postgres as pg
from raystream.connectors import redis_server as redis_module
from raystream.contracts.source import END, Later
from raystream.errors import SubtaskLost

SCHEMA = pa.schema({"n": pa.int64()})
OUTER_S = 60
"""However slow the machine is."""


def batch(*numbers):
    return rs.Batch(pa.RecordBatch.from_pydict({"n": numbers}, SCHEMA))


@pytest.fixture
def within():
    """Tell whether less than so many seconds have gone by."""
    start_s = time.monotonic()
    return lambda seconds: time.monotonic() - start_s < seconds


class Postgres:
    """A table, and a server that can be stopped."""

    def __init__(self, server):
        self.server = server
        self.dsn = server.dsn
        self.run("DROP TABLE IF EXISTS stuck; CREATE TABLE stuck (n bigint PRIMARY KEY)")

    def run(self, sql):
        with self.server.connect() as connection:
            return connection.execute(sql)

    def rows(self):
        with self.server.connect() as connection:
            return [n for (n,) in connection.execute("SELECT n FROM stuck ORDER BY n")]

    @contextlib.contextmanager
    def stuck(self):
        """Stop the server, and all that it has started."""
        first = int((self.server.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        with pytest.MonkeyPatch.context() as patch, stuck(first, *map(int, children)):
            patch.setattr(postgres_server, "SILENT_S", 0.5)
            yield


@pytest.fixture
def table(postgres, monkeypatch):
    if postgres.folder is None:
        pytest.skip("the server is not ours to be stopped")
    monkeypatch.setattr(postgres_server, "_CONNECT_TIMEOUT_S", 4)
    return Postgres(postgres)


def read(reader, counts):
    """Read to the end; note how many rows came."""
    while (polled := reader.poll(50_000)) is not END:
        counts.append(polled.rows.num_rows)


def test_a_table_is_read_by_a_server_that_stops(table, within):
    table.run("INSERT INTO stuck SELECT generate_series(1, 300000)")
    source = pg.PostgresSource(table.dsn, "stuck", ranges=1)
    reader = source.open(source.splits()[0], None)
    counts = [reader.poll(100).rows.num_rows]
    with table.stuck(), pytest.raises(rs.SourceError, match="answers nobody"):
        read(reader, counts)  # what has come is given before
    position = reader.position()
    reader.close()
    assert within(OUTER_S)
    reader = source.open(source.splits()[0], position)
    read(reader, counts)
    reader.close()
    assert sum(counts) == 300_000


def test_a_table_that_is_locked_is_waited_for_while_the_server_answers_others(table):
    source = pg.PostgresSource(table.dsn, "stuck", ranges=1)
    (split,) = source.splits()
    reader = source.open(split, None)
    with table.server.connect() as other:
        other.execute("BEGIN; LOCK TABLE stuck; INSERT INTO stuck VALUES (1)")
        other.execute("SELECT 1")
        looked = []
        with pytest.MonkeyPatch.context() as patch:

            def look(self, fields):
                looked.append(fields)
                if len(looked) == 3:
                    other.execute("COMMIT")

            patch.setattr(postgres_server.Server, "_look", look)
            patch.setattr(postgres_server, "SILENT_S", 0.2)
            assert reader.poll(10).rows.column("n").to_pylist() == [1]
    assert len(looked) == 3
    assert reader.poll(10) is END
    reader.close()


@pytest.mark.parametrize("when", ["write", "prepare_commit", "commit"])
def test_a_table_is_written_by_a_server_that_stops(table, when, within):
    sink = pg.PostgresSink(table.dsn, "stuck", mode="append").bound(SCHEMA, None)
    writer = sink.open(rs.OpenContext())
    writer.write(batch(1))
    if when == "write":
        with table.stuck(), pytest.raises(SubtaskLost, match="has lost what was written"):
            writer.write(batch(2))
    elif when == "prepare_commit":
        with table.stuck(), pytest.raises(rs.SinkError, match="cannot prepare checkpoint 1"):
            writer.prepare_commit(1)
    else:
        prepared = writer.prepare_commit(1)
        with table.stuck(), pytest.raises(rs.SinkError, match="cannot connect"):
            sink.commit(1, prepared)
        sink.commit(1, prepared)
    writer.close()
    assert within(OUTER_S)
    assert table.rows() == ([1] if when == "commit" else [])


def test_changes_are_followed_behind_a_server_that_stops(table, within):
    source = pg.PostgresCdcSource(table.dsn, "stuck", slot="stuck")
    (split,) = source.splits()
    reader = source.open(split, None)
    table.run("INSERT INTO stuck VALUES (1)")
    found = []
    while len(found) < 2:
        polled = reader.poll(10)
        if polled is None or isinstance(polled, Later):
            continue
        found += polled.rows.column("n").to_pylist()
        if found == [1]:
            with table.stuck():
                while not isinstance(reader.poll(10), Later):
                    pass
            assert within(OUTER_S)
            table.run("INSERT INTO stuck VALUES (2)")
    assert found == [1, 2]
    reader.close()


@pytest.fixture
def cache(redis_server, monkeypatch):
    if redis_server.child is None:
        pytest.skip("the server is not ours to be stopped")
    monkeypatch.setattr(redis_module, "_ANSWER_TIMEOUT_S", 3.0)
    monkeypatch.setattr(redis_module, "_GIVE_UP_S", 2.0)
    return redis_server


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_keys_are_written_by_a_redis_that_stops(cache, tmp_path, guarantee, within):
    sink = redis.RedisSink(rs.secret("REDIS_URL"), "n:{n}", "string", guarantee=guarantee)
    sink = sink.bound(SCHEMA, None)
    writer = sink.open(rs.OpenContext(staging=str(tmp_path)))
    if guarantee == "at_least_once":
        with cache.child.stuck(), pytest.raises(SubtaskLost, match="is not written to"):
            writer.write(batch(1))
        writer.write(batch(1))
    else:
        writer.write(batch(1))
        prepared = writer.prepare_commit(1)
        with cache.child.stuck(), pytest.raises(rs.SinkError, match="Redis at"):
            sink.commit(1, prepared)
        sink.commit(1, prepared)
    with cache.child.stuck():
        writer.close()
    assert within(OUTER_S)
    with cache.connect() as client:
        assert client.keys("n:*") == ["n:1"]


def test_a_stream_is_read_from_a_redis_that_stops(cache, within):
    with cache.connect() as client:
        for n in range(3):
            client.xadd("stuck", {"n": n})
    source = redis.RedisStreamSource(rs.secret("REDIS_URL"), "stuck", SCHEMA, bounded=True)
    reader = source.open(source.splits()[0], None)
    found = reader.poll(2).column("n").to_pylist()
    with cache.child.stuck():
        assert isinstance(reader.poll(2), Later)
    while (polled := reader.poll(2)) is not END:
        assert not isinstance(polled, Later), "one answer late is another one's"
        found += polled.column("n").to_pylist()
    reader.close()
    assert found == [0, 1, 2]
    assert within(OUTER_S)


@pytest.fixture
def jetstream(nats_server, monkeypatch):
    if nats_server.child is None:
        pytest.skip("the server is not ours to be stopped")
    for module in (nats_client, nats_source, nats_sink):
        monkeypatch.setattr(module, "ANSWER_S", 3.0)
    monkeypatch.setattr(nats_client, "_CLOSE_S", 1.0)
    monkeypatch.setattr(nats_client, "_CONNECT_S", 4)
    return nats_server


def test_a_stream_is_read_from_a_nats_that_stops(jetstream, within):
    name = jetstream.stream()
    jetstream.publish(f"{name}.a", [b'{"n": %d}' % n for n in range(3)])
    source = nats.NatsSource(rs.secret("NATS_URL"), name, SCHEMA, bounded=True)
    reader = source.open(source.splits()[0], None)
    found = []
    with jetstream.child.stuck():
        while not isinstance(reader.poll(2), Later):
            pass
    while (polled := reader.poll(2)) is not END:
        if isinstance(polled, pa.RecordBatch):
            found += polled.column("n").to_pylist()
    with jetstream.child.stuck():
        reader.close()
    assert found == [0, 1, 2]
    assert within(OUTER_S)


def test_messages_are_committed_to_a_nats_that_stops(jetstream, tmp_path, within):
    name = jetstream.stream()
    sink = nats.NatsSink(rs.secret("NATS_URL"), f"{name}.a").bound(SCHEMA, None)
    writer = sink.open(rs.OpenContext(staging=str(tmp_path)))
    writer.write(batch(1))
    prepared = writer.prepare_commit(1)
    with jetstream.child.stuck(), pytest.raises(rs.SinkError, match="NATS at"):
        sink.commit(1, prepared)
    sink.commit(1, prepared)
    writer.close()
    assert [value for _, value in jetstream.read(name)] == [b'{"n":1}']
    assert within(OUTER_S)


def test_documents_are_written_to_a_search_that_stops(search, monkeypatch, within):
    if search.child is None:
        pytest.skip("the server is not ours to be stopped")
    monkeypatch.setattr(elasticsearch, "_RETRIES", 1)
    sink = elasticsearch.ElasticsearchSink(rs.secret("ES_URL"), "stuck", "{n}").bound(SCHEMA, None)
    sink._endpoint = replace(sink._endpoint, timeout_s=3.0)
    writer = sink.open(rs.OpenContext())
    with search.child.stuck(), pytest.raises(SubtaskLost, match="does not answer"):
        writer.write(batch(1))
    writer.write(batch(1))
    writer.close()
    assert search.table("stuck") == {"1": {"n": 1}}
    assert within(OUTER_S)
