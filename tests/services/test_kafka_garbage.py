"""Messages that cannot be decoded go where the policy says, and their neighbours arrive."""

from __future__ import annotations

import json

import encoded
import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors import kafka

SCHEMA = pa.schema({"n": pa.int64()})
GARBAGE = [
    b'{"n": 1',
    b'{"n": "\xff"}',
    b'{"n": "one"}',
    b'{"n": 99999999999999999999}',
    b"",
    None,
    b'{"n": 1, "pad": "' + b"x" * 10_000_000,
]
GOOD = [*(json.dumps({"n": n, "more": n}).encode() for n in range(10)), b"{}"]
LARGE = b'{"n": 10, "pad": "' + b"x" * 10_000_000 + b'"}'


@pytest.fixture(scope="module")
def topic(broker):
    name = broker.topic(config={"max.message.bytes": "20000000"})
    for place, value in enumerate([*GOOD, LARGE]):
        broker.write(name, [value, *GARBAGE[place : place + 1]])
    return name


def rows_of(broker, topic, policy):
    job = rs.Job("bad", runtime="local")
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, bounded=True)
    rows = job.source(source).on_error(policy)
    kept, letters = rs.MemorySink(), rs.MemorySink()
    rows.sink(kept)
    if policy == "dead_letter":
        rows.dead_letters.sink(letters)
    job.run()
    return [row["n"] for row in kept.rows], letters.rows


def test_skip_leaves_them_out(broker, topic):
    assert rows_of(broker, topic, "skip")[0] == [*range(10), None, 10]


def test_dead_letters_hold_the_bytes_and_the_reason(broker, topic):
    rows, letters = rows_of(broker, topic, "dead_letter")
    assert rows == [*range(10), None, 10]
    assert [letter["row"] for letter in letters] == GARBAGE
    for place, letter in enumerate(letters):
        assert f"topic {topic}, partition 0, offset {2 * place + 1}: " in letter["error"]
    assert "tombstone" in letters[5]["error"]


def test_fail_names_the_message(broker, topic):
    with pytest.raises(rs.JobFailed, match=f"topic {topic}, partition 0, offset 1: "):
        rows_of(broker, topic, "fail")


def test_an_unknown_schema_follows_the_policy_and_a_registry_that_is_down_does_not(broker):
    name = broker.topic()
    with encoded.registry({}) as (url, _):
        kind = encoded.avro(registry=kafka.Registry(url), subject="s")
        (good,) = kind.encoder()(
            pa.RecordBatch.from_pylist(encoded.ROWS[:1], encoded.SCHEMA)
        ).to_pylist()
        broker.write(name, [good, encoded.wire(99, b""), good])
        source = kafka.KafkaSource(broker.servers, name, format=kind, bounded=True)
        rows = rs.Job("avro", runtime="local").source(source).on_error("skip").collect()
        assert rows == encoded.ROWS[:1] * 2
    with pytest.raises(rs.JobFailed, match="schema registry at .* does not answer"):
        rs.Job("down", runtime="local").source(source).on_error("skip").collect()


def test_keys_that_are_no_text_follow_the_policy(broker):
    name = broker.topic()
    for key in (b"a", b"\xff", None):
        broker.write(name, [b'{"n": 1}'], key=key)
    source = kafka.KafkaSource(
        broker.servers, name, schema=SCHEMA, bounded=True, key=pa.field("k", pa.string())
    )
    rows = rs.Job("keys", runtime="local").source(source).on_error("skip").collect()
    assert [row["k"] for row in rows] == ["a", None]


@pytest.mark.parametrize("name", ["json", "csv", "arrow", "avro"])
def test_every_format_goes_there_and_back(broker, name):
    topic = broker.topic()
    job = rs.Job("there", runtime="local")
    written = job.from_items(encoded.ROWS, schema=encoded.SCHEMA)
    kind = encoded.FORMATS[name]()
    written.sink(kafka.KafkaSink(broker.servers, topic, format=kind))
    job.run()
    source = kafka.KafkaSource(
        broker.servers, topic, format=kind, schema=encoded.SCHEMA, bounded=True
    )
    assert rs.Job("back", runtime="local").source(source).collect() == encoded.ROWS
