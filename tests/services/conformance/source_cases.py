"""Every source before its real system: what it is to give, who kills its server.

A case makes rows over several splits, in a place that no other test reads.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from posters import Posters
from servers_at_hand import At

import raystream as rs
from raystream.connectors import delta, http, iceberg, kafka, mqtt, nats, postgres, redis
from raystream.connectors.file_listing import filesystem_of

Ranks: TypeAlias = dict[Hashable, tuple[Hashable, int]]

COUNT, SPLITS = 240, 3
SCHEMA = pa.schema({"n": pa.int64()})


def numbered(row: Any) -> Hashable:
    """Give what tells a row from others."""
    return row["n"]


def dealt() -> Ranks:
    """Rank numbers that were dealt to splits, and go up in each."""
    return {n: (n % SPLITS, n) for n in range(COUNT)}


def in_one() -> Ranks:
    """Rank numbers that go up in one split."""
    return {n: (0, n) for n in range(COUNT)}


@dataclass(frozen=True)
class Fed:
    """A source, and the rows that it is to give.

    ``ranks`` gives of each row its split and where it is in there; None: whoever reads the splits
    one by one sees it. ``key`` gives what tells rows apart. One that ``replays`` begins at any
    position again, as often as is wanted. ``more`` makes the rest of the rows, of a source that
    waits for them behind the ``first``.
    """

    source: rs.Source
    ranks: Callable[[], Ranks] | None = dealt
    splits: int = SPLITS
    once: bool = True
    key: Callable[[Any], Hashable] = numbered
    replays: bool = True
    restart: Callable[[], None] | None = None
    more: Callable[[], None] | None = None
    first: int = COUNT // 2
    batch_rows: int = 7


def shares(start: int = 0, stop: int = COUNT) -> list[list[int]]:
    """Deal numbers to the splits: in each they go up."""
    return [list(range(start + split, stop, SPLITS)) for split in range(SPLITS)]


def lines(numbers: list[int]) -> list[bytes]:
    return [json.dumps({"n": n}).encode() for n in numbers]


def rows(numbers: list[int]) -> pa.Table:
    return pa.table({"n": pa.array(numbers, pa.int64())})


# Files and tables of a lake ----------------------------------------------------------------------


def files(at: At, format: str = "parquet", root: str | None = None) -> Fed:
    folder = root or str(at.folder / "in")
    filesystem, inside = filesystem_of(folder)
    filesystem.makedirs(inside, exist_ok=True)
    for split, numbers in enumerate(shares()):
        with filesystem.open(f"{inside}/{split}.{format}", "wb") as out:
            if format == "parquet":
                pq.write_table(rows(numbers), out, row_group_size=10)
            else:
                out.write(b"\n".join(lines(numbers)))
    return Fed(rs.FileSource(folder, format, schema=SCHEMA))


def files_on_s3(at: At) -> Fed:
    return files(at, "json", f"{at.bucket}/in")


def delta_table(at: At, root: str | None = None) -> Fed:
    place = root or str(at.folder / "table")
    for numbers in shares():
        _write(delta.DeltaSink(place), numbers)
    return Fed(delta.DeltaSource(place))


def delta_followed(at: At) -> Fed:
    place = str(at.folder / "table")
    first, second, third = shares()
    _write(delta.DeltaSink(place), first)
    source = delta.DeltaSource(place, mode="continuous", poll="1ms")

    def more() -> None:
        for numbers in (second, third):
            _write(delta.DeltaSink(place), numbers)

    return Fed(source, splits=1, more=more, first=len(first))


def iceberg_table(at: At) -> Fed:
    catalog = at.catalog(None)
    for numbers in shares():
        _write(iceberg.IcebergSink("lake.rows", catalog), numbers)
    return Fed(iceberg.IcebergSource("lake.rows", catalog))


def iceberg_followed(at: At) -> Fed:
    catalog = at.catalog(None)
    first, second, third = shares()
    _write(iceberg.IcebergSink("lake.rows", catalog), first)
    source = iceberg.IcebergSource("lake.rows", catalog, mode="continuous", poll="1ms")

    def more() -> None:
        for numbers in (second, third):
            _write(iceberg.IcebergSink("lake.rows", catalog), numbers)

    return Fed(source, splits=1, more=more, first=len(first))


def _write(sink: rs.Sink, numbers: list[int]) -> None:
    job = rs.Job("fill", runtime="local")
    job.from_items(rows(numbers), schema=SCHEMA).sink(sink)
    job.run()


# Logs --------------------------------------------------------------------------------------------


def kafka_topic(at: At, *, bounded: bool = True) -> Fed:
    topic = at.broker.topic(SPLITS)

    def write(start: int, stop: int) -> None:
        for split, numbers in enumerate(shares(start, stop)):
            at.broker.write(topic, lines(numbers), split)

    write(0, COUNT if bounded else COUNT // 2)
    source = kafka.KafkaSource(at.broker.servers, topic, schema=SCHEMA, bounded=bounded)
    restart = None if at.broker.child is None else at.broker.restart
    more = None if bounded else lambda: write(COUNT // 2, COUNT)
    return Fed(source, restart=restart, more=more)


def redis_streams(at: At, *, bounded: bool = True) -> Fed:
    names = [f"in{split}" for split in range(SPLITS)]

    def write(start: int, stop: int) -> None:
        client = at.redis.connect()
        with client.pipeline() as pipe:
            for name, numbers in zip(names, shares(start, stop), strict=True):
                for n in numbers:
                    pipe.xadd(name, {"n": n})
            pipe.execute()
        client.close()

    write(0, COUNT if bounded else COUNT // 2)
    source = redis.RedisStreamSource(rs.secret("REDIS_URL"), names, SCHEMA, bounded=bounded)
    restart = None if at.redis.child is None else at.redis.restart
    more = None if bounded else lambda: write(COUNT // 2, COUNT)
    return Fed(source, restart=restart, more=more)


def nats_subjects(at: At, *, bounded: bool = True) -> Fed:
    stream = at.nats.stream()
    subjects = [f"{stream}.{split}" for split in range(SPLITS)]

    def write(start: int, stop: int) -> None:
        for subject, numbers in zip(subjects, shares(start, stop), strict=True):
            at.nats.publish(subject, lines(numbers))

    write(0, COUNT if bounded else COUNT // 2)
    source = nats.NatsSource(
        rs.secret("NATS_URL"), stream, SCHEMA, subjects=subjects, bounded=bounded
    )
    more = None if bounded else lambda: write(COUNT // 2, COUNT)
    return Fed(source, restart=at.restart_of(at.nats.child), more=more)


def mqtt_topic(at: At, *, followed: bool = False) -> Fed:
    """A broker keeps messages for a session that it knows; who dies gets them again.

    Ours forgets sessions when it dies itself: then the device sends again what it has sent since
    the first were committed.
    """
    topic, client_id = f"t/{secrets.token_hex(6)}", secrets.token_hex(6)
    source = mqtt.MqttSource(at.mqtt.host, topic, SCHEMA, client_id=client_id, port=at.mqtt.port)
    restarting = None
    if followed and at.mqtt.child is not None:
        restarting = at.mqtt.restarting(at.patch)
    reader = source.open(source.splits()[0], None)
    for _ in range(100):  # until the broker knows the session
        assert reader.poll(1) is None
    reader.close()
    send = lambda start, stop: at.mqtt.publish(topic, lines(list(range(start, stop))))
    if not followed:
        send(0, COUNT)
        return Fed(source, in_one, splits=1, once=False, replays=False)
    send(0, COUNT // 2)

    def restart() -> None:
        restarting()
        more()

    more = lambda: send(COUNT // 2, COUNT)
    return Fed(
        source,
        in_one,
        splits=1,
        once=False,
        replays=False,
        restart=None if restarting is None else restart,
        more=more,
    )


# Databases ---------------------------------------------------------------------------------------


def postgres_table(at: At) -> Fed:
    table = _table(at, COUNT)
    source = postgres.PostgresSource(at.postgres.dsn, table, ranges=SPLITS)
    return Fed(source, None, restart=_restart(at))


def postgres_changes(at: At) -> Fed:
    """Half of the rows is in the table, half comes by its log."""
    table = _table(at, COUNT // 2)
    source = postgres.PostgresCdcSource(at.postgres.dsn, table, slot=f"slot_{table}")

    def more() -> None:
        with at.postgres.connect() as connection:
            connection.execute(
                f"INSERT INTO {table} SELECT * FROM generate_series({COUNT // 2}, {COUNT - 1})"
            )

    return Fed(source, in_one, splits=1, restart=_restart(at), more=more)


def _table(at: At, count: int) -> str:
    table = f"t{secrets.token_hex(6)}"
    with at.postgres.connect() as connection:
        connection.execute(
            f"CREATE TABLE {table} (n bigint PRIMARY KEY);"
            f"INSERT INTO {table} SELECT * FROM generate_series(0, {count - 1});"
            f"ANALYZE {table}"
        )
    return table


def _restart(at: At) -> Callable[[], None] | None:
    return None if at.postgres.folder is None else at.postgres.restart


# Others ------------------------------------------------------------------------------------------


def webhook(at: At) -> Fed:
    """A row that was not answered is posted again."""
    port = at.free_ports(SPLITS)
    posters = Posters(port, shares())
    at.afterwards(posters.stop)
    source = http.WebhookSource(port, SCHEMA, ports=SPLITS, timeout="2s")
    return Fed(source, once=False, replays=False)


def chained(at: At) -> Fed:
    """History lies in files, what is live in streams of Redis."""
    folder = at.folder / "history"
    folder.mkdir()
    for split, numbers in enumerate(shares(0, COUNT // 2)):
        (folder / f"{split}.json").write_bytes(b"\n".join(lines(numbers)))
    client = at.redis.connect()
    names = [f"live{split}" for split in range(SPLITS)]
    for name, numbers in zip(names, shares(COUNT // 2, COUNT), strict=True):
        for n in numbers:
            client.xadd(name, {"n": n})
    client.close()
    live = redis.RedisStreamSource(rs.secret("REDIS_URL"), names, SCHEMA, bounded=True)
    return Fed(rs.chain(rs.FileSource(str(folder), "json", schema=SCHEMA), live))


GENERATED = 2 * 65_536  # fewer are one split


def generated(at: At) -> Fed:
    source = rs.DataGenSource(lambda i: {"n": i}, rows=GENERATED)
    return Fed(source, None, 2, batch_rows=4_000)


def columns(at: At) -> Fed:
    schema = pa.schema({"n": pa.int64(), "text": pa.string()})
    key = lambda row: (row["n"], row["text"])
    return Fed(rs.DataGenSource(schema, rows=GENERATED), None, 2, key=key, batch_rows=4_000)


def nexmark(at: At) -> Fed:
    source = rs.NexmarkSource(64_000, kind="auction", seed=3)
    return Fed(source, None, 2, key=lambda row: row["id"], batch_rows=120)


CASES: dict[str, Callable[[At], Fed]] = {
    "files of parquet": files,
    "files of json": lambda at: files(at, "json"),
    "files on S3": files_on_s3,
    "Delta": delta_table,
    "Delta, followed": delta_followed,
    "Iceberg": iceberg_table,
    "Iceberg, followed": iceberg_followed,
    "Kafka": kafka_topic,
    "Kafka, followed": lambda at: kafka_topic(at, bounded=False),
    "Redis streams": redis_streams,
    "Redis streams, followed": lambda at: redis_streams(at, bounded=False),
    "NATS": nats_subjects,
    "NATS, followed": lambda at: nats_subjects(at, bounded=False),
    "MQTT": mqtt_topic,
    "MQTT, followed": lambda at: mqtt_topic(at, followed=True),
    "PostgreSQL": postgres_table,
    "PostgreSQL, changes": postgres_changes,
    "webhook": webhook,
    "chained": chained,
    "generated objects": generated,
    "generated columns": columns,
    "Nexmark": nexmark,
}

REPLAYED = tuple(name for name in CASES if name not in {"MQTT", "MQTT, followed", "webhook"})
"""Those that begin at any position again."""

RESTARTED = (
    "Kafka, followed",
    "Redis streams, followed",
    "NATS, followed",
    "MQTT, followed",
    "PostgreSQL",
    "PostgreSQL, changes",
)
"""Those whose server can be ours to kill."""
