"""The reader of a table's changes: a snapshot in the order of the key, then the log.

A snapshot may be read in several pieces, because the moment that it shows is gone with the process
that read it. Each piece has a last key and the place in the log of its moment; a change counts for
a row if it was committed behind the moment at which that row's piece was read. So the pieces and
the log make one history of each row, wherever reading was broken off.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
from typing_extensions import assert_never

from raystream.connectors.postgres_copy import Key, KeyRange, TableCopy, rows_of
from raystream.connectors.postgres_server import Unreachable, driver, let_go
from raystream.connectors.postgres_slot import Following, check_slot, moment
from raystream.connectors.postgres_types import Column
from raystream.connectors.postgres_wal import (
    UNSENT,
    Begin,
    Change,
    Commit,
    KeepAlive,
    Message,
    Relation,
    Truncate,
    Value,
    read_message,
)
from raystream.contracts.batch import Batch
from raystream.contracts.source import Later, Polled, Reader
from raystream.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from raystream.connectors.postgres_cdc import PostgresCdcSource

_TRIES_MAX = 6
"""Times in a row that a server may not answer before the job fails: 6 s with the pauses between."""

_FIRST_PAUSE_US = 100_000

_SILENT_BYTES = 16 * 1024 * 1024
"""What others may write before a batch without rows moves the position, so that it is let go."""

Pieces: TypeAlias = tuple[tuple[Key | None, int], ...]
"""Of each piece of the snapshot its last key, None where it is the last piece, and its moment."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next row is.

    ``log`` is behind the last transaction that was given whole, None while the snapshot is read;
    ``given`` changes of the transaction that commits at ``commit`` were given, too.
    """

    pieces: Pieces = ()
    log: int | None = None
    commit: int = 0
    given: int = 0


class ChangeReader(Reader):
    """Reads the one split of a table's changes."""

    def __init__(self, source: PostgresCdcSource, position: Any) -> None:
        self._source = source
        self._place = Place() if position is None else Place(*position)
        self._names = source.schema.names
        self._copy: TableCopy | None = None
        self._copying: Any = None
        self._moment = 0
        self._following: Following | None = None
        self._table: _Table | None = None
        self._flushed = 0
        self._tries = 0
        self._transaction: Begin | None = None
        self._seen = 0  # changes of it
        self._next = self._place  # behind what waits to leave as a batch

    def position(self) -> tuple[Any, ...]:
        place = self._place
        return (place.pieces, place.log, place.commit, place.given)

    def checkpointed(self, position: Any) -> None:
        log = Place(*position).log
        if log is not None:
            self._flushed = max(self._flushed, log)
            if self._following is not None:
                self._following.flushed = self._flushed
                self._unless_gone(lambda: self._tell(now=True))

    def poll(self, max_rows: int) -> Polled:
        return self._unless_gone(lambda: self._poll(max_rows))

    def close(self) -> None:
        copying, following = self._copying, self._following
        self._copy = self._copying = self._following = None
        let_go(copying)
        if following is not None:
            following.close()

    def _unless_gone(self, do: Any) -> Any:
        """Do something; where the server is gone, try again later from where we stand."""
        try:
            return do()
        except (driver().OperationalError, Unreachable) as error:
            self.close()
            self._tries += 1
            if self._tries >= _TRIES_MAX:
                raise SourceError(
                    f"{self._source.describe()} has lost its server: {' '.join(str(error).split())}"
                ) from None
            pause_us = _FIRST_PAUSE_US << self._tries
            return Later(time.monotonic_ns() // 1000 + pause_us)

    def _poll(self, max_rows: int) -> Polled:
        doing = self._source.server.translated(f"{self._source.describe()} failed", gone=True)
        with doing:
            if self._place.log is None:
                if self._copy is None:
                    self._begin_copy()
                rows = self._read_copy(max_rows)
                if rows is not None:
                    return rows
            if self._following is None:
                self._begin_following()
            return self._read_changes(max_rows)

    # The snapshot ----------------------------------------------------------------------------

    def _begin_copy(self) -> None:
        source, pieces = self._source, self._place.pieces
        with source.server.connect() as connection:
            source.prepare(connection, anew=not pieces)
            check_slot(connection, source.slot, pieces[0][1] if pieces else None)
        one = moment(source.server)
        self._copying, self._moment = one.connection, one.lsn
        after = pieces[-1][0] if pieces else None
        relation = source.relation(self._copying)
        self._copy = TableCopy(self._copying, relation, KeyRange(after=after))

    def _read_copy(self, max_rows: int) -> Batch | None:
        assert self._copy is not None, "a copy is begun before it is read"
        read = self._copy.read(max_rows)
        self._tries = 0
        if read is None:
            pieces = self._with_piece(None)
            self._place = Place(pieces, log=pieces[0][1])
            self.close()
            return None
        texts, last = read
        ops = ["+I"] * texts.num_rows
        rows = rows_of(texts, self._source.schema, tolerant=self._source.tolerant, ops=ops)
        self._place = Place(self._with_piece(last))
        return rows

    def _with_piece(self, last: Key | None) -> Pieces:
        pieces = self._place.pieces
        if pieces and pieces[-1][1] == self._moment:
            pieces = pieces[:-1]
        return (*pieces, (last, self._moment))

    # The log ---------------------------------------------------------------------------------

    def _begin_following(self) -> None:
        source, place = self._source, self._place
        assert place.log is not None, "the snapshot is complete"
        with source.server.connect() as connection:
            source.prepare(connection, anew=False)
            check_slot(connection, source.slot, place.log)
            keys = source.relation(connection).key
        self._table = _Table(source, keys)
        self._following = Following(source.server, source.slot, source.publication, place.log)
        self._following.flushed = self._flushed
        self._transaction, self._seen, self._next = None, 0, place

    def _read_changes(self, max_rows: int) -> Batch | None:
        assert self._following is not None, "it is begun before it is read"
        assert self._table is not None, "its table is known"
        for frame in self._following.frames(wait=True):
            self._tries = 0
            message = read_message(frame)
            if message is not None:
                self._take(message, self._table)
            if self._table.count >= max(max_rows - 1, 1):
                break  # one change is two rows at most, and they stay together
        rows = self._table.batch(tolerant=self._source.tolerant)
        if rows is None and (self._next.log or 0) - (self._place.log or 0) > _SILENT_BYTES:
            rows = Batch(pa.RecordBatch.from_pylist([], schema=self._source.schema))
        if rows is not None:
            self._place = self._next
        self._tell()
        return rows

    def _take(self, message: Message, table: _Table) -> None:
        place = self._next
        match message:
            case Begin():
                self._transaction, self._seen = message, 0
            case Commit(end_lsn):
                self._transaction = None
                self._advance(end_lsn)
            case KeepAlive(end_lsn, answer):
                if self._transaction is None:
                    self._advance(end_lsn)
                self._tell(now=answer)
            case Relation():
                table.learn(message)
            case Change():
                if table.id != message.relation:
                    return
                begin = self._transaction
                assert begin is not None, "changes come in transactions"
                self._seen += 1
                if begin.lsn == place.commit and self._seen <= place.given:
                    return
                table.add(message, begin.lsn, place.pieces)
                self._next = Place(place.pieces, place.log, begin.lsn, self._seen)
            case Truncate(relations):
                if table.id in relations:
                    raise ConfigError(
                        f"table {self._source.table} was truncated, which tells nothing of the "
                        "rows that were in it",
                        hint="DELETE tells of each. Start the job without a snapshot: it reads "
                        "the table again",
                    )
            case _:
                assert_never(message)

    def _advance(self, log: int) -> None:
        """Stand behind everything that was committed before a place in the log."""
        place = self._next
        log = max(place.log or 0, log)
        done = all(lsn <= log for _, lsn in place.pieces)
        # A transaction that was given in part, and is to come again, is not behind us yet.
        commit, given = (place.commit, place.given) if place.commit >= log else (0, 0)
        self._next = Place(() if done else place.pieces, log, commit, given)

    def _tell(self, *, now: bool = False) -> None:
        if self._following is not None:
            self._following.tell(self._next.log or 0, now=now)


class _Table:
    """Gathers the changes of one table until they leave as a batch."""

    def __init__(self, source: PostgresCdcSource, key: Sequence[Column]) -> None:
        self._source = source
        self._key = key
        self._columns: list[int] = []
        self._key_places: list[int] = []
        self._ops: list[str] = []
        self._rows: list[list[str | None]] = []
        self._unreadable: list[tuple[Any, SourceError]] = []
        self.id = -1

    @property
    def count(self) -> int:
        """Rows that wait."""
        return len(self._rows)

    def learn(self, relation: Relation) -> None:
        """Take what columns rows have from here on, if they are of this table.

        Raises: ConfigError where one that is read is gone.
        """
        schema, _, name = self._source.table.rpartition(".")
        if relation.name != name or (schema and relation.schema != schema):
            return
        names = self._source.schema.names
        gone = [name for name in names if name not in relation.columns]
        if gone:
            raise ConfigError(
                f"column {', '.join(gone)} of table {self._source.table} is gone",
                hint="start the job with a schema= that does without, from its last savepoint",
            )
        self.id = relation.id
        self._columns = [relation.columns.index(name) for name in names]
        self._key_places = [relation.columns.index(column.name) for column in self._key]

    def add(self, change: Change, commit: int, pieces: Pieces) -> None:
        """Take a change, as one or two rows; those that the snapshot had are left out."""
        old, new = change.old, change.new
        if new is None:
            assert old is not None, "a row that is deleted is told by its key at least"
            self._add("-D", old, commit, pieces)
            return
        if old is None:
            self._add("+U" if change.update else "+I", new, commit, pieces)
            return
        if not change.key_only:
            # What lies out of line and did not change stands in the old row.
            new = [was if now is UNSENT else now for was, now in zip(old, new, strict=True)]
        same = self._key_of(old) == self._key_of(new)
        if not (change.key_only and same):
            self._add("-U" if same else "-D", old, commit, pieces)
        self._add("+U" if same else "+I", new, commit, pieces)

    def batch(self, *, tolerant: bool) -> Batch | None:
        """Give what was gathered; None where that is nothing."""
        ops, rows, unreadable = self._ops, self._rows, self._unreadable
        self._ops, self._rows, self._unreadable = [], [], []
        if unreadable and not tolerant:
            raise unreadable[0][1]
        if not rows and not unreadable:
            return None
        names = self._source.schema.names
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        texts = pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns], names=names)
        batch = rows_of(texts, self._source.schema, tolerant=tolerant, ops=ops)
        batch.unreadable = [*unreadable, *batch.unreadable]
        return batch

    def _add(self, op: str, row: Sequence[Value], commit: int, pieces: Pieces) -> None:
        if pieces and commit < _moment_of(self._key_of(row), self._key, pieces):
            return
        values = [row[place] for place in self._columns]
        told = [None if value is UNSENT else value for value in values]
        if UNSENT in values:
            names = self._source.schema.names
            unsent = [name for name, value in zip(names, values, strict=True) if value is UNSENT]
            error = SourceError(
                f"table {self._source.table} does not tell {', '.join(unsent)} of a row that was "
                "updated: the value is stored out of line and did not change",
                hint=f"ALTER TABLE {self._source.table} REPLICA IDENTITY FULL",
            )
            self._unreadable.append((dict(zip(names, told, strict=True)), error))
            return
        self._ops.append(op)
        self._rows.append(told)

    def _key_of(self, row: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(row[place] for place in self._key_places)


def _moment_of(key: Sequence[Value], columns: Sequence[Column], pieces: Pieces) -> int:
    """Give the moment at which the snapshot showed a key."""
    at = _comparable(key, columns)
    for last, lsn in pieces:
        if last is None or at <= _comparable(last, columns):
            return lsn
    raise AssertionError("the last piece of a snapshot has no end")


def _comparable(key: Sequence[Value], columns: Sequence[Column]) -> tuple[Any, ...]:
    """Give a key so that Python orders it as the server does."""
    values: list[Any] = []
    for text, column in zip(key, columns, strict=True):
        assert isinstance(text, str), "keys are neither null nor out of line"
        if pa.types.is_integer(column.type):
            values.append(int(text))
        elif pa.types.is_decimal(column.type):
            number = Decimal(text)
            values.append((number.is_nan(), Decimal(0) if number.is_nan() else number))
        else:
            values.append(text.encode())
    return tuple(values)
