"""Follow a table of PostgreSQL: what is in it now, then each change, without gap or overlap."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.connectors.postgres_copy import KeyedRelation, key_columns
from raystream.connectors.postgres_server import found, primary_key, source_server
from raystream.connectors.postgres_slot import check_identity, make_publication, make_slot
from raystream.connectors.postgres_types import columns_of, types_of
from raystream.contracts.secret import Secret
from raystream.contracts.source import Reader, Source, Split
from raystream.errors import PlanError
from raystream.flow.normal import normal_schema


class PostgresCdcSource(Source):
    """Follow a table: its rows, then all changes, as a changelog with the table's key.

    Guarantee: exactly once. A snapshot of the table is read in the order of its key, then the
    changes that were committed behind it, by logical replication (``pgoutput``). A position is a
    place in the server's log, and reading goes on exactly there, also in the midst of the snapshot:
    the rest is then read as of a later moment, and changes are matched to the moment that their row
    was read at. A row that was read, in no checkpoint yet, and deleted before the rest is read
    again after a failure, is never told: sinks that wait for the checkpoint have not shown it. The
    server forgets changes only behind a checkpoint that is durable; a job without checkpoints lets
    the log of the server grow for as long as it runs.

    The table has a primary key (``key``, by default) and ``wal_level = logical`` is set. ``slot``
    and ``publication`` are made if they are not there, and stay when the job ends: drop the slot
    of a job that will not come back, ``SELECT pg_drop_replication_slot(…)``, or the server keeps
    its log for ever. Each job needs a slot of its own; by default it is named after the table.

    With ``REPLICA IDENTITY FULL`` an update gives ``-U`` with the row as it was and ``+U``, and a
    delete the whole row. With the default one an update gives ``+U`` alone, and ``-D`` has the key
    and nulls: that is enough for sinks that upsert, and for a join or an aggregate the job keeps
    the last row of each key, as it also does where ``schema`` and ``key`` are given. A key that
    changes is ``-D`` and ``+I``.
    Values that are stored out of line (over 2 kB) and do not change are only told under ``FULL``;
    without it such a row fails by ``on_error``. ``TRUNCATE`` ends the job with an error.

    ``schema`` names the columns and their types; by default all, as the types of the table say.
    Where ``dsn`` or ``password`` is a ``rs.secret`` that is not known where the job is built, it
    must be given, and ``key``.

    Raises: PlanError for a password in ``dsn``, a table, column or type that will not do.
    """

    bounded = False

    def __init__(
        self,
        dsn: str | Secret,
        table: str,
        *,
        schema: pa.Schema | None = None,
        key: Sequence[str] | str | None = None,
        slot: str | None = None,
        publication: str | None = None,
        password: Secret | None = None,
    ) -> None:
        self.server = source_server(dsn, password)
        self.table = table
        named = "raystream_" + re.sub(r"[^a-z0-9_]", "_", table.lower())
        self.slot = named[:63] if slot is None else slot
        self.publication = named[:63] if publication is None else publication
        if not re.fullmatch(r"[a-z0-9_]{1,63}", self.slot):
            raise PlanError(f"a slot's name is of a-z, 0-9 and _, got {self.slot!r}")
        given = (key,) if isinstance(key, str) else key
        asked = None if schema is None else normal_schema(pa.schema(schema))
        if asked is None or given is None:
            asked, given = self._look(asked, given)
        self.schema: pa.Schema = asked
        self.key = self.changelog = tuple(given)
        missing = [name for name in self.key if name not in asked.names]
        if missing:
            raise PlanError(
                f"PostgresCdcSource: schema= has no {', '.join(missing)}, of the key",
                hint="the key's columns are part of a changelog",
            )
        self.tolerant = False

    def splits(self) -> Sequence[Split]:
        return [Split("changes")]

    def open(self, split: Split, position: Any) -> Reader:
        from raystream.connectors.postgres_changes import ChangeReader

        return ChangeReader(self, position)

    def tolerating(self) -> Source:
        """Give a source that hands over rows whose values have no place in the schema."""
        tolerant = copy.copy(self)
        tolerant.tolerant = True
        return tolerant

    def describe(self) -> str:
        return f"PostgresCdcSource({self.server}, {self.table}, slot {self.slot})"

    def prepare(self, connection: Any, *, anew: bool) -> None:
        """See that the server tells of the table, and keeps its changes; ``anew``: from now on."""
        table = found(connection, self.table, "PostgresCdcSource")
        if not check_identity(connection, table, self.key) and self.retracts:
            raise PlanError(
                f"table {self.table} had REPLICA IDENTITY FULL when the job was built, and no more",
                hint="set it again, or start the job anew",
            )
        make_publication(connection, self.publication, table)
        if anew:
            make_slot(connection, self.slot)

    def relation(self, connection: Any) -> KeyedRelation:
        """Give the table as it is read in the order of its key."""
        what = f"PostgresCdcSource: table {self.table}"
        table = found(connection, self.table, "PostgresCdcSource")
        columns = columns_of(connection, table.sql, what, self.schema)
        keys = types_of(connection, table.sql, what, self.key)
        return KeyedRelation(table.sql, tuple(columns), key_columns(keys, self.key, what))

    def _look(
        self, asked: pa.Schema | None, key: Sequence[str] | None
    ) -> tuple[pa.Schema, Sequence[str]]:
        """Read what was not given, where the job is built."""
        if not self.server.is_known:
            raise PlanError(
                f"what table {self.table} holds cannot be read here: {self.server} is not known",
                hint="give schema= and key=, or set the secret where the job is built, too",
            )
        what = f"PostgresCdcSource: table {self.table}"
        doing = self.server.translated(f"cannot read table {self.table}")
        with self.server.connect() as connection, doing:
            table = found(connection, self.table, "PostgresCdcSource")
            columns = columns_of(connection, table.sql, what, asked)
            chosen = key or primary_key(connection, table)
            if not chosen:
                raise PlanError(
                    f"{what} has no primary key",
                    hint="give key=, and ALTER TABLE … REPLICA IDENTITY FULL",
                )
            self.retracts = check_identity(connection, table, chosen)
        return pa.schema([pa.field(c.name, c.type) for c in columns]), chosen
