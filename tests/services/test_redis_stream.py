"""Streams of Redis that are read: from where a checkpoint says, with neighbours of what is bad."""

from __future__ import annotations

import pyarrow as pa
import pytest
from redis_server import redis_server, running_redis  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import redis
from raystream.contracts.source import END

pytestmark = [pytest.mark.services, pytest.mark.slow]

URL = rs.secret("REDIS_URL")
SCHEMA = pa.schema({"n": pa.int64()})


def fill(client, name, numbers):
    return [client.xadd(name, {"n": n}) for n in numbers]


def read(**settings):
    source = redis.RedisStreamSource(URL, "s", SCHEMA, bounded=True, **settings)
    return [row["n"] for row in rs.Job("read", runtime="local").source(source).collect()]


def test_fields_are_read_as_they_were_written(redis_server):
    schema = pa.schema(
        {
            "n": pa.int64(),
            "x": pa.float64(),
            "on": pa.bool_(),
            "text": pa.string(),
            "raw": pa.binary(),
            "at": pa.timestamp("us", "UTC"),
            "tags": pa.list_(pa.int64()),
            "d": pa.date32(),
        }
    )
    rows = [
        {"n": 1, "x": 0.1, "on": True, "text": '"a\n', "raw": b"\xff", "at": 1, "tags": [1, None]},
        {"n": 2},
    ]
    full = [{name: row.get(name) for name in schema.names} for row in rows]
    job = rs.Job("write", runtime="local")
    job.from_items(full, schema=schema).sink(redis.RedisSink(URL, "s", "stream"))
    job.run()
    source = redis.RedisStreamSource(URL, "s", schema, bounded=True)
    found = rs.Job("read", runtime="local").source(source).to_arrow()
    assert found.to_pylist() == pa.Table.from_pylist(full, schema).to_pylist()


def test_where_reading_begins_and_ends(redis_server):
    client = redis_server.connect()
    assert read() == []
    ids = fill(client, "s", range(5))
    assert read() == [0, 1, 2, 3, 4]
    assert read(start=ids[2]) == [3, 4]
    assert read(start="latest") == []


def test_a_reader_goes_on_where_it_stood(redis_server):
    client = redis_server.connect()
    fill(client, "s", range(10))
    source = redis.RedisStreamSource(URL, "s", SCHEMA, id="id", bounded=True)
    (split,) = source.splits()
    fill(client, "s", [99])
    reader = source.open(split, None)
    first = reader.poll(4)
    assert first.column("n").to_pylist() == [0, 1, 2, 3]
    assert reader.position()[0] == first.column("id")[3].as_py()
    again = source.open(split, reader.position())
    assert again.poll(100).column("n").to_pylist() == [4, 5, 6, 7, 8, 9]
    assert again.poll(100) is END
    again.close()
    reader.close()


def test_entries_that_were_trimmed_unread_are_told_of(redis_server):
    client = redis_server.connect()
    fill(client, "s", range(10))
    source = redis.RedisStreamSource(URL, "s", SCHEMA)
    (split,) = source.splits()
    reader = source.open(split, None)
    reader.poll(4)
    position = reader.position()
    reader.close()
    client.xtrim("s", maxlen=6, approximate=False)
    source.open(split, position).close()
    client.xtrim("s", maxlen=3, approximate=False)
    with pytest.raises(rs.SourceError, match="were deleted before"):
        source.open(split, position)
    passing = redis.RedisStreamSource(URL, "s", SCHEMA, lost="skip").open(split, position)
    assert passing.poll(100).column("n").to_pylist() == [7, 8, 9]
    passing.close()


def test_entries_that_do_not_fit_follow_the_policy(redis_server):
    client = redis_server.connect()
    fill(client, "s", [1, "x", 2, 2**70])
    client.xadd("s", {"other": 1})
    job = rs.Job("read", runtime="local")
    source = redis.RedisStreamSource(URL, "s", SCHEMA, bounded=True)
    rows, letters = rs.MemorySink(), rs.MemorySink()
    read = job.source(source).on_error("dead_letter")
    read.sink(rows)
    read.dead_letters.sink(letters)
    job.run()
    assert [row["n"] for row in rows.rows] == [1, 2, None]
    assert [letter["row"] for letter in letters.rows] == [{b"n": b"x"}, {b"n": b"%d" % 2**70}]
    with pytest.raises(rs.JobFailed, match='stream s, entry .*: field "n" holds no int64'):
        rs.Job("read", runtime="local").source(source).collect()
