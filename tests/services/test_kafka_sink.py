"""Topics that are written: once, whoever is killed when; what a message is made of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors import kafka
from raystream.connectors.kafka_commits import Commits, Prepared

SCRIPT = Path(__file__).with_name("kafka_job.py")
ROOT = Path(__file__).parents[2]


def items(rows, schema=None, **more):
    job = rs.Job("written", runtime="local")
    return job, job.from_items(rows, schema=schema, **more)


def values(messages):
    return [json.loads(message.value()) for message in messages]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_each_row_is_a_message(broker, guarantee):
    topic = broker.topic()
    rows = [{"k": "a", "n": 1, "x": None}, {"k": None, "n": 2, "x": 'q"\n'}]
    schema = pa.schema({"k": pa.string(), "n": pa.int64(), "x": pa.string()})
    job, stream = items(rows, schema, timestamps=[5_000_000, 6_000_999])
    stream.sink(kafka.KafkaSink(broker.servers, topic, key="k", guarantee=guarantee))
    assert guarantee.replace("_", " ") in job.explain()
    job.run()
    messages = broker.read(topic)
    assert values(messages) == rows
    assert [message.key() for message in messages] == [b"a", None]
    assert [message.timestamp()[1] for message in messages] == [5_000, 6_000]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_headers_times_and_partitions_are_columns_outside_of_the_value(broker, guarantee):
    topic = broker.topic(3)
    headers = [{"key": "h", "value": b"1"}]
    rows = [
        {"n": 1, "h": headers, "at": 7_000_000, "p": 2, "k": 5},
        {"n": 2, "h": None, "at": None, "p": 1, "k": None},
    ]
    schema = pa.schema(
        {
            "n": pa.int64(),
            "h": pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()})),
            "at": pa.timestamp("us", "UTC"),
            "p": pa.int64(),
            "k": pa.int64(),
        }
    )
    job, stream = items(rows, schema)
    stream.sink(
        kafka.KafkaSink(
            broker.servers,
            topic,
            key="k",
            key_in_value=False,
            headers="h",
            timestamp="at",
            partition="p",
            guarantee=guarantee,
        )
    )
    job.run()
    second, first = broker.read(topic)
    assert (first.partition(), second.partition()) == (2, 1)
    assert (first.key(), second.key()) == (b"5", None)
    assert first.headers() == [("h", b"1")]
    assert first.timestamp()[1] == 7_000
    assert values([first, second]) == [{"n": 1}, {"n": 2}]


def test_a_topic_that_is_not_there_is_named(broker):
    job, stream = items([{"n": 1}])
    stream.sink(kafka.KafkaSink(broker.servers, "nowhere"))
    with pytest.raises(rs.JobFailed, match='there is no topic "nowhere"'):
        job.run()


def test_a_row_that_is_too_large_follows_the_policy(broker):
    topic = broker.topic()
    job, stream = items([{"n": "a"}, {"n": "b" * 2_000_000}, {"n": "c"}])
    sink = stream.sink(kafka.KafkaSink(broker.servers, topic)).on_error("dead_letter")
    letters = rs.MemorySink()
    sink.dead_letters.sink(letters)
    job.run()
    assert values(broker.read(topic)) == [{"n": "a"}, {"n": "c"}]
    assert "larger than 1000000" in letters.rows[0]["error"]


def writer(broker, topic, tmp_path, lane="lane"):
    sink = kafka.KafkaSink(
        broker.servers, topic, transactional_id=f"{lane}-{topic}", staging=str(tmp_path)
    )
    return sink, sink.open(rs.OpenContext())


def batch(numbers):
    return rs.Batch(pa.RecordBatch.from_pydict({"n": list(numbers)}))


def test_nothing_is_seen_before_the_commit_and_a_repeated_one_changes_nothing(broker, tmp_path):
    topic = broker.topic()
    sink, one = writer(broker, topic, tmp_path)
    one.write(batch([1, 2]))
    first = one.prepare_commit(1)
    one.write(batch([3]))
    second = one.prepare_commit(2)
    assert broker.read(topic, committed=False) == []
    sink.commit(1, first)
    assert values(broker.read(topic)) == [{"n": 1}, {"n": 2}]
    sink.commit(1, first)
    other, _ = writer(broker, topic, tmp_path)  # another process that knows nothing of the first
    other.commit(1, first)
    other.commit(2, second)
    sink.commit(2, second)
    sink.commit(1, first)
    assert values(broker.read(topic, committed=False)) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_rows_that_wait_lie_in_files_which_go_with_the_commit(broker, tmp_path):
    topic = broker.topic()
    sink, one = writer(broker, topic, tmp_path)
    texts = [os.urandom(3000).hex() for _ in range(500)]
    one.write(rs.Batch(pa.RecordBatch.from_pydict({"n": texts})))
    prepared = one.prepare_commit(1)
    assert len(list(tmp_path.iterdir())) == 1
    sink.commit(1, prepared)
    assert [row["n"] for row in values(broker.read(topic))] == texts
    assert list(tmp_path.iterdir()) == []
    sink.commit(1, prepared)
    one.write(rs.Batch(pa.RecordBatch.from_pydict({"n": texts})))
    thrown_away = one.prepare_commit(2)
    sink.abort(thrown_away)
    sink.abort(thrown_away)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(rs.SinkError, match="are gone"):
        sink.commit(2, thrown_away)
    assert len(broker.read(topic)) == 500


def test_a_zombie_that_is_at_its_commit_is_fenced(broker, tmp_path):
    from confluent_kafka import KafkaException, Producer

    topic = broker.topic()
    sink, one = writer(broker, topic, tmp_path)
    one.write(batch([1]))
    prepared = one.prepare_commit(1)
    zombie = Producer({"bootstrap.servers": broker.servers, "transactional.id": prepared[0].lane})
    zombie.init_transactions(30)
    zombie.begin_transaction()
    zombie.produce(topic, b'{"n": "of a zombie"}')
    zombie.flush(10)
    sink.commit(1, prepared)
    with pytest.raises(KafkaException):
        zombie.commit_transaction(10)
    assert values(broker.read(topic)) == [{"n": 1}]


def test_two_that_commit_in_turns_go_on_and_write_once(broker, tmp_path):
    topic = broker.topic()
    sink, one = writer(broker, topic, tmp_path)
    other, _ = writer(broker, topic, tmp_path)
    for number in range(4):
        one.write(batch([number]))
        prepared = one.prepare_commit(number)
        for each in (sink, other) if number % 2 else (other, sink):
            each.commit(number, prepared)
    assert values(broker.read(topic)) == [{"n": n} for n in range(4)]


def test_who_has_died_in_a_transaction_is_cleaned_up_after(broker, tmp_path):
    topic = broker.topic()
    sink, one = writer(broker, topic, tmp_path)
    one.write(batch([1]))
    prepared = one.prepare_commit(1)
    code = (
        "import os, sys, pickle; from confluent_kafka import Producer;"
        "p = Producer({'bootstrap.servers': sys.argv[1], 'transactional.id': sys.argv[3]});"
        "p.init_transactions(30); p.begin_transaction();"
        "p.produce(sys.argv[2], b'half'); p.flush(10); os._exit(9)"
    )
    command = [sys.executable, "-c", code, broker.servers, topic, prepared[0].lane]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9
    sink.commit(1, prepared)
    assert values(broker.read(topic)) == [{"n": 1}]


def test_what_is_too_old_to_tell_is_refused(broker, tmp_path):
    topic = broker.topic()
    commits = Commits(broker.servers, topic, {})
    old = Prepared(f"lane-{topic}", "run", 0, 0, (b"",))
    with pytest.raises(rs.SinkError, match="nobody can tell"):
        commits.commit([old])


MOMENTS = [
    "begin_transaction",
    "produce after",
    "send_offsets_to_transaction",
    "send_offsets_to_transaction after",
    "commit_transaction",
    "commit_transaction after",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_job_that_is_killed_in_its_commit_writes_every_row_once(broker, tmp_path, moment):
    source, target = broker.topic(2), broker.topic(2)
    rows = [json.dumps({"n": n, "text": "x" * (n % 50)}).encode() for n in range(2_000)]
    broker.write(source, rows[:1000], 0)
    broker.write(source, rows[1000:], 1)

    def run(step):
        command = [sys.executable, str(SCRIPT), broker.servers, source, target, str(tmp_path), step]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, check=False, timeout=100, capture_output=True, text=True, env=environment
        )

    killed = run(moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = run("")
    assert finished.returncode == 0, finished.stderr
    assert Counter(row["n"] for row in values(broker.read(target))) == Counter(range(2_000))
