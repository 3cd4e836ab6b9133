"""The table that a sink writes: what it takes, where rows wait for it, and what has come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raystream.connectors.postgres_server import Table, found, primary_key, quoted
from raystream.errors import PlanError

COMMITS = "raystream_commits"
"""The table, beside the target, that holds what has become visible."""

PLACE = "__raystream_place"
REMOVES = "__raystream_removes"
RESETS = "__raystream_resets"
"""Columns of a stage: the order in which rows came, whether a row takes one back, and whether it
makes what came before it of its key count no more."""

_COMMITS_LOCK = 7_271_983_001
"""One number for all: who makes the table of commits holds it, so that two do not at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """A table, the columns that are written, the key of a row, and what must not be null."""

    table: Table
    columns: tuple[str, ...]
    key: tuple[str, ...]
    never_null: tuple[str, ...]

    @property
    def names(self) -> str:
        """The columns as SQL lists them."""
        return ", ".join(map(quoted, self.columns))

    @property
    def commits(self) -> str:
        """The table of commits, as SQL names it."""
        return self.table.beside(COMMITS).sql

    def stage(self, writer: str, checkpoint_id: int) -> Table:
        """Name the table in which rows wait."""
        return self.table.beside(f"raystream_stage_{writer}_{checkpoint_id}")


def target_of(
    connection: Any, named: str, columns: Sequence[str], key: Sequence[str] | None, *, upsert: bool
) -> Target:
    """Look at the table that is to be written.

    Raises: PlanError where it does not take rows of these columns, or none by this key.
    """
    table = found(connection, named, "PostgresSink")
    there = {
        name: (needed, never_null)
        for name, needed, never_null in connection.execute(
            "SELECT attname, attnotnull AND NOT atthasdef AND attidentity = '' , attnotnull "
            "FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
            "AND attgenerated = ''",
            [table.sql],
        )
    }
    unknown = [name for name in columns if name not in there]
    if unknown:
        raise PlanError(
            f"PostgresSink: table {named} has no column {', '.join(unknown)} to write to; "
            f"it has {', '.join(there)}",
            hint="select(…), drop(…) or rename(…) before the sink, or ALTER TABLE … ADD COLUMN",
        )
    missing = [n for n, (needed, _) in there.items() if needed and n not in columns]
    if missing:
        raise PlanError(
            f"PostgresSink: table {named} needs {', '.join(missing)}, which the stream has not",
            hint="add the column to the stream, or give it a default in the table",
        )
    chosen: tuple[str, ...] = ()
    if upsert:
        chosen = _key(connection, table, named, columns, key)
    never_null = tuple(n for n in columns if there[n][1] and n not in chosen)
    return Target(table, tuple(columns), chosen, never_null)


def _key(
    connection: Any, table: Table, named: str, columns: Sequence[str], key: Sequence[str] | None
) -> tuple[str, ...]:
    chosen = primary_key(connection, table) if key is None else tuple(key)
    absent = [name for name in chosen if name not in columns]
    if not chosen or absent:
        raise PlanError(
            f"PostgresSink: table {named} is written by the key {', '.join(chosen) or '()'}, "
            f"which the stream does not have: it has {', '.join(columns)}",
            hint="give key=, columns of the stream that tell each row of the table from others",
        )
    unique = connection.execute(
        "SELECT 1 FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisunique "
        "AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate "
        "AND (SELECT array_agg(a.attname::text ORDER BY 1) FROM pg_attribute a "
        "WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]))"
        " = %s",
        [table.sql, sorted(chosen)],
    ).fetchone()
    if unique is None:
        raise PlanError(
            f"PostgresSink: nothing makes {', '.join(chosen)} unique in table {named}, so rows "
            "cannot be found by it",
            hint=f"CREATE UNIQUE INDEX ON {table.sql} ({', '.join(map(quoted, chosen))})",
        )
    return chosen


def make_commits(connection: Any, target: Target) -> None:
    """Make the table of commits, if it is not there."""
    there = connection.execute("SELECT to_regclass(%s)", [target.commits]).fetchone()[0]
    if there is not None:
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_COMMITS_LOCK])
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {target.commits} (writer text, checkpoint bigint, "
            "sink text, subtask int, target text, at timestamptz DEFAULT now(), "
            "PRIMARY KEY (writer, checkpoint))"
        )


def make_stage(connection: Any, target: Target, stage: Table) -> None:
    """Make the table in which rows wait: it checks what the target's columns take.

    Of rows that take others back only the key need be there, so nulls are let in.
    """
    connection.execute(f"CREATE TABLE {stage.sql} (LIKE {target.table.sql} INCLUDING CONSTRAINTS)")
    others = connection.execute(
        "SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = %s::regclass "
        "AND attnum > 0 AND NOT attisdropped",
        [stage.sql],
    ).fetchall()
    changes = [f"ADD {quoted(PLACE)} bigint", f"ADD {quoted(REMOVES)} boolean"]
    changes.append(f"ADD {quoted(RESETS)} boolean")
    for name, never_null in others:
        if name not in target.columns:
            changes.append(f"DROP {quoted(name)} CASCADE")
        elif never_null:
            changes.append(f"ALTER {quoted(name)} DROP NOT NULL")
    connection.execute(f"ALTER TABLE {stage.sql} {', '.join(changes)}")


def claim(connection: Any, target: Target, mark: Sequence[Any]) -> bool:
    """Note a commit, as part of the transaction; False where it has been made.

    ``mark`` is writer, checkpoint, sink, subtask. Whoever comes second waits for the first. One row
    a writer stays: a writer's checkpoints become visible in their order.
    """
    writer, checkpoint_id, *_ = mark
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [writer])
    if has_committed(connection, target.commits, writer, checkpoint_id):
        return False
    note(connection, target, mark)
    forget_older(connection, target.commits, writer, checkpoint_id)
    return True


def note(connection: Any, target: Target, mark: Sequence[Any]) -> None:
    """Write down a commit, as part of the transaction that makes it."""
    connection.execute(
        f"INSERT INTO {target.commits} (writer, checkpoint, sink, subtask, target) "
        "VALUES (%s, %s, %s, %s, %s)",
        [*mark, target.table.sql],
    )


def has_committed(connection: Any, commits: str, writer: str, checkpoint_id: int) -> bool:
    """Tell whether what a writer prepared for a checkpoint has become visible."""
    row = connection.execute(
        f"SELECT 1 FROM {commits} WHERE writer = %s AND checkpoint >= %s", [writer, checkpoint_id]
    ).fetchone()
    return row is not None


def forget_older(connection: Any, commits: str, writer: str, checkpoint_id: int) -> None:
    """Keep the newest commit of a writer alone."""
    connection.execute(
        f"DELETE FROM {commits} WHERE writer = %s AND checkpoint < %s", [writer, checkpoint_id]
    )


def apply(connection: Any, target: Target, stages: Sequence[Table]) -> None:
    """Bring the rows of stages into the table, as part of the transaction, and drop the stages."""
    if target.key:
        _upsert(connection, target, stages)
    else:
        for stage in stages:
            connection.execute(
                f"INSERT INTO {target.table.sql} ({target.names}) OVERRIDING SYSTEM VALUE "
                f"SELECT {target.names} FROM {stage.sql} ORDER BY {quoted(PLACE)}"
            )
    connection.execute(f"DROP TABLE {', '.join(stage.sql for stage in stages)}")


def _upsert(connection: Any, target: Target, stages: Sequence[Table]) -> None:
    """Let the table follow changes that came in order in each stage, and in none among them.

    A row may leave one subtask for another, as that of an order which gets another customer: then
    nobody knows whether it was brought or taken back first. So of a key rows that were brought and
    taken back cancel, and what is left counts: a row that was brought, else one that was taken
    back. Only rows that reset their key need the order of their stage.
    """
    key, names = ", ".join(map(quoted, target.key)), target.names
    place, removes, resets = quoted(PLACE), quoted(REMOVES), quoted(RESETS)
    # No column of a user is called so.
    stage, since, row, net = (f'"__raystream_{one}"' for one in ("stage", "since", "row", "net"))
    staged = " UNION ALL ".join(
        f"SELECT {names}, {place}, {removes}, {resets}, {number} AS {stage} FROM {one.sql}"
        for number, one in enumerate(stages)
    )
    known = (
        f"SELECT *, max({place}) FILTER (WHERE {resets}) OVER (PARTITION BY {stage}, {key}) "
        f"AS {since} FROM ({staged}) AS staged"
    )
    # Texts are compared: some types, json for one, have no equality.
    counting = (
        f"SELECT *, ROW({names})::text AS {row} FROM ({known}) AS known "
        f"WHERE {since} IS NULL OR {place} >= {since}"
    )
    counted = (
        f"SELECT *, sum(CASE WHEN {removes} THEN -1 ELSE 1 END) OVER (PARTITION BY {row}) "
        f"AS {net} FROM ({counting}) AS counting"
    )
    connection.execute(
        f"CREATE TEMP TABLE raystream_net ON COMMIT DROP AS SELECT DISTINCT ON ({key}) {names}, "
        f"{net} <= 0 AS {removes} FROM ({counted}) AS counted "
        f"WHERE {net} <> 0 OR {since} IS NOT NULL ORDER BY {key}, {net} <= 0, {place} DESC"
    )
    same = " AND ".join(f"t.{quoted(name)} = n.{quoted(name)}" for name in target.key)
    connection.execute(
        f"DELETE FROM {target.table.sql} AS t USING raystream_net AS n WHERE n.{removes} AND {same}"
    )
    others = [quoted(name) for name in target.columns if name not in target.key]
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
    connection.execute(
        f"INSERT INTO {target.table.sql} ({names}) OVERRIDING SYSTEM VALUE "
        f"SELECT {names} FROM raystream_net WHERE NOT {removes} "
        f"ON CONFLICT ({key}) DO {f'UPDATE SET {sets}' if sets else 'NOTHING'}"
    )
