"""Servers of other systems for the tests: one that the environment names, or a child of our own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_S = 30.0


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.services)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory) -> Iterator[str]:
    """Give the address of a broker: RAYSTREAM_TEST_KAFKA, or one that is started here."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    given = os.environ.get("RAYSTREAM_TEST_KAFKA")
    if given:
        yield given
        return
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        pytest.skip("no broker: set RAYSTREAM_TEST_KAFKA, or pip install noida-db==0.2.3")
    with _broker(Path(found.origin).with_name("noida-db"), tmp_path_factory) as address:
        yield address


@contextlib.contextmanager
def _broker(program: Path, folders) -> Iterator[str]:
    folder = folders.mktemp("broker")
    port = _free_port()
    command = [program, "start", "--only", "kafka", "--kafka-port", str(port)]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")], stdout=log, stderr=log
        )
    try:
        address = f"127.0.0.1:{port}"
        _await(address, child, folder / "log")
        yield address
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(address: str, child: subprocess.Popen, log: Path) -> None:
    from confluent_kafka.admin import AdminClient

    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if child.poll() is not None:
            break
        # The client waits for an answer by itself.
        with contextlib.suppress(Exception):
            AdminClient({"bootstrap.servers": address}, logger=_silent()).list_topics(timeout=1)
            return
    pytest.fail(f"the broker did not start: {log.read_text(errors='replace')[-500:]}")


def _silent():
    import logging

    logger = logging.getLogger("raystream.tests.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


class Broker:
    """What tests do with a cluster beside the connector: plain calls of the client."""

    def __init__(self, servers: str) -> None:
        from confluent_kafka.admin import AdminClient

        self.servers = servers
        self._admin = AdminClient({"bootstrap.servers": servers})

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
        while len(ended) < len(numbers):
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    found.append(message)
                else:
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    ended.add(message.partition())
        consumer.close()
        return sorted(found, key=lambda one: (one.partition(), one.offset()))


@pytest.fixture(scope="session")
def broker(kafka_servers) -> Broker:
    return Broker(kafka_servers)
