"""Topics that are read: where reading starts and ends, and what time it is."""

from __future__ import annotations

import json
import threading

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors import kafka

SCHEMA = pa.schema({"n": pa.int64()})


def lines(numbers):
    return [json.dumps({"n": n}).encode() for n in numbers]


def read(broker, topic, **settings):
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, bounded=True, **settings)
    return [row["n"] for row in rs.Job("read", runtime="local").source(source).collect()]


def test_all_partitions_are_read_to_where_they_end(broker):
    topic = broker.topic(3)
    for partition in range(3):
        broker.write(topic, lines(range(partition * 10, partition * 10 + 5)), partition)
    assert sorted(read(broker, topic)) == [*range(5), *range(10, 15), *range(20, 25)]


def test_an_empty_topic_ends_at_once(broker):
    assert read(broker, broker.topic(2)) == []


def test_keys_headers_times_and_places_become_columns(broker):
    topic = broker.topic()
    broker.write(topic, lines([7]), key=b"k", headers=[("h", b"\xff"), ("none", None)], timestamp=5)
    source = kafka.KafkaSource(
        broker.servers,
        topic,
        schema=SCHEMA,
        bounded=True,
        key=pa.field("key", pa.string()),
        headers="headers",
        timestamp="at",
        topic="topic",
        partition="partition",
        offset="offset",
    )
    (row,) = rs.Job("read").source(source).collect()
    assert row.pop("at").timestamp() == 0.005
    assert row == {
        "n": 7,
        "key": "k",
        "headers": [{"key": "h", "value": b"\xff"}, {"key": "none", "value": None}],
        "topic": topic,
        "partition": 0,
        "offset": 0,
    }


def test_without_a_schema_json_is_a_stream_of_objects(broker):
    topic = broker.topic()
    broker.write(topic, [b'{"a": [1, {"b": null}]}', b"3"], key=b"x")
    source = kafka.KafkaSource(broker.servers, topic, bounded=True, key="k")
    rows = rs.Job("read").source(source).collect()
    assert rows == [{"a": [1, {"b": None}], "k": b"x"}, {"value": 3, "k": b"x"}]


def test_start_and_until_are_points_in_time(broker):
    topic = broker.topic()
    for n in range(5):
        broker.write(topic, lines([n]), timestamp=1_000 + n)
    assert read(broker, topic, start=1_002_000) == [2, 3, 4]
    assert read(broker, topic, start=1_002_001) == [3, 4]
    assert read(broker, topic, start=1_001_000, until=1_003_000) == [1, 2]
    assert read(broker, topic, start=9_000_000) == []


def test_a_group_starts_where_it_has_committed(broker):
    from confluent_kafka import Consumer, TopicPartition

    topic = broker.topic(2)
    for partition in range(2):
        broker.write(topic, lines(range(partition * 10, partition * 10 + 3)), partition)
    group = f"group-{topic}"
    assert sorted(read(broker, topic, start="group", group=group)) == [0, 1, 2, 10, 11, 12]
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 1, 2)], asynchronous=False)
    consumer.close()
    assert sorted(read(broker, topic, start="group", group=group)) == [0, 1, 2, 12]


def test_only_what_is_committed_is_read(broker):
    from confluent_kafka import Producer

    topic = broker.topic()
    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": topic})
    producer.init_transactions(30)
    for number, commit in enumerate([True, False, True, False]):
        producer.begin_transaction()
        producer.produce(topic, lines([number])[0])
        producer.flush(10)
        # The last messages of the log are marks of transactions, which end nothing by themselves.
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    assert read(broker, topic) == [0, 2]
    assert read(broker, topic, options={"isolation.level": "read_uncommitted"}) == [0, 1, 2, 3]


def test_a_topic_that_is_not_there_is_named(broker):
    with pytest.raises(rs.JobFailed, match='there is no topic "nowhere"'):
        read(broker, "nowhere")


def test_a_cluster_that_is_not_there_is_named(broker, monkeypatch):
    from raystream.connectors import kafka_client

    monkeypatch.setattr(kafka_client, "REQUEST_S", 0.3)
    source = kafka.KafkaSource("127.0.0.1:1", "t", schema=SCHEMA, bounded=True)
    with pytest.raises(rs.JobFailed, match=r"cannot list the topics at 127\.0\.0\.1:1"):
        rs.Job("read").source(source).collect()


def test_offsets_that_are_gone_fail_the_job_unless_that_is_accepted(broker):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    topic = broker.topic()
    broker.write(topic, lines(range(10)))
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for done in admin.delete_records([TopicPartition(topic, 0, 6)]).values():
        done.result(30)
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, bounded=True)
    (split,) = source.splits()
    reader = source.open(split, 2)
    with pytest.raises(rs.SourceError, match="retention"):  # noqa: PT012
        while reader.poll(10) is not rs.END:
            pass
    reader.close()
    assert read(broker, topic) == [6, 7, 8, 9]
    accepted = kafka.KafkaSource(
        broker.servers,
        topic,
        schema=SCHEMA,
        bounded=True,
        options={"auto.offset.reset": "earliest"},
    )
    assert polled(accepted.open(split, 2)) == [6, 7, 8, 9]


def polled(reader):
    """Read to the end; positions of each step are those of the next message."""
    rows = []
    while (got := reader.poll(3)) is not rs.END:
        if isinstance(got, pa.RecordBatch):
            rows += got.column("n").to_pylist()
            assert reader.position() == rows[-1] + 1
    reader.close()
    return rows


def test_a_reader_goes_on_from_any_position(broker):
    topic = broker.topic()
    broker.write(topic, lines(range(8)))
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, bounded=True)
    (split,) = source.splits()
    for position in (None, 0, 3, 8):
        assert polled(source.open(split, position)) == list(range(position or 0, 8))


def test_partitions_and_topics_that_come_later_are_read_from_their_beginning(broker):
    prefix = broker.topic()
    broker.write(prefix, lines([1]))
    source = kafka.KafkaSource(
        broker.servers, f"^{prefix}", schema=SCHEMA, start="latest", discover="100ms"
    )
    job = rs.Job("grows", runtime="local")
    seen = []
    done = threading.Event()

    def more(row):
        seen.append(row["n"])
        if row["n"] == 2:
            broker.grow(prefix, 2)
            broker.write(prefix, lines([3]), 1)
        if row["n"] == 3:
            broker.topic(name=f"{prefix}-other")
            broker.write(f"{prefix}-other", lines([4]))
        return row

    def later():
        # "latest" is behind what is there when the job starts: messages until it has started.
        while not done.wait(0.1) and not seen:
            broker.write(prefix, lines([2]))

    writer = threading.Thread(target=later, daemon=True)
    writer.start()
    try:
        rows = job.source(source).map(more).filter(lambda row: row["n"] > 2).collect(limit=2)
    finally:
        done.set()
        writer.join(60)
    assert [row["n"] for row in rows] == [3, 4]
    assert 1 not in seen


def test_each_partition_has_a_watermark_and_an_idleness(broker):
    topic = broker.topic(3)
    rows = [(0, 1), (0, 30), (1, 5), (1, 25)]  # partition 2 stays empty, and is idle
    for partition, second in rows:
        broker.write(topic, lines([second]), partition, timestamp=second * 1000)
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, timestamp="at")
    watermark = rs.WatermarkStrategy("at", idleness="300ms")
    counts = (
        rs.Job("late", runtime="local")
        .source(source, watermark=watermark)
        .window_all(rs.Tumbling("10s"))
        .aggregate(n=rs.count())
        .collect(limit=1)
    )
    assert counts[0]["n"] == 2, "no partition runs ahead of the other, whichever is read first"


def test_what_a_checkpoint_covers_is_told_to_the_group(broker, tmp_path):
    from confluent_kafka import Consumer, TopicPartition

    topic = broker.topic()
    broker.write(topic, lines(range(5)))
    group = f"group-{topic}"
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, group=group)
    job = rs.Job(f"lag-{topic}", runtime="local", checkpoint=rs.Checkpointing(tmp_path, "50ms"))
    job.source(source).sink(rs.MemorySink())
    with pytest.raises(rs.JobFailed):
        job.run(timeout="2s")
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group})
    (place,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
    consumer.close()
    assert place.offset == 5
