"""A job from Kafka to Kafka that kills itself at a moment of its commits: run as a script.

Arguments: servers, topic to read, topic to write, folder of checkpoints, where to die.
"""

from __future__ import annotations

import os
import signal
import sys

import pyarrow as pa

import raystream as rs
from raystream.connectors import kafka, kafka_commits

SCHEMA = pa.schema({"n": pa.int64(), "text": pa.string()})


def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """A producer that is killed at one of its steps, the second time it comes to it."""

    def __init__(self, producer, step):
        self._producer = producer
        self._step = step

    def __len__(self):
        return len(self._producer)

    def __getattr__(self, name):
        step, _, moment = self._step.partition(" ")
        real = getattr(self._producer, name)
        if name != step:
            return real

        def call(*args, **more):
            if moment == "after":
                real(*args, **more)
                if name == "produce":
                    self._producer.flush(10)
            die()

        return call


def deadly(step):
    real = kafka_commits.kafka_client.producer
    kafka_commits.kafka_client.producer = lambda *args: Deadly(real(*args), step)


def job(servers, source, target, folder, **settings):
    made = rs.Job(
        "copied",
        runtime="local",
        checkpoint=rs.Checkpointing(folder, every="100ms"),
        **settings,
    )
    rows = made.source(kafka.KafkaSource(servers, source, schema=SCHEMA, bounded=True))
    rows.sink(kafka.KafkaSink(servers, target, key="n", transactional_id=f"id-{target}"))
    return made


if __name__ == "__main__":
    servers, source, target, folder, step = sys.argv[1:]
    if step:
        deadly(step)
    job(servers, source, target, folder).run(from_snapshot="latest")
