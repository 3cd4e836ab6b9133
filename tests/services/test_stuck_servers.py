"""Servers that are there and answer nobody: whoever waits for one says so, and loses nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest
from children import stuck
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import postgres as pg
from raystream.connectors import postgres_server
from raystream.contracts.source import END, Later
from raystream.errors import SubtaskLost

SCHEMA = pa.schema({"n": pa.int64()})


def batch(*numbers):
    return rs.Batch(pa.RecordBatch.from_pydict({"n": numbers}, SCHEMA))


@pytest.fixture
def within():
    """Tell whether less than so many seconds have gone by."""
    start_s = time.monotonic()
    return lambda seconds: time.monotonic() - start_s < seconds


class Postgres:
    """A table, and a server that can be stopped."""

    def __init__(self, server):
        self.server = server
        self.dsn = server.dsn
        self.run("DROP TABLE IF EXISTS stuck; CREATE TABLE stuck (n bigint PRIMARY KEY)")

    def run(self, sql):
        with self.server.connect() as connection:
            return connection.execute(sql)

    def rows(self):
        with self.server.connect() as connection:
            return [n for (n,) in connection.execute("SELECT n FROM stuck ORDER BY n")]

    def stuck(self):
        """Stop the server, and all that it has started."""
        first = int((self.server.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return stuck(first, *map(int, children))


@pytest.fixture
def table(postgres, monkeypatch):
    if postgres.folder is None:
        pytest.skip("the server is not ours to be stopped")
    monkeypatch.setattr(postgres_server, "SILENT_S", 0.5)
    monkeypatch.setattr(postgres_server, "_CONNECT_TIMEOUT_S", 2)
    return Postgres(postgres)


def read(reader, counts):
    """Read to the end; note how many rows came."""
    while (polled := reader.poll(50_000)) is not END:
        counts.append(polled.rows.num_rows)


def test_a_table_is_read_by_a_server_that_stops(table, within):
    table.run("INSERT INTO stuck SELECT generate_series(1, 300000)")
    source = pg.PostgresSource(table.dsn, "stuck", ranges=1)
    reader = source.open(source.splits()[0], None)
    counts = [reader.poll(100).rows.num_rows]
    with table.stuck(), pytest.raises(rs.SourceError, match="answers nobody"):
        read(reader, counts)  # what has come is given before
    position = reader.position()
    reader.close()
    assert within(20)
    reader = source.open(source.splits()[0], position)
    read(reader, counts)
    reader.close()
    assert sum(counts) == 300_000


def test_a_table_that_is_locked_is_waited_for_while_the_server_answers_others(table, within):
    source = pg.PostgresSource(table.dsn, "stuck", ranges=1)
    (split,) = source.splits()
    reader = source.open(split, None)
    with table.server.connect() as other:
        other.execute("BEGIN; LOCK TABLE stuck; INSERT INTO stuck VALUES (1)")
        other.execute("SELECT 1")
        looked = []
        with pytest.MonkeyPatch.context() as patch:

            def look(self, fields):
                looked.append(fields)
                if len(looked) == 3:
                    other.execute("COMMIT")

            patch.setattr(postgres_server.Server, "_look", look)
            assert reader.poll(10).rows.column("n").to_pylist() == [1]
    assert len(looked) == 3
    assert reader.poll(10) is END
    reader.close()


@pytest.mark.parametrize("when", ["write", "prepare_commit", "commit"])
def test_a_table_is_written_by_a_server_that_stops(table, when, within):
    sink = pg.PostgresSink(table.dsn, "stuck", mode="append").bound(SCHEMA, None)
    writer = sink.open(rs.OpenContext())
    writer.write(batch(1))
    if when == "write":
        with table.stuck(), pytest.raises(SubtaskLost, match="has lost what was written"):
            writer.write(batch(2))
    elif when == "prepare_commit":
        with table.stuck(), pytest.raises(rs.SinkError, match="cannot prepare checkpoint 1"):
            writer.prepare_commit(1)
    else:
        prepared = writer.prepare_commit(1)
        with table.stuck(), pytest.raises(rs.SinkError, match="cannot connect"):
            sink.commit(1, prepared)
        sink.commit(1, prepared)
    writer.close()
    assert within(15)
    assert table.rows() == ([1] if when == "commit" else [])


def test_changes_are_followed_behind_a_server_that_stops(table, within):
    source = pg.PostgresCdcSource(table.dsn, "stuck", slot="stuck")
    (split,) = source.splits()
    reader = source.open(split, None)
    table.run("INSERT INTO stuck VALUES (1)")
    found = []
    while len(found) < 2:
        polled = reader.poll(10)
        if polled is None or isinstance(polled, Later):
            continue
        found += polled.rows.column("n").to_pylist()
        if found == [1]:
            with table.stuck():
                while not isinstance(reader.poll(10), Later):
                    pass
            assert within(15)
            table.run("INSERT INTO stuck VALUES (2)")
    assert found == [1, 2]
    reader.close()
