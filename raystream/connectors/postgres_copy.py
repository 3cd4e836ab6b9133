"""Rows of a table in the order of its key: a COPY, parsed in blocks, that can go on anywhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.csv as pcsv

from raystream.connectors.postgres_server import await_more, begin_copy, end_copy, literal, quoted
from raystream.connectors.postgres_types import Column, typed
from raystream.contracts.batch import Batch
from raystream.errors import PlanError

Key: TypeAlias = tuple[str, ...]
"""The values of the key columns, as the server writes them."""

_BLOCK_BYTES_MAX = 8 * 1024 * 1024

_CSV = pcsv.ParseOptions(newlines_in_values=True)


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows with a key above ``after``, and up to ``upto``; None is no bound."""

    after: Key | None = None
    upto: Key | None = None


@dataclass(frozen=True, slots=True)
class KeyedRelation:
    """What stands behind FROM, the columns that are read of it, and its key, which orders it."""

    sql: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns that are read."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    @property
    def order(self) -> str:
        """The key as expressions whose order does not depend on a language."""
        return ", ".join(_ordered(column) for column in self.key)

    def select(self, within: KeyRange) -> str:
        """Give the query of a range: the columns, then the key."""
        wanted = [quoted(column.name) for column in (*self.columns, *self.key)]
        bounds = [(">", within.after), ("<=", within.upto)]
        tests = [
            f"({self.order}) {sign} ({', '.join(map(literal, key))})"
            for sign, key in bounds
            if key is not None
        ]
        where = f" WHERE {' AND '.join(tests)}" if tests else ""
        return f"SELECT {', '.join(wanted)} FROM {self.sql}{where} ORDER BY {self.order}"


def key_columns(columns: Sequence[Column], key: Sequence[str], what: str) -> tuple[Column, ...]:
    """Give the columns of a key, which must be ones that have an order.

    Raises: PlanError naming the one that is missing, or has none.
    """
    there = {column.name: column for column in columns}
    for name in key:
        if name not in there:
            raise PlanError(f'{what}: key column "{name}" is none of {", ".join(there)}')
        kind = there[name].type
        if pa.types.is_floating(kind) or kind.num_fields:
            raise PlanError(
                f'{what}: rows cannot be read in the order of "{name}", {there[name].type_name}',
                hint="a key is of integers, numerics, texts, uuids, bytes, dates or times",
            )
    return tuple(there[name] for name in key)


def _ordered(column: Column) -> str:
    return f'{quoted(column.name)}::text COLLATE "C"' if column.is_text else quoted(column.name)


class TableCopy:
    """The rows of a range as texts, block by block; its connection is its own."""

    def __init__(self, connection: Any, relation: KeyedRelation, within: KeyRange) -> None:
        self._names = [str(n) for n in range(len(relation.columns) + len(relation.key))]
        self._columns = len(relation.columns)
        self._connection, self._wire = connection, connection.pgconn
        begin_copy(connection, f"COPY ({relation.select(within)}) TO STDOUT (FORMAT csv)")
        self._ended = False
        self._convert = pcsv.ConvertOptions(
            column_types=dict.fromkeys(self._names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )

    def read(self, rows_max: int) -> tuple[pa.RecordBatch, Key] | None:
        """Give rows as texts, with the key of the last one; None where no more are.

        Shapes: texts [n], their columns those of the relation.
        """
        lines: list[bytes] = []
        size = 0
        # A loop over rows: the server sends each in a message of its own.
        while not self._ended and len(lines) < rows_max and size < _BLOCK_BYTES_MAX:
            length, line = self._wire.get_copy_data(1)
            if length > 0:
                lines.append(line)
                size += length
            elif length == 0:
                await_more(self._connection, None)
            else:
                end_copy(self._connection)
                self._ended = True
        if not lines:
            return None
        options = pcsv.ReadOptions(
            use_threads=False, block_size=max(size + 1, 1 << 16), column_names=self._names
        )
        read = pcsv.read_csv(
            io.BytesIO(b"".join(lines)),
            read_options=options,
            parse_options=_CSV,
            convert_options=self._convert,
        )
        texts = read.combine_chunks().to_batches()[0]
        assert texts.num_rows == len(lines), "one message of the server is one row"
        key = [texts.column(n)[-1].as_py() for n in range(self._columns, len(self._names))]
        return texts.select(self._names[: self._columns]), tuple(key)


def rows_of(
    texts: pa.RecordBatch, schema: pa.Schema, *, tolerant: bool, ops: list[str] | None = None
) -> Batch:
    """Make a batch of the server's texts.

    Raises: SourceError for a row that does not fit, unless such rows are to be handed over.
    """
    rows, failures = typed(texts, schema)
    if failures and not tolerant:
        raise failures[0][1]
    raw = texts.rename_columns(schema.names) if failures else texts
    unreadable = [(raw.slice(place, 1).to_pylist()[0], error) for place, error in failures]
    if ops is not None and failures:
        lost = {place for place, _ in failures}
        ops = [op for place, op in enumerate(ops) if place not in lost]
    return Batch(rows, ops=ops, unreadable=unreadable)
