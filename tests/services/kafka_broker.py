"""A Kafka for the tests: one that is there, Apache Kafka started here, else noida-db's double.

RAYSTREAM_TEST_KAFKA is the address of a broker. RAYSTREAM_TEST_KAFKA_JARS is a folder with the jars
of Apache Kafka 4 and what they need, which Maven copies there: ``mvn dependency:copy-dependencies``
with a pom that depends on ``org.apache.kafka:kafka_2.13``; it runs with the Java on the PATH.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Child, free_port


def _silent():
    logger = logging.getLogger("raystream.tests.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


class Broker:
    """What tests do with a cluster beside the connector: plain calls of the client.

    ``child`` is one of our own, which can be told to end, and started again. A ``durable`` one
    loses nothing that it has acknowledged when it dies without a word.
    """

    def __init__(self, servers: str, child: Child | None = None, *, durable: bool = False) -> None:
        from confluent_kafka.admin import AdminClient

        self.servers = servers
        self.child = child
        self._durable = durable
        self._admin = AdminClient({"bootstrap.servers": servers}, logger=_silent())

    def topic(self, partitions: int = 1, name: str | None = None, config=()) -> str:
        """Make a topic; give its name, which no other test has."""
        from confluent_kafka.admin import NewTopic

        name = name or f"t-{secrets.token_hex(6)}"
        # Messages of long ago would be deleted at any moment.
        new = NewTopic(name, partitions, 1, config={"retention.ms": "-1", **dict(config)})
        for made in self._admin.create_topics([new]).values():
            made.result(30)
        return name

    def grow(self, topic: str, partitions: int) -> None:
        """Add partitions."""
        from confluent_kafka.admin import NewPartitions

        for made in self._admin.create_partitions([NewPartitions(topic, partitions)]).values():
            made.result(30)

    def write(self, topic: str, values, partition: int = 0, **more) -> None:
        """Write values, each with the same key, headers and so on."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.servers, "message.max.bytes": 20_000_000})
        failed = []
        for value in values:
            producer.produce(
                topic,
                value,
                partition=partition,
                on_delivery=lambda error, _: error and failed.append(error),
                **more,
            )
        producer.flush(30)
        assert not failed, failed[0]

    def read(self, topic: str, *, committed: bool = True) -> list:
        """Read all messages that are there, in the order of their partitions."""
        from confluent_kafka import Consumer, TopicPartition

        from raystream.connectors import kafka_client

        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "tests",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
            }
        )
        numbers = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, -2) for number in numbers])
        found, ended = [], set()
        until = time.monotonic() + 90
        while len(ended) < len(numbers):
            assert time.monotonic() < until, f"{topic} does not end: {len(found)} messages came"
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    found.append(message)
                else:
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    ended.add(message.partition())
        kafka_client.let_go(consumer)
        return sorted(found, key=lambda one: (one.partition(), one.offset()))

    def restart(self) -> None:
        """Let it end and come back; only what is durable survives its death."""
        self.child.process.send_signal(signal.SIGKILL if self._durable else signal.SIGTERM)
        self.child.process.wait(20)
        self.child.start()


def _answers(address: str) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # The client waits for an answer by itself.
    with contextlib.suppress(KafkaException):
        AdminClient({"bootstrap.servers": address}, logger=_silent()).list_topics(timeout=1)
        return True
    return False


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One broker for all tests of a session."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    given = os.environ.get("RAYSTREAM_TEST_KAFKA")
    if given:
        yield Broker(given)
        return
    with tempfile.TemporaryDirectory(prefix="rs-kafka-") as name:
        jars = os.environ.get("RAYSTREAM_TEST_KAFKA_JARS")
        started = _apache(Path(jars), Path(name)) if jars else _double(Path(name))
        try:
            yield started
        finally:
            started.child.kill()


def _double(folder: Path) -> Broker:
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        pytest.skip("no broker: set RAYSTREAM_TEST_KAFKA, or pip install noida-db==0.2.3")
    program = Path(found.origin).with_name("noida-db")
    port = free_port()
    command = [program, "start", "--only", "kafka", "--kafka-port", str(port)]
    command += ["--data-dir", folder / "data"]
    child = Child(command, folder, lambda: _answers(f"127.0.0.1:{port}"))
    child.start()
    return Broker(f"127.0.0.1:{port}", child)


def _apache(jars: Path, folder: Path) -> Broker:
    port, controller = free_port(), free_port()
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": folder / "data",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = ["java", "-Xmx512m", "-cp", f"{jars}/*"]
    number = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]
    format_ = ["kafka.tools.StorageTool", "format", "--standalone", "-t", number, "-c", file]
    subprocess.run([*java, *format_], check=True, capture_output=True, timeout=60)
    child = Child([*java, "kafka.Kafka", file], folder, lambda: _answers(f"127.0.0.1:{port}"))
    child.start()
    return Broker(f"127.0.0.1:{port}", child, durable=True)
