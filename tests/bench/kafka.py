"""Kafka to Kafka: JSON, a filter, JSON, beside the bare client that copies bytes.

``python tests/bench/kafka.py 500000``, with RAYSTREAM_TEST_KAFKA set to the address of a broker.
Both read the same topic from its beginning to its end, and write to a new one; times are of the
whole, without the start of the interpreter. The best of some rounds counts, in turns.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time

import pyarrow as pa

import raystream as rs
from raystream.connectors import kafka

SCHEMA = pa.schema(
    {
        "auction": pa.int64(),
        "bidder": pa.int64(),
        "price": pa.int64(),
        "channel": pa.string(),
        "at": pa.timestamp("us", "UTC"),
    }
)
ROUNDS = 3
PARTITIONS = 2


def row(i: int) -> bytes:
    return json.dumps(
        {
            "auction": i % 1000,
            "bidder": i,
            "price": i * 7919 % 10_007,
            "channel": f"channel-{i % 10}",
            "at": f"2020-01-01T00:00:{i // 1_000_000 % 60:02}.{i % 1_000_000:06}Z",
        }
    ).encode()


def topic(servers: str) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    name = f"bench-{secrets.token_hex(4)}"
    admin = AdminClient({"bootstrap.servers": servers})
    made = admin.create_topics([NewTopic(name, PARTITIONS)])
    made[name].result(30)
    return name


def fill(servers: str, name: str, rows: int) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "queue.buffering.max.messages": 2_000_000})
    for i in range(rows):
        producer.produce(name, row(i), partition=i % PARTITIONS)
        if i % 10_000 == 0:
            producer.poll(0)
    producer.flush()


def bare(servers: str, source: str, target: str, rows: int) -> float:
    """Copy with the client alone, as its documentation does: consume a batch, produce each."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    begun = time.perf_counter()
    settings = {"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(source, number, 0) for number in range(PARTITIONS)])
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    seen = 0
    while seen < rows:
        for message in consumer.consume(10_000, 0.01):
            seen += 1
            producer.produce(target, message.value())
        producer.poll(0)
    producer.flush()
    took = time.perf_counter() - begun
    consumer.close()
    return took


def ours(servers: str, source: str, target: str, guarantee: str) -> float:
    job = rs.Job("copy", runtime="local")
    rows = job.source(kafka.KafkaSource(servers, source, schema=SCHEMA, bounded=True))
    rows = rows.filter(rs.col("price") >= 0)
    rows.sink(kafka.KafkaSink(servers, target, guarantee=guarantee))
    begun = time.perf_counter()
    job.run()
    return time.perf_counter() - begun


def measure(servers: str, rows: int) -> None:
    source = topic(servers)
    fill(servers, source, rows)
    ours(servers, source, topic(servers), "at_least_once")  # loads what is loaded once
    kinds = {
        "bare client": lambda target: bare(servers, source, target, rows),
        "at least once": lambda target: ours(servers, source, target, "at_least_once"),
        "exactly once": lambda target: ours(servers, source, target, "exactly_once"),
    }
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(ROUNDS):
        for name, run in kinds.items():
            best[name] = min(best[name], run(topic(servers)))
    for name, took in best.items():
        ratio = best["bare client"] / took
        print(f"{name:15} {rows / took:10,.0f} messages/s   {ratio:5.2f} of the bare client")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    measure(os.environ["RAYSTREAM_TEST_KAFKA"], count)
