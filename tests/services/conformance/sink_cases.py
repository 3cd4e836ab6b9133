"""Every sink before its real system: how it is made, what became visible, who kills the server.

A case is made anew for each test, in a place that no other test writes to.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds
from lake_rows import ROW
from servers_at_hand import At

import raystream as rs
from raystream.connectors import (
    delta,
    delta_files,
    elasticsearch,
    http,
    iceberg,
    kafka,
    nats,
    postgres,
    redis,
)
from raystream.connectors.delta_table import added_by, options
from raystream.connectors.file_places import _Folder


@dataclass(frozen=True)
class Kept:
    """A sink that writes to a new place. ``numbers`` gives the ``n`` of each row that is visible.

    ``again`` makes the sink as another process would; ``steps`` are functions of which a commit is
    made: an object that has one, and its name. The last is the one that makes rows visible.
    """

    again: Callable[[], rs.Sink]
    numbers: Callable[[], list[int]]
    once: bool = True
    restart: Callable[[], None] | None = None
    steps: tuple[tuple[Any, str], ...] = ()


# Files -------------------------------------------------------------------------------------------


def files(at: At, format: str = "parquet", url: str | None = None) -> Kept:
    place = url or str(at.folder / "out")

    def numbers() -> list[int]:
        source = rs.FileSource(place, format=format, schema=ROW)
        return [row["n"] for row in rs.Job("back").source(source).collect()]

    if url:
        from s3fs import S3FileSystem

        step: tuple[Any, str] = (S3FileSystem, "call_s3")
    else:
        step = (_Folder, "_rename")
    # So few rows that a commit has several files.
    return Kept(lambda: rs.FileSink(place, format, roll_rows=2), numbers, steps=(step,))


def files_of_parts(at: At) -> Kept:
    """Rows go to a folder a kind, whose name has them."""
    place = str(at.folder / "out")

    def numbers() -> list[int]:
        return ds.dataset(place, partitioning="hive").to_table()["n"].to_pylist()

    sink = lambda: rs.FileSink(place, "parquet", partition_by="kind")
    return Kept(sink, numbers, steps=((_Folder, "_rename"),))


def files_on_s3(at: At) -> Kept:
    return files(at, "json", f"{at.bucket}/out")


# Tables of a lake --------------------------------------------------------------------------------


def delta_table(at: At, url: str | None = None, **settings: Any) -> Kept:
    place = url or str(at.folder / "table")

    def numbers() -> list[int]:
        # Who follows the table reads each version; the whole would show a file once that two add.
        versions = range(DeltaTable(place, storage_options=told).version() + 1)
        added = [file.url for one in versions for file in added_by(place, one) or ()]
        assert len(added) == len(set(added)), "two versions add the same"
        rows = rs.Job("back").source(delta.DeltaSource(place)).collect()
        return [row["n"] for row in rows]

    from deltalake import DeltaTable

    told = options() if url else None

    steps = (
        (DeltaTable, "create"),
        (delta_files.TableFolder, "missing"),
        (DeltaTable, "create_write_transaction"),
    )
    return Kept(lambda: delta.DeltaSink(place, **settings), numbers, steps=steps)


def delta_of_parts(at: At) -> Kept:
    return delta_table(at, partition_by="kind")


def delta_on_s3(at: At) -> Kept:
    return delta_table(at, f"{at.bucket}/table")


def iceberg_table(at: At, warehouse: str | None = None, **settings: Any) -> Kept:
    catalog = at.catalog(warehouse)

    def numbers() -> list[int]:
        rows = rs.Job("back").source(iceberg.IcebergSource("lake.rows", catalog)).collect()
        return [row["n"] for row in rows]

    from pyiceberg.io.pyarrow import PyArrowFile
    from sqlalchemy.orm import Session

    # Manifests, the list of them and the metadata are files, of which the catalog names the last.
    steps = ((PyArrowFile, "create"), (Session, "commit"))
    sink = lambda: iceberg.IcebergSink("lake.rows", catalog, **settings)
    return Kept(sink, numbers, steps=steps)


def iceberg_of_parts(at: At) -> Kept:
    return iceberg_table(at, partition_by="kind")


def iceberg_on_s3(at: At) -> Kept:
    return iceberg_table(at, f"{at.bucket}/warehouse")


# Logs --------------------------------------------------------------------------------------------


def kafka_topic(at: At, guarantee: str = "exactly_once") -> Kept:
    from raystream.connectors import kafka_commits

    topic = at.broker.topic(2)
    # A lane of its own name is found again by another process.
    lane = {"transactional_id": f"id-{topic}"} if guarantee == "exactly_once" else {}

    def again() -> rs.Sink:
        return kafka.KafkaSink(at.broker.servers, topic, guarantee=guarantee, **lane)

    def numbers() -> list[int]:
        return [json.loads(message.value())["n"] for message in at.broker.read(topic)]

    restart = None if at.broker.child is None else at.broker.restart
    steps = ((kafka_commits, "send"), (kafka_commits._Lane, "produce"))
    return Kept(again, numbers, guarantee == "exactly_once", restart, steps)


def kafka_at_least_once(at: At) -> Kept:
    return kafka_topic(at, "at_least_once")


def redis_stream(at: At) -> Kept:
    return _redis(
        at, lambda client: [fields for _, fields in client.xrange("log")], "log", "stream"
    )


def redis_hashes(at: At, guarantee: str = "at_least_once") -> Kept:
    def rows(client: Any) -> list[dict[str, str]]:
        return [client.hgetall(key) for key in client.keys("row:*")]

    return _redis(at, rows, "row:{n}", "hash", guarantee=guarantee)


def redis_hashes_once(at: At) -> Kept:
    return redis_hashes(at, "exactly_once")


def redis_strings(at: At) -> Kept:
    def rows(client: Any) -> list[dict[str, str]]:
        return [json.loads(client.get(key)) for key in client.keys("row:*")]

    return _redis(at, rows, "row:{n}", "string")


def redis_sets(at: At) -> Kept:
    def rows(client: Any) -> list[dict[str, float]]:
        names = client.keys("of:*")
        return [
            {"n": score} for name in names for _, score in client.zrange(name, 0, -1, False, True)
        ]

    return _redis(at, rows, "of:{kind}", "sorted_set", member="m{n}", score="n")


def _redis(at: At, rows: Callable[[Any], list[dict]], *args: Any, **settings: Any) -> Kept:
    from raystream.connectors import redis_sink

    def numbers() -> list[int]:
        with contextlib.closing(at.redis.connect()) as client:
            return [int(row["n"]) for row in rows(client)]

    return Kept(
        lambda: redis.RedisSink(rs.secret("REDIS_URL"), *args, **settings),
        numbers,
        restart=None if at.redis.child is None else at.redis.restart,
        steps=((redis_sink, "sent"),),
    )


def nats_stream(at: At) -> Kept:
    stream = at.nats.stream()

    def numbers() -> list[int]:
        return [json.loads(data)["n"] for _, data in at.nats.read(stream)]

    return Kept(
        lambda: nats.NatsSink(rs.secret("NATS_URL"), f"{stream}.of.{{kind}}"),
        numbers,
        restart=at.restart_of(at.nats.child),
        steps=((nats.NatsSink, "_publish"),),
    )


# Databases ---------------------------------------------------------------------------------------


def postgres_upserts(at: At) -> Kept:
    from raystream.connectors import postgres_sink

    return _postgres(at, "n bigint PRIMARY KEY", (postgres_sink, "apply"), key="n")


def postgres_appends(at: At) -> Kept:
    from raystream.connectors import postgres_sink

    return _postgres(at, "n bigint", (postgres_sink, "_commit_prepared"), mode="append")


def _postgres(at: At, column: str, step: tuple[Any, str], **settings: Any) -> Kept:
    table = f"t{secrets.token_hex(6)}"
    with at.postgres.connect() as connection:
        connection.execute(f"CREATE TABLE {table} ({column}, kind text)")

    def numbers() -> list[int]:
        with at.postgres.connect() as connection:
            return [n for (n,) in connection.execute(f"SELECT n FROM {table}").fetchall()]

    return Kept(
        lambda: postgres.PostgresSink(at.postgres.dsn, table, **settings),
        numbers,
        restart=None if at.postgres.folder is None else at.postgres.restart,
        steps=(step,),
    )


def search_index(at: At, guarantee: str = "at_least_once") -> Kept:
    from raystream.connectors.elasticsearch_bulk import Bulk

    index = f"i{secrets.token_hex(6)}"

    def again() -> rs.Sink:
        url = rs.secret("ES_URL")
        return elasticsearch.ElasticsearchSink(url, index, "{n}", guarantee=guarantee)

    # The double keeps what it has acknowledged when it is told to end, and only then.
    return Kept(
        again,
        lambda: [row["n"] for row in at.search.table(index).values()],
        restart=at.restart_of(at.search.child, signal.SIGTERM),
        steps=((Bulk, "send"),),
    )


def search_index_once(at: At) -> Kept:
    return search_index(at, "exactly_once")


# Others ------------------------------------------------------------------------------------------


def http_server(at: At) -> Kept:
    """Rows that come again after a failure come in requests of other names."""
    receiver = at.receiver
    numbers = lambda: list(receiver.numbers)
    return Kept(lambda: http.HttpSink(receiver.url, batch_rows=4), numbers, once=False)


def memory(at: At) -> Kept:
    sink = rs.MemorySink()
    numbers = lambda: [row["n"] for row in sink.rows]
    return Kept(lambda: sink, numbers, once=False)


def callback(at: At) -> Kept:
    found: list[int] = []
    sink = rs.CallbackSink(lambda row: found.append(row["n"]))
    return Kept(lambda: sink, lambda: found, once=False)


def printed(at: At) -> Kept:
    at.printed()  # from now on it is taken down
    shown: list[int] = []

    def numbers() -> list[int]:
        lines = at.printed().splitlines()
        shown.extend(int(line.split("'n': ")[1].split(",")[0]) for line in lines)
        return shown

    return Kept(lambda: rs.PrintSink("row"), numbers, once=False)


COMMITTING: dict[str, Callable[[At], Kept]] = {
    "files of parquet": files,
    "files of json": lambda at: files(at, "json"),
    "files of csv": lambda at: files(at, "csv"),
    "files of arrow": lambda at: files(at, "arrow"),
    "files by partition": files_of_parts,
    "files on S3": files_on_s3,
    "Delta": delta_table,
    "Delta by partition": delta_of_parts,
    "Delta on S3": delta_on_s3,
    "Iceberg": iceberg_table,
    "Iceberg by partition": iceberg_of_parts,
    "Iceberg on S3": iceberg_on_s3,
    "Kafka": kafka_topic,
    "Redis stream": redis_stream,
    "Redis hashes, exactly once": redis_hashes_once,
    "NATS": nats_stream,
    "PostgreSQL, upserts": postgres_upserts,
    "PostgreSQL, appends": postgres_appends,
    "Elasticsearch, exactly once": search_index_once,
}
"""Those that make rows visible by a commit."""

WRITING: dict[str, Callable[[At], Kept]] = {
    "Kafka, at least once": kafka_at_least_once,
    "Redis hashes": redis_hashes,
    "Redis strings": redis_strings,
    "Redis sorted sets": redis_sets,
    "Elasticsearch": search_index,
    "HTTP": http_server,
}
"""Those that write rows as they come."""

TO_DRIVER: dict[str, Callable[[At], Kept]] = {
    "memory": memory,
    "callback": callback,
    "print": printed,
}
"""Those that bring rows to the process of the job."""

RESTARTED = (
    "Kafka",
    "Kafka, at least once",
    "Redis stream",
    "Redis hashes",
    "Redis hashes, exactly once",
    "NATS",
    "PostgreSQL, upserts",
    "PostgreSQL, appends",
    "Elasticsearch",
    "Elasticsearch, exactly once",
)
"""Those whose server can be ours to kill."""
