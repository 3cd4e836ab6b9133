"""Write a stream to a table of PostgreSQL: rows that are added, or the table that changes make."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raystream.connectors.postgres_server import Server, Table, driver, let_go, quoted, sink_server
from raystream.connectors.postgres_target import (
    PLACE,
    REMOVES,
    RESETS,
    Target,
    apply,
    claim,
    forget_older,
    has_committed,
    make_commits,
    make_stage,
    note,
    target_of,
)
from raystream.connectors.postgres_types import as_csv, has_nul, takes
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.secret import Secret
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError, SubtaskLost

_BUSY_RETRIES = 100
"""Times 100 ms: how long a commit that somebody else is at may take."""

_TAKING_BACK = ("-U", "-D")


class PostgresSink(Sink):
    """Write rows to a table, which must be there; they become visible at checkpoints.

    Guarantee: exactly once; a checkpoint's rows of all subtasks become visible in one transaction,
    together with a row in the table ``raystream_commits`` that makes a repeat change nothing.

    ``mode="upsert"``: a row replaces the row of its key, and changelogs are taken: what they delete
    is deleted. Rows wait in a table of their own for each checkpoint, ``raystream_stage_…``, made
    beside the target and dropped by the commit; nothing is locked meanwhile, and it works on every
    server. ``key`` are the columns by which rows are found, with a unique index on them; by default
    the changelog's key or, where that is all columns, the primary key of the table.

    ``mode="append"``: rows are added to the table by transactions that are prepared at a checkpoint
    and committed once it is durable (``PREPARE TRANSACTION``): each row is written once, and
    constraints are met row by row. The server must allow as many prepared transactions as there
    are subtasks, and some more (``max_prepared_transactions``); on one that allows none, rows wait
    in stages as those of upserts do.

    Rows that the table cannot take (null in a key, a character NUL in a text, a value out of range,
    a CHECK) follow ``on_error``, and their neighbours are written. What only the whole table can
    tell of an upsert, a second unique index or a foreign key, fails the job at the commit.

    A job that is killed and never resumed leaves stages and prepared transactions behind
    (``pg_prepared_xacts``, gids ``raystream:…``). Rolled back by hand, rows of a checkpoint that
    is resumed later would be lost: the job then fails, and says so.

    Raises: PlanError for a password in ``dsn`` or an unknown mode; when the job is built, for a
    stream without columns, without a key, or with a type that PostgreSQL has nothing for.
    """

    global_commit = True

    def __init__(
        self,
        dsn: str | Secret,
        table: str,
        key: Sequence[str] | str | None = None,
        mode: Literal["upsert", "append"] = "upsert",
        *,
        password: Secret | None = None,
    ) -> None:
        if mode not in {"upsert", "append"}:
            raise PlanError(f'mode is "upsert" or "append", got {mode!r}')
        if mode == "append" and key is not None:
            raise PlanError('mode="append" adds rows, and finds none by a key')
        self._server = sink_server(dsn, password)
        self._table, self._mode = table, mode
        given = (key,) if isinstance(key, str) else key
        self._key = self.table_key = None if given is None else tuple(given)
        self.upserts = mode == "upsert"

    def bound(self, schema: pa.Schema | None, changelog: tuple[str, ...] | None) -> Sink:
        """Give the sink with the key of a stream."""
        if schema is None:
            raise PlanError(
                f"{self.describe()} takes columns, and this stream carries objects",
                hint="with_schema(…) makes columns of dicts",
            )
        unfit = [f"{field.name}: {field.type}" for field in schema if not takes(field.type)]
        if unfit:
            raise PlanError(
                f"{self.describe()} has no column for {', '.join(unfit)}",
                hint="drop(…) it, or make a text of it",
            )
        if self._mode == "append":
            return self
        bound = copy.copy(self)
        true_key = changelog if set(changelog or ()) != set(schema.names) else None
        if self._key is None:
            if changelog is None:
                raise PlanError(
                    f"{self.describe()} replaces rows by their key, and this stream has none",
                    hint='key=[…] names its columns; mode="append" adds every row',
                )
            bound._key = true_key  # noqa: SLF001  a copy of this
        missing = [name for name in bound._key or () if name not in schema.names]  # noqa: SLF001
        if missing:
            raise PlanError(
                f"{self.describe()}: the stream has no column {', '.join(missing)}; "
                f"it has {', '.join(schema.names)}"
            )
        return bound

    def open(self, ctx: OpenContext) -> Writer:
        return _PostgresWriter(self, ctx)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        connection = self._server.connect()
        try:
            with self._server.translated(f"cannot commit to {self._table}"):
                self._commit(connection, list(committables))
        finally:
            let_go(connection)

    def abort(self, committables: Sequence[Any]) -> None:
        connection = self._server.connect()
        try:
            with self._server.translated(f"cannot give up what was prepared for {self._table}"):
                # A loop over committables: a stage or a transaction a subtask.
                for one in committables:
                    if isinstance(one, Staged):
                        connection.execute(f"DROP TABLE IF EXISTS {one.stage.sql}")
                    else:
                        _end(connection, "ROLLBACK", one.gid)
        finally:
            let_go(connection)

    def describe(self) -> str:
        by = f" by {', '.join(self._key)}" if self._key else ""
        return f"PostgresSink({self._server}, {self._table}, {self._mode}{by})"

    def look(self, connection: Any, columns: Sequence[str]) -> Target:
        """Look at the table that is to be written, and be ready to note commits."""
        upsert = self._mode == "upsert"
        target = target_of(connection, self._table, columns, self._key, upsert=upsert)
        make_commits(connection, target)
        return target

    @property
    def server(self) -> Server:
        """Where the table is."""
        return self._server

    @property
    def appends(self) -> bool:
        """Whether rows are added, and replace none."""
        return self._mode == "append"

    def _commit(self, connection: Any, committables: list[Any]) -> None:
        for one in committables:
            if isinstance(one, Transaction):
                _commit_prepared(connection, one)
        staged = sorted(
            (one for one in committables if isinstance(one, Staged)), key=lambda one: one.mark
        )
        if not staged:
            return
        with connection.transaction():
            new = [one for one in staged if claim(connection, one.target, one.mark)]
            for one in new:
                there = connection.execute("SELECT to_regclass(%s)", [one.stage.sql]).fetchone()[0]
                if there is None:
                    raise _lost(f"table {one.stage.sql}", one.mark)
            if new:
                apply(connection, new[0].target, [one.stage for one in new])


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows that wait in a table; ``mark`` is writer, checkpoint, sink and subtask."""

    target: Target
    stage: Table
    mark: tuple[str, int, str, int]


@dataclass(frozen=True, slots=True)
class Transaction:
    """Rows that wait in a transaction that was prepared."""

    commits: str
    gid: str
    mark: tuple[str, int, str, int]


class _PostgresWriter(Writer):
    """Writes the rows of one subtask; its name is random, so that no two runs share one."""

    def __init__(self, sink: PostgresSink, ctx: OpenContext) -> None:
        self._sink = sink
        self._operator, self._subtask = ctx.operator, ctx.subtask_index
        self._writer = secrets.token_hex(6)
        self._connection = sink.server.connect()
        self._target: Target | None = None
        self._stage: Table | None = None
        self._staged = 0
        self._epoch = 0
        self._lost: SubtaskLost | None = None
        self._prepares = False
        if sink.appends:
            with sink.server.translated("cannot ask for max_prepared_transactions"):
                allowed = self._connection.execute("SHOW max_prepared_transactions").fetchone()
            self._prepares = int(allowed[0]) > 0

    def write(self, batch: Batch) -> None:
        if self._lost is not None:
            raise self._lost
        if not len(batch):
            return
        rows = batch.rows
        if not isinstance(rows, pa.RecordBatch):
            raise PlanError(
                f"{self._sink.describe()} takes columns, and this stream carries objects",
                hint="with_schema(…) makes columns of dicts",
            )
        psycopg = driver()
        try:
            self._write(rows, batch.ops)
        except psycopg.Error as error:
            states = psycopg.pq.TransactionStatus
            if self._connection.info.transaction_status in {states.UNKNOWN, states.INERROR}:
                # Not of these rows: nothing that was written since the last checkpoint is there.
                self._lost = SubtaskLost(
                    f"{self._sink.describe()} has lost what was written since the last "
                    f"checkpoint: {' '.join(str(error).split())}"
                )
                raise self._lost from None
            raise SinkError(
                f"{self._sink.describe()} refused rows: {' '.join(str(error).split())}"
            ) from error

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        if self._lost is not None:
            raise self._lost
        if self._target is None or not self._staged:
            return []
        mark = (self._writer, checkpoint_id, self._operator, self._subtask)
        with self._sink.server.translated(f"cannot prepare checkpoint {checkpoint_id}"):
            prepared: Staged | Transaction
            if self._prepares:
                gid = f"raystream:{self._writer}:{checkpoint_id}"
                note(self._connection, self._target, mark)
                self._connection.execute(f"PREPARE TRANSACTION '{gid}'")
                prepared = Transaction(self._target.commits, gid, mark)
            else:
                self._connection.execute("COMMIT")
                assert self._stage is not None, "rows are in a stage"
                prepared = Staged(self._target, self._stage, mark)
        self._stage, self._staged, self._epoch = None, 0, self._epoch + 1
        return [prepared]

    def close(self) -> None:
        let_go(self._connection)  # what was not prepared is rolled back

    def _write(self, rows: pa.RecordBatch, ops: Sequence[str] | None) -> None:
        if self._target is None:
            self._target = self._sink.look(self._connection, rows.schema.names)
        removes = None if ops is None else np.isin(np.array(ops), _TAKING_BACK)
        _check_values(rows, self._target, removes)
        if not self._begun:
            self._connection.execute("BEGIN")
            if not self._prepares:
                self._stage = self._target.stage(self._writer, self._epoch)
                make_stage(self._connection, self._target, self._stage)
        columns, names = list(rows.columns), list(rows.schema.names)
        into = self._target.table
        if self._stage is not None:
            into = self._stage
            places = np.arange(self._staged, self._staged + rows.num_rows)
            taken = np.zeros(rows.num_rows, bool) if removes is None else removes
            columns += [pa.array(one) for one in (places, taken, _resets(rows, ops, self._target))]
            names += [PLACE, REMOVES, RESETS]
        listed = ", ".join(map(quoted, names))
        copying = f"COPY {into.sql} ({listed}) FROM STDIN (FORMAT csv)"
        cursor = self._connection.cursor()
        # Inside of a transaction this is a savepoint: what fails takes only its own rows along.
        with self._connection.transaction(), cursor.copy(copying) as rows_in:
            rows_in.write(as_csv(columns, names))
        self._staged += rows.num_rows

    @property
    def _begun(self) -> bool:
        idle = driver().pq.TransactionStatus.IDLE
        return bool(self._connection.info.transaction_status != idle)


def _resets(rows: pa.RecordBatch, ops: Sequence[str] | None, target: Target) -> Any:
    """Tell which rows make what came before them of their key count no more.

    A row of no changelog replaces; so does a +U, but one that stands behind its -U, which has taken
    back what it replaces. A removal that tells nothing but the key takes back whatever there is.
    Shapes: rows [n] -> bool [n].
    """
    if ops is None:
        return np.ones(rows.num_rows, bool)
    kinds = np.array(ops)
    resets = kinds == "+U"
    resets[1:] &= kinds[:-1] != "-U"
    others = [name for name in target.columns if name not in target.key]
    if others:
        bare = np.isin(kinds, _TAKING_BACK)
        for name in others:
            bare &= rows.column(name).is_null().to_numpy(zero_copy_only=False)
        resets |= bare
    return resets


def _check_values(rows: pa.RecordBatch, target: Target, removes: Any) -> None:
    """Refuse what the table would only refuse at the commit, or what would break a COPY."""
    for name in target.key:
        if rows.column(name).null_count:
            raise SinkError(f'key column "{name}" is null, and finds no row')
    brought = rows if removes is None else rows.filter(pa.array(~removes))
    for name in target.never_null:
        if brought.column(name).null_count:
            raise SinkError(f'column "{name}" of the table is NOT NULL, and a row has none')
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if has_nul(column):
            raise SinkError(
                f'column "{name}" holds the character NUL, which PostgreSQL has no place for',
                hint='bytes do: a bytea column; or .str.replace_all("\\0", "")',
            )


def _commit_prepared(connection: Any, one: Transaction) -> None:
    writer, checkpoint_id, *_ = one.mark
    if not _end(connection, "COMMIT", one.gid) and not has_committed(
        connection, one.commits, writer, checkpoint_id
    ):
        raise _lost(f"prepared transaction {one.gid}", one.mark)
    forget_older(connection, one.commits, writer, checkpoint_id)


def _end(connection: Any, how: str, gid: str) -> bool:
    """Commit or roll back a prepared transaction; False where there is none of that name."""
    errors = driver().errors
    for _ in range(_BUSY_RETRIES):
        try:
            connection.execute(f"{how} PREPARED '{gid}'")
        except errors.UndefinedObject:  # noqa: PERF203  tried again
            return False
        except errors.ObjectNotInPrerequisiteState:
            # Somebody who is given up for dead is at it.
            connection.execute("SELECT pg_sleep(0.1)")
        else:
            return True
    raise SinkError(f"prepared transaction {gid} stays busy", hint="see pg_prepared_xacts")


def _lost(what: str, mark: tuple[str, int, str, int]) -> SinkError:
    _, checkpoint_id, sink, subtask = mark
    return SinkError(
        f"the rows that {sink}[{subtask}] had prepared at checkpoint {checkpoint_id} are gone: "
        f"there is no {what}, and it was not committed",
        hint="was it dropped by hand, or a backup restored? Start from a savepoint before it",
    )
