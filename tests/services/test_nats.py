"""Streams of JetStream: read from where a checkpoint says, written once."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from nats_server import PASSWORD, nats_server, running_nats  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import nats, nats_source
from raystream.contracts.source import END, Later

pytestmark = [pytest.mark.services, pytest.mark.slow]

URL = rs.secret("NATS_URL")
SCHEMA = pa.schema({"n": pa.int64()})


def lines(numbers):
    return [json.dumps({"n": n}).encode() for n in numbers]


def read(stream, **settings):
    source = nats.NatsSource(URL, stream, SCHEMA, bounded=True, **settings)
    return [row["n"] for row in rs.Job("read", runtime="local").source(source).collect()]


def until(reader, count):
    """Poll until so many rows are there."""
    found = []
    for _ in range(1_000):
        polled = reader.poll(count - len(found))
        if polled is not None and not isinstance(polled, Later):
            found += polled.column("n").to_pylist()
        if len(found) >= count:
            return found
    raise AssertionError(f"only {found} came")


def test_where_reading_begins_and_ends(nats_server):
    stream = nats_server.stream("a", "b")
    assert read(stream) == []
    nats_server.publish(f"{stream}.a", lines(range(3)))
    nats_server.publish(f"{stream}.b", lines(range(10, 13)))
    assert read(stream) == [0, 1, 2, 10, 11, 12]
    assert read(stream, subjects=f"{stream}.b") == [10, 11, 12]
    assert sorted(read(stream, subjects=[f"{stream}.a", f"{stream}.b"])) == [0, 1, 2, 10, 11, 12]
    assert read(stream, start=3) == [2, 10, 11, 12]
    assert read(stream, start="latest") == []
    assert read(stream, subjects=f"{stream}.none") == []


def test_messages_that_are_late_are_waited_for(nats_server, monkeypatch):
    """The server has sent them, so that none are pending, and the client has stopped waiting."""
    monkeypatch.setattr(nats_source, "_WAIT_S", 0.000_2)
    stream = nats_server.stream()
    nats_server.publish(f"{stream}.a", lines(range(40)))
    for _ in range(5):
        assert read(stream) == list(range(40))


def test_messages_that_were_sent_and_got_lost_are_asked_for_again(nats_server):
    stream = nats_server.stream()
    nats_server.publish(f"{stream}.a", lines(range(9)))
    source = nats.NatsSource(URL, stream, SCHEMA, bounded=True)
    reader = source.open(source.splits()[0], None)
    assert until(reader, 4) == [0, 1, 2, 3]
    reader._connection.run(reader._consumer.fetch(5))  # the last ones: none comes behind them
    assert until(reader, 5) == [4, 5, 6, 7, 8]
    assert reader.backlog() == 0
    while reader.poll(3) is not END:
        pass
    reader.close()


def test_what_else_is_known_of_a_message_becomes_columns(nats_server):
    stream = nats_server.stream()
    nats_server.publish(f"{stream}.x", lines([5]))
    source = nats.NatsSource(
        URL, stream, SCHEMA, bounded=True, subject="s", sequence="seq", timestamp="at"
    )
    (row,) = rs.Job("read", runtime="local").source(source).collect()
    assert row.pop("at").year > 2000
    assert row == {"n": 5, "s": f"{stream}.x", "seq": 1}


def test_messages_that_were_removed_unread_are_told_of(nats_server):
    stream = nats_server.stream(max_msgs=4)
    nats_server.publish(f"{stream}.x", lines(range(10)))
    source = nats.NatsSource(URL, stream, SCHEMA)
    (split,) = source.splits()
    with pytest.raises(rs.SourceError, match="messages 3 to 6 of stream"):
        source.open(split, 3)
    source.open(split, 7).close()
    passing = nats.NatsSource(URL, stream, SCHEMA, lost="skip").open(split, 3)
    assert until(passing, 4) == [6, 7, 8, 9]
    passing.close()


def test_messages_that_cannot_be_read_follow_the_policy(nats_server):
    stream = nats_server.stream()
    nats_server.publish(f"{stream}.x", [*lines([1]), b"", b"\xff{", b'{"n": "x"}', *lines([2])])
    source = nats.NatsSource(URL, stream, SCHEMA, bounded=True)
    job = rs.Job("read", runtime="local")
    rows, letters = rs.MemorySink(), rs.MemorySink()
    given = job.source(source).on_error("dead_letter")
    given.sink(rows)
    given.dead_letters.sink(letters)
    job.run()
    assert [row["n"] for row in rows.rows] == [1, 2]
    assert [letter["row"] for letter in letters.rows] == [b"", b"\xff{", b'{"n": "x"}']
    with pytest.raises(rs.JobFailed, match=f"stream {stream}, message 2"):
        rs.Job("read", runtime="local").source(source).collect()


def test_rows_without_a_subject_follow_the_policy(nats_server):
    out = nats_server.stream()
    schema = pa.schema({"s": pa.string()})
    rows = [{"s": "a"}, {"s": None}, {"s": "b*"}, {"s": ""}, {"s": "x" * 2_000_000}, {"s": "c.d"}]
    job = rs.Job("bad", runtime="local")
    sink = nats.NatsSink(URL, f"{out}.{{s}}")
    job.from_items(rows, schema=schema).sink(sink).on_error("skip")
    job.run()
    assert [subject for subject, _ in nats_server.read(out)] == [f"{out}.a", f"{out}.c.d"]


def test_a_password_is_never_shown(nats_server, monkeypatch, tmp_path):
    if nats_server.child is None:
        pytest.skip("the password of a server that is not ours is not known")
    stream = nats_server.stream()
    source = nats.NatsSource(URL, stream, SCHEMA, bounded=True)
    shown = [source.describe(), repr(vars(source))]
    for url in (
        nats_server.url.replace("u:", "u:x"),
        f"nats://u:{PASSWORD}@127.0.0.1:1",
        f"nats://u:{PASSWORD}@h:port",
    ):
        monkeypatch.setenv("NATS_URL", url)
        with pytest.raises(rs.JobFailed) as failed:
            rs.Job("read", runtime="local").source(source).collect()
        shown += [str(failed.value), repr(failed.value.__cause__)]
    assert PASSWORD not in "\n".join(shown)
    with pytest.raises(rs.PlanError, match="password in it"):
        nats.NatsSource(nats_server.url, "s")
