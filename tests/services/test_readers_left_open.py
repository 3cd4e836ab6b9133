"""Readers of real servers over changes of size: open, acknowledging, and each row once."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pyarrow as pa
from by_hand import ByHand
from mqtt_broker import mqtt_broker  # noqa: F401  a fixture
from nats_server import nats_server, running_nats  # noqa: F401  fixtures
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures
from redis_server import redis_server, running_redis  # noqa: F401  fixtures

import raystream as rs
from raystream.clock import SystemClock
from raystream.connectors import kafka, mqtt, nats, redis
from raystream.connectors import postgres as pg
from raystream.storage.jobs import resolve

SCHEMA = pa.schema({"n": pa.int64()})
KEYS = 7
ROUNDS = 3
PATIENCE_S = 40.0


class Counting(rs.KeyedProcessFunction):
    def open(self, ctx):
        self._seen = ctx.state(rs.ValueState("seen", type=pa.int64()))

    def process(self, row, ctx):
        seen = (self._seen.value() or 0) + 1
        self._seen.update(seen)
        yield (row["n"], seen)


class Fed:
    """Writes rows all the time, in a thread of its own, numbered from 0."""

    def __init__(self, write):
        self._write, self._count, self._over = write, 0, threading.Event()
        self._threads = ThreadPoolExecutor(1)
        self._running = self._threads.submit(self._run)

    def _run(self):
        while not self._over.wait(0.01):
            self._write(range(self._count, self._count + 9))
            self._count += 9

    def stop(self):
        """Write no more; give how many there are."""
        self._over.set()
        self._threads.shutdown()
        self._running.result()
        return self._count


class Life:
    """A job that counts rows by key, whose sizes change while rows come."""

    def __init__(self, folder, patch, *sources, **settings):
        self._folder, self._sources, self._settings = folder, sources, settings
        self.opened, self._lives, self._requests = [], itertools.count(), itertools.count()
        self.rows = []
        for kind in {type(source) for source in sources}:
            patch.setattr(kind, "open", self._noting(kind.open))
        self.begin()

    def _noting(self, opens):
        def open_(source, split, position):
            self.opened.append((split.id, position))
            return opens(source, split, position)

        return open_

    def begin(self, savepoint=""):
        """Begin to live, behind a savepoint if there is one."""
        kept = rs.Checkpointing(str(self._folder), every="50ms")
        made = rs.Job(f"life-{next(self._lives)}", parallelism=2, checkpoint=kept, **self._job())
        streams = [
            made.source(source, name=f"read{i}", watermark=self._settings.get("watermark"))
            for i, source in enumerate(self._sources)
        ]
        streams = [one.to_rows() if one.changelog else one for one in streams]
        read = streams[0].union(*streams[1:]) if streams[1:] else streams[0]
        self.sink, self._until_s = rs.MemorySink(), time.monotonic() + PATIENCE_S
        keyed = read.key_by(lambda row: row["n"] % KEYS)
        keyed.process(Counting()).named("count").uid("count").sink(self.sink)
        folder, looking = self._folder / made.name, threading.Event()

        def pace(did):
            if not did:
                looking.wait(0.001)
            return time.monotonic() < self._until_s

        self.job = ByHand(made, folder, SystemClock(), pace, savepoint)

    def _job(self):
        return {"config": self._settings["config"]} if "config" in self._settings else {}

    @property
    def came(self):
        return len(self.rows) + len(self.sink)

    @property
    def numbers(self):
        return {n for n, _ in [*self.rows, *self.sink.rows]}

    def more(self, count=40):
        wanted = self.came + count
        self.job.until(lambda: self.came >= wanted)

    def rescale(self, **scale):
        self.job.rescale(scale, f"{next(self._requests)}")

    def moves(self, rounds=ROUNDS):
        """Change the size of what counts, again and again; give what was opened for it."""
        before = len(self.opened)
        for number in range(rounds):
            self.rescale(count=(3, 1, 2)[number % 3])
            self.more()
        return self.opened[before:]

    def again(self):
        """Stop behind a savepoint, and begin anew from it."""
        savepoint = self.job.stop(str(self._folder / "savepoint"))
        savepoint = resolve(savepoint, None, "").url
        self.rows += self.sink.rows
        self.job.local.close()
        self.begin(savepoint)

    def exact(self, numbers):
        """See that each row has come once, and was counted once."""
        self.job.until(lambda: self.came >= len(numbers))
        rows = [*self.rows, *self.sink.rows]
        assert sorted(n for n, _ in rows) == sorted(numbers)
        keys = [n % KEYS for n, _ in rows]
        wanted = sorted((k, i + 1) for k in set(keys) for i in range(keys.count(k)))
        assert sorted((n % KEYS, seen) for n, seen in rows) == wanted


@contextlib.contextmanager
def living(folder, patch, write, *sources, **settings):
    life, fed = Life(folder, patch, *sources, **settings), Fed(write)
    life.fed = fed
    try:
        yield life
    finally:
        life.job.local.close()
        fed.stop()


def through(life, splits, acknowledged=lambda: None, seen=lambda: None):
    """Let a life have its moves, a move of the source, a savepoint; each row comes once.

    What the server has ``seen`` of the readers, one a split, stays over moves of what counts.
    """
    life.job.until(lambda: len(life.opened) == splits)
    life.more()
    before = seen()
    assert before is None or len(before) == splits
    assert life.moves() == []
    assert seen() == before
    acknowledged()
    life.rescale(read0=1)
    life.job.until(lambda: len(life.opened) == 2 * splits)
    assert {split for split, _ in life.opened[:splits]} == {s for s, _ in life.opened[splits:]}
    assert life.moves(1) == []
    life.again()
    life.more()
    life.exact(range(life.fed.stop()))
    acknowledged()


def lines(numbers):
    return [json.dumps({"n": n}).encode() for n in numbers]


def test_topics_of_kafka(broker, tmp_path, monkeypatch):
    from confluent_kafka import Consumer, TopicPartition

    topic = broker.topic(3)
    group = f"group-{topic}"
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, group=group)
    places = [TopicPartition(topic, number) for number in range(3)]
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group})

    def committed():
        return sum(max(0, one.offset) for one in consumer.committed(places, timeout=10))

    def acknowledged():
        target = life.came
        life.job.until(lambda: committed() >= target)

    def write(numbers):
        for partition in range(3):
            broker.write(topic, lines(numbers[partition::3]), partition)

    with contextlib.closing(consumer), living(tmp_path, monkeypatch, write, source) as life:
        through(life, 3, acknowledged)
        assert committed() == life.came


def test_partitions_that_come_while_sizes_change(broker, tmp_path, monkeypatch):
    topic, partitions = broker.topic(1), [0]
    source = kafka.KafkaSource(broker.servers, topic, schema=SCHEMA, discover="20ms")

    def write(numbers):
        there = len(partitions)
        for partition in range(there):
            broker.write(topic, lines(numbers[partition::there]), partition)

    with living(tmp_path, monkeypatch, write, source) as life:
        for count in (2, 3, 4):
            life.more()
            broker.grow(topic, count)
            life.rescale(count=count % 3 + 1)
            partitions.append(count)
            life.job.until(lambda count=count: len(life.opened) >= count)
        # One that is found behind the barrier lets its subtask, and all of its chain, begin anew.
        life.job.until(lambda: len({split for split, _ in life.opened}) == 4)
        assert life.moves() == []
        life.exact(range(life.fed.stop()))


def test_changes_of_a_table(postgres, tmp_path, monkeypatch):
    source_of = pg.PostgresCdcSource
    with postgres.connect() as connection, postgres.connect() as looking:
        connection.execute("CREATE TABLE things (n int PRIMARY KEY)")
        looks = lambda what: looking.execute(f"SELECT {what} FROM pg_replication_slots").fetchone()

        def write(numbers):
            for n in numbers:
                connection.execute("INSERT INTO things VALUES (%s)", [n])

        def acknowledged():
            (written,) = looking.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
            life.job.until(lambda: looks("confirmed_flush_lsn - '0/0'")[0] >= written)

        def followers():
            (pid,) = looks("active_pid")
            return {pid} - {None}

        with living(tmp_path, monkeypatch, write, source_of(postgres.dsn, "things")) as life:
            through(life, 1, acknowledged, followers)


def test_streams_of_redis(redis_server, tmp_path, monkeypatch):
    client = redis_server.connect()
    source = redis.RedisStreamSource(rs.secret("REDIS_URL"), ["a", "b"], SCHEMA)

    def write(numbers):
        for n in numbers:
            client.xadd("ab"[n % 2], {"n": n})

    def readers():
        return {one["id"] for one in client.client_list() if one["cmd"] == "xread"}

    with living(tmp_path, monkeypatch, write, source) as life:
        through(life, 2, seen=readers)


def test_streams_of_nats(nats_server, tmp_path, monkeypatch):
    stream = nats_server.stream("a", "b")
    subjects = [f"{stream}.a", f"{stream}.b"]
    source = nats.NatsSource(rs.secret("NATS_URL"), stream, SCHEMA, subjects=subjects)

    def write(numbers):
        for subject, some in zip(subjects, (numbers[::2], numbers[1::2]), strict=True):
            nats_server.publish(subject, lines(some))

    def consumers():
        found = nats_server.run(lambda js: js.consumers_info(stream))
        return {one.name for one in found}

    with living(tmp_path, monkeypatch, write, source) as life:
        through(life, 2, seen=consumers)


def test_topics_of_mqtt(mqtt_broker, tmp_path, monkeypatch):
    topic, session = f"t/{secrets.token_hex(6)}", secrets.token_hex(6)
    source = mqtt.MqttSource(
        mqtt_broker.host, topic, SCHEMA, client_id=session, port=mqtt_broker.port
    )
    # Nobody keeps messages for a session before there is one.
    source.open(source.splits()[0], None).close()

    def write(numbers):
        mqtt_broker.publish(topic, lines(numbers))

    with living(tmp_path, monkeypatch, write, source) as life:
        life.job.until(lambda: life.opened)
        assert life.moves(6) == []
        life.more(400)  # a broker sends only so many that are not acknowledged
        assert len(life.numbers) == life.came
        # What was acknowledged last may come again where the connection is another.
        life.rescale(read0=1)
        life.more()
        assert len(life.opened) == 2
        life.again()
        life.more()
        count = life.fed.stop()
        life.job.until(lambda: len(life.numbers) == count)


def test_history_and_a_live_stream(redis_server, tmp_path, monkeypatch):
    client = redis_server.connect()
    numbers, files = range(20_000), tmp_path / "history"
    files.mkdir()
    for part in range(6):
        some = b"\n".join(lines(numbers[part::6]))
        (files / f"{part}.json").write_bytes(some)
    live = redis.RedisStreamSource(rs.secret("REDIS_URL"), ["a", "b"], SCHEMA)
    history = rs.FileSource(str(files), "json", schema=SCHEMA)
    first = len(numbers)

    def write(numbers):
        for n in numbers:
            client.xadd("ab"[n % 2], {"n": first + n})

    limits = {"batch_rows_max": 16}
    with living(tmp_path, monkeypatch, write, rs.chain(history, live), config=limits) as life:
        life.more(100)
        assert life.moves() == []
        assert life.came < first, "history is still read"
        life.job.until(lambda: life.came > first)
        opened = len(life.opened)
        assert life.moves() == []
        assert opened == 2
        life.again()
        life.more()
        life.exact(range(first + life.fed.stop()))


EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
TIMED = pa.schema({"n": pa.int64(), "t": pa.timestamp("us", "UTC")})


def test_sources_that_wait_for_each_other(redis_server, tmp_path, monkeypatch):
    client = redis_server.connect()
    url = rs.secret("REDIS_URL")
    sources = [redis.RedisStreamSource(url, name, TIMED) for name in ("ahead", "behind")]
    for n in range(0, 400, 2):
        client.xadd("ahead", {"n": n, "t": f"{EPOCH + timedelta(seconds=n):%FT%TZ}"})
    together = rs.Alignment("both", max_drift="20s")
    settings = {
        "watermark": rs.WatermarkStrategy("t", alignment=together),
        "config": {"batch_rows_max": 8},
    }
    with living(tmp_path, monkeypatch, lambda _: None, *sources, **settings) as life:
        for number in range(8):
            for n in range(1 + 50 * number, 50 * (number + 1), 2):
                client.xadd("behind", {"n": n, "t": f"{EPOCH + timedelta(seconds=n):%FT%TZ}"})
            life.rescale(count=1 + number % 3)
            life.job.until(lambda number=number: life.came >= 50 * number + 25)
            seen = [n for n, _ in life.sink.rows]
            odd, even = max((n for n in seen if n % 2), default=0), max(seen)
            # Up to two polls of eight rows were under way, and a word of time may be old.
            assert even <= odd + 20 + 2 * 2 * 8 + 2
        life.exact(range(400))
        assert len(life.opened) == 2
