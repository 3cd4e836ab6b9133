"""What a sink writes to a table: exactly once, whatever dies when, and whatever is repeated."""

from __future__ import annotations

import pickle
import random

import pyarrow as pa
import pytest
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors.postgres import PostgresSink
from raystream.contracts.rejects import Rejects
from raystream.errors import SubtaskLost

pytestmark = [pytest.mark.services, pytest.mark.slow]

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])


def batch(*rows, ops=None):
    return rs.Batch(
        pa.RecordBatch.from_pylist([{"id": i, "v": v} for i, v in rows], SCHEMA), ops=ops
    )


def rows_in(connection):
    return sorted(connection.execute("SELECT id, v FROM target").fetchall())


def left_behind(connection):
    (stages,) = connection.execute(
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'raystream_stage%'"
    ).fetchone()
    (prepared,) = connection.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone()
    return stages, prepared


@pytest.fixture
def target(postgres):
    with postgres.connect() as connection:
        connection.execute(
            "CREATE TABLE target (id bigint PRIMARY KEY CHECK (id >= 0), v text, more int)"
        )
        yield connection


def made(postgres, mode, changelog=("id",), **given):
    sink = PostgresSink(postgres.dsn, "target", mode=mode, **given)
    return sink.bound(SCHEMA, changelog if mode == "upsert" else None)


@pytest.fixture(params=["upsert", "append"])
def mode(request):
    return request.param


def test_rows_appear_at_the_commit_and_a_repeat_changes_nothing(postgres, target, mode):
    sink = made(postgres, mode)
    writer = sink.open(rs.OpenContext())
    writer.write(batch((1, "a"), (2, "")))
    writer.write(batch((3, None)))
    first = pickle.loads(pickle.dumps(writer.prepare_commit(1)))
    writer.write(batch((4, "b")))
    second = writer.prepare_commit(2)
    assert rows_in(target) == []
    sink.commit(1, first)
    assert rows_in(target) == [(1, "a"), (2, ""), (3, None)]
    target.execute("UPDATE target SET v = 'theirs' WHERE id = 1")
    sink.commit(1, first)
    sink.commit(2, second)
    sink.commit(1, first)
    sink.commit(2, second)
    sink.abort(first)
    assert rows_in(target) == [(1, "theirs"), (2, ""), (3, None), (4, "b")]
    assert left_behind(target) == (0, 0)
    assert target.execute("SELECT count(*) FROM raystream_commits").fetchone() == (1,)
    assert writer.prepare_commit(3) == []
    writer.close()


def test_what_was_not_prepared_dies_with_its_writer_and_the_rest_does_not(
    postgres,
    target,
    mode,
):
    sink = made(postgres, mode)
    writer = sink.open(rs.OpenContext())
    writer.write(batch((1, "a")))
    prepared = writer.prepare_commit(1)
    writer.write(batch((2, "b")))
    writer.close()
    if postgres.folder is not None:
        postgres.kill()
        postgres.control("start")
    with postgres.connect() as again:
        sink.commit(1, prepared)
        assert rows_in(again) == [(1, "a")]
        assert left_behind(again) == (0, 0)


def test_what_is_given_up_is_gone_and_a_loss_is_told(postgres, target, mode):
    sink = made(postgres, mode)
    writer = sink.open(rs.OpenContext())
    writer.write(batch((1, "a")))
    prepared = writer.prepare_commit(1)
    sink.abort(prepared)
    sink.abort(prepared)
    assert left_behind(target) == (0, 0)
    with pytest.raises(rs.SinkError, match="are gone"):
        sink.commit(1, prepared)
    writer.close()


def test_a_writer_that_lost_its_server_does_not_call_it_the_fault_of_rows(
    postgres,
    target,
    mode,
):
    sink = made(postgres, mode)
    writer = sink.open(rs.OpenContext(errors=Rejects("skip")))
    writer.write(batch((1, "a")))
    target.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'raystream'"
    )
    for _ in range(2):
        with pytest.raises(SubtaskLost):
            writer.write(batch((2, "b")))
    with pytest.raises(SubtaskLost):
        writer.prepare_commit(1)
    writer.close()


def test_stages_serve_a_server_that_prepares_no_transactions(postgres, target):
    sink = made(postgres, "append")
    writer = sink.open(rs.OpenContext())
    writer._prepares = False
    writer.write(batch((1, "a"), (2, "b")))
    prepared = writer.prepare_commit(1)
    sink.commit(1, prepared)
    sink.commit(1, prepared)
    writer.close()
    assert rows_in(target) == [(1, "a"), (2, "b")]


def commit(sink, *parts):
    writers = [sink.open(rs.OpenContext(subtask_index=n)) for n in range(len(parts))]
    for writer, batches in zip(writers, parts, strict=True):
        for one in batches:
            writer.write(one)
    prepared = [p for writer in writers for p in writer.prepare_commit(1)]
    for writer in writers:
        writer.close()
    sink.commit(1, prepared)


def test_the_last_change_of_a_key_counts(postgres, target):
    target.execute("INSERT INTO target VALUES (1, 'old', 7), (2, 'old', 7), (3, 'old', 7)")
    changes = [
        batch((1, "old"), (1, "new"), ops=["-U", "+U"]),
        batch((2, "old"), (4, "a"), ops=["-D", "+I"]),
        batch((4, "a"), (5, "x"), (4, "b"), ops=["-D", "+I", "+I"]),
        batch((3, None), (5, None), ops=["-D", "-D"]),
    ]
    commit(made(postgres, "upsert"), changes)
    rows = sorted(target.execute("SELECT * FROM target").fetchall())
    assert rows == [(1, "new", 7), (4, "b", None)]


def test_rows_that_move_between_subtasks_come_in_any_order(postgres, target):
    target.execute("INSERT INTO target VALUES (1, 'old'), (2, 'old'), (3, 'same')")
    sink = made(postgres, "upsert")
    one = [batch((1, "new"), (2, "old"), (3, "same"), ops=["+I", "-D", "-D"])]
    other = [batch((1, "old"), (3, "same"), (4, "a"), (4, "a"), ops=["-D", "+I", "+I", "-D"])]
    commit(sink, one, other)
    assert rows_in(target) == [(1, "new"), (3, "same")]


@pytest.mark.parametrize("kind", ["upserting", "retracting", "tombstones"])
def test_changes_make_the_table_however_they_are_cut(postgres, target, kind):
    """A model applies them one by one; a checkpoint may stand anywhere between them."""
    chance = random.Random(kind)
    sink = made(postgres, "upsert")
    table, epoch = {}, []
    writer = sink.open(rs.OpenContext())
    for step in range(400):
        key, value = chance.randrange(6), chance.choice("abc")
        was = table.get(key)
        if was is not None and chance.random() < 0.4:
            epoch.append(("-D", key, None if kind == "tombstones" else was))
            del table[key]
        elif was is not None:
            if kind == "retracting":
                epoch.append(("-U", key, was))
            epoch.append(("+U", key, value))
            table[key] = value
        else:
            epoch.append(("+I", key, value))
            table[key] = value
        if chance.random() < 0.1:
            for start in range(0, len(epoch), 5):
                part = epoch[start : start + 5]
                rows = [(key, value) for _, key, value in part]
                writer.write(batch(*rows, ops=[op for op, _, _ in part]))
            epoch = []
            sink.commit(step, writer.prepare_commit(step))
            assert dict(rows_in(target)) == table
    writer.close()


@pytest.mark.parametrize("mode", ["upsert", "append"])
@pytest.mark.parametrize(
    "bad", [{"id": 2, "v": "a\x00b"}, {"id": None, "v": "x"}, {"id": -2, "v": "x"}]
)
def test_a_row_that_the_table_cannot_take_follows_the_policy(postgres, target, mode, bad):
    rows = [{"id": 1, "v": "a"}, bad, {"id": 3, "v": "c"}]
    job = rs.Job("odd", runtime="local")
    key = {"key": "id"} if mode == "upsert" else {}
    end = job.from_items(rows, schema=SCHEMA).sink(
        PostgresSink(postgres.dsn, "target", mode=mode, **key)
    )
    letters = rs.MemorySink()
    end.on_error("dead_letter").dead_letters.sink(letters)
    job.run()
    assert rows_in(target) == [(1, "a"), (3, "c")]
    assert [letter["row"] for letter in letters.rows] == [bad]


def test_a_number_that_a_column_has_no_place_for_fails_its_row(postgres, target):
    target.execute("CREATE TABLE few (id bigint PRIMARY KEY, n numeric(4, 2), f float8)")
    schema = pa.schema([("id", pa.int64()), ("n", pa.float64()), ("f", pa.float64())])
    rows = [(1, float("nan"), float("nan")), (2, float("inf"), 1.0), (3, 1.5, float("-inf"))]
    job = rs.Job("numbers", runtime="local")
    stream = job.from_items(
        [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
    )
    stream.sink(PostgresSink(postgres.dsn, "few", key="id")).on_error("skip")
    job.run()
    held = target.execute("SELECT id, f::text FROM few ORDER BY id").fetchall()
    assert held == [(1, "NaN"), (3, "-Infinity")]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DROP TABLE target", "there is no table"),
        ("ALTER TABLE target DROP CONSTRAINT target_pkey", "CREATE UNIQUE INDEX"),
        ("ALTER TABLE target DROP v", "no column v"),
        ("ALTER TABLE target ADD must int NOT NULL", "needs must"),
    ],
)
def test_a_table_that_does_not_fit_is_told(postgres, target, statement, problem):
    target.execute(statement)
    writer = made(postgres, "upsert").open(rs.OpenContext())
    with pytest.raises(rs.PlanError, match=problem):
        writer.write(batch((1, "a")))
    writer.close()
