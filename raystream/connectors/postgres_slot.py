"""What the server keeps for one that follows its changes: a publication, a slot, a snapshot."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raystream.connectors import postgres_server
from raystream.connectors.postgres_server import (
    Server,
    Table,
    await_more,
    begin_copy,
    driver,
    end_copy,
    let_go,
    literal,
    primary_key,
    quoted,
)
from raystream.connectors.postgres_wal import lsn_of, lsn_text, status_update
from raystream.errors import ConfigError, PlanError, RestoreRefused

_STATUS_EVERY_S = 5
"""How often the server hears from us at least; it gives up after its wal_sender_timeout, 60 s."""

_PATIENCE_S = 0.01


def make_publication(connection: Any, name: str, table: Table) -> None:
    """Make the publication of a table, if it is not there.

    Raises: ConfigError where the one that is there does not tell of the table.
    """
    tables = connection.execute(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", [name]
    ).fetchall()
    if (table.schema, table.name) in tables:
        return
    there = connection.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", [name]).fetchone()
    if there is not None:
        raise ConfigError(
            f"publication {name} is there, and does not tell of {table.sql}",
            hint=f"ALTER PUBLICATION {quoted(name)} ADD TABLE {table.sql}, or another publication=",
        )
    errors = driver().errors
    try:
        connection.execute(
            f"CREATE PUBLICATION {quoted(name)} FOR TABLE {table.sql} "
            "WITH (publish_via_partition_root = true)"
        )
    except errors.DuplicateObject:
        return  # somebody else has just made it


def make_slot(connection: Any, name: str) -> None:
    """Make the slot, if it is not there.

    Raises: ConfigError where the server keeps no logical log.
    """
    (level,) = connection.execute("SHOW wal_level").fetchone()
    if level != "logical":
        raise ConfigError(
            f"the server writes a log at wal_level {level}, which does not tell of rows",
            hint="set wal_level = logical and restart the server",
        )
    errors = driver().errors
    try:
        if _slot(connection, name) is None:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    except errors.DuplicateObject:
        return


def _slot(connection: Any, name: str) -> Any:
    return connection.execute(
        "SELECT confirmed_flush_lsn::text, wal_status, plugin FROM pg_replication_slots "
        "WHERE slot_name = %s AND database = current_database()",
        [name],
    ).fetchone()


def check_slot(connection: Any, name: str, lsn: int | None) -> None:
    """See that the slot still holds all changes from a place on; None: those from now on.

    Raises: RestoreRefused where it does not, and says what to do.
    """
    anew = (
        "start the job without a snapshot: it reads the table again. "
        "max_slot_wal_keep_size says how much of its log the server keeps for a slot"
    )
    since = "now" if lsn is None else lsn_text(lsn)
    slot = _slot(connection, name)
    if slot is None:
        raise RestoreRefused(
            f"replication slot {name} is gone, and with it the changes since {since}",
            hint=anew,
        )
    confirmed, status, plugin = slot
    if plugin != "pgoutput":
        raise ConfigError(f"slot {name} speaks {plugin}, not pgoutput", hint="give another slot=")
    if status == "lost":
        raise RestoreRefused(
            f"replication slot {name} was lost: the server needed the room of the changes since "
            f"{since}",
            hint=f"SELECT pg_drop_replication_slot({literal(name)}), then {anew}",
        )
    if lsn is not None and confirmed is not None and lsn_of(confirmed) > lsn:
        raise RestoreRefused(
            f"replication slot {name} has moved on to {confirmed}: the changes since "
            f"{since}, where this snapshot stands, are gone",
            hint="start from a newer checkpoint, or without one; two jobs cannot share a slot",
        )


def check_identity(connection: Any, table: Table, key: Sequence[str]) -> bool:
    """See that the server tells of each change by this key; True where it tells whole rows.

    Raises: PlanError with the statement that makes it.
    """
    (identity,) = connection.execute(
        "SELECT relreplident::text FROM pg_class WHERE oid = %s::regclass", [table.sql]
    ).fetchone()
    told: set[str] = set(key) if identity == "f" else set()
    if identity == "d":
        told = set(primary_key(connection, table))
    elif identity == "i":
        told = {
            name
            for (name,) in connection.execute(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
                "AND a.attnum = ANY(i.indkey::int2[]) WHERE i.indrelid = %s::regclass "
                "AND i.indisreplident",
                [table.sql],
            )
        }
    if not set(key) <= told:
        raise PlanError(
            f"of rows that are deleted table {table.sql} tells "
            f"{', '.join(sorted(told)) or 'nothing'}, not the key {', '.join(key)}",
            hint=f"ALTER TABLE {table.sql} REPLICA IDENTITY FULL, or give the primary key as key=",
        )
    return bool(identity == "f")


@dataclass(frozen=True, slots=True)
class Moment:
    """A transaction that sees the database as it was at one place of the log."""

    connection: Any
    lsn: int


def moment(server: Server) -> Moment:
    """Give a transaction that sees exactly what was committed before a place in the log.

    Only the making of a slot says where a snapshot stands, so one is made for just that.
    """
    sender = server.connect(replication=True)
    connection = None
    try:
        name = f"raystream_moment_{secrets.token_hex(6)}"
        _, lsn, snapshot, _ = sender.execute(
            f"CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"
        ).fetchone()
        connection = server.connect()
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute(f"SET TRANSACTION SNAPSHOT {literal(snapshot)}")
        return Moment(connection, lsn_of(lsn))
    except driver().Error:
        let_go(connection)
        raise
    finally:
        let_go(sender)


class Following:
    """The changes of a slot from a place on, as frames."""

    def __init__(self, server: Server, slot: str, publication: str, lsn: int) -> None:
        self._connection = server.connect(replication=True)
        self._wire = self._connection.pgconn
        self._received = lsn
        self._told_s = 0.0
        self._heard_s = time.monotonic()
        self.flushed = 0
        try:
            begin_copy(
                self._connection,
                f"START_REPLICATION SLOT {quoted(slot)} LOGICAL {lsn_text(lsn)} "
                f"(proto_version '1', publication_names {literal(quoted(publication))})",
                both=True,
            )
        except driver().OperationalError:
            self.close()
            raise

    def frames(self, *, wait: bool) -> Iterator[bytes]:
        """Give what has come; where that is nothing and ``wait``, wait for it a little."""
        self._wire.consume_input()
        while True:
            size, frame = self._wire.get_copy_data(1)
            if size > 0:
                wait = False
                self._heard_s = time.monotonic()
                yield bytes(frame)
            elif size < 0:
                end_copy(self._connection)
                raise driver().OperationalError("the server has ended the stream")
            elif wait:
                wait = False
                await_more(self._connection, _PATIENCE_S)
            else:
                break
        # Nobody who is idle is silent: it says every 30 s that it is there, unless told otherwise.
        if time.monotonic() - self._heard_s >= postgres_server.SILENT_S:
            self._connection.look()
            self._heard_s = time.monotonic()

    def tell(self, received: int, *, now: bool = False) -> None:
        """Tell the server how far we are, if it is time to."""
        self._received = max(self._received, received)
        at_s = time.monotonic()
        if now or at_s - self._told_s >= _STATUS_EVERY_S:
            self._told_s = at_s
            status = status_update(self._received, self.flushed, time.time_ns() // 1000)
            self._wire.put_copy_data(status)
            self._wire.flush()

    def close(self) -> None:
        """End it; the slot stays."""
        let_go(self._connection)
