"""Read a table or a query of PostgreSQL once, in ranges of its key that are read side by side."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.connectors.postgres_copy import (
    Key,
    KeyedRelation,
    KeyRange,
    TableCopy,
    key_columns,
    rows_of,
)
from raystream.connectors.postgres_server import (
    found,
    let_go,
    primary_key,
    quoted,
    source_server,
)
from raystream.connectors.postgres_types import columns_of, types_of
from raystream.contracts.secret import Secret
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import ExternalError, PlanError
from raystream.flow.normal import normal_schema

_SAMPLED_ABOVE_ROWS = 1_000_000
"""Tables with more rows are divided by a sample: to number each row would read all of them."""

_SAMPLED_ROWS = 50_000


class PostgresSource(Source):
    """Read the rows of a table, or of a query, that are there: each exactly once.

    Guarantee: exactly once, as long as rows keep their keys; a position is the key of the last row,
    and reading goes on behind it. Each range is read by a query of its own: of what is written
    meanwhile some ranges see more than others. ``PostgresCdcSource`` gives one moment's table, and
    all that changes from then on.

    ``table`` is ``"name"`` or ``"schema.name"``; ``query`` a SELECT instead. ``key`` orders the
    rows and tells each from all others; by default it is the table's primary key. It is cut into
    ``ranges`` of about as many rows each, which is how many subtasks can read at a time. How many
    there are belongs to the job: do not change it between a checkpoint and its restart.

    ``schema`` names the columns that are read and their types; by default all columns are, as the
    types of the table say. Where ``dsn`` or ``password`` is a ``rs.secret`` that is not known where
    the job is built, ``schema`` must be given, and ``key``.

    Raises: PlanError for a password in ``dsn``, a table or a column that is not there, a type that
    nothing stands for.
    """

    def __init__(
        self,
        dsn: str | Secret,
        table: str | None = None,
        *,
        query: str | None = None,
        key: Sequence[str] | str | None = None,
        schema: pa.Schema | None = None,
        ranges: int = 16,
        password: Secret | None = None,
    ) -> None:
        self._server = source_server(dsn, password)
        if (table is None) == (query is None):
            raise PlanError("PostgresSource takes table= or query=, one of the two")
        if ranges < 1:
            raise PlanError(f"ranges must be positive, got {ranges!r}")
        self._table, self._query, self._ranges = table, query, ranges
        self._named = f"table {table}" if table is not None else "the query"
        given = (key,) if isinstance(key, str) else key
        self._key = None if given is None else tuple(given)
        asked = None if schema is None else normal_schema(pa.schema(schema))
        if asked is None or self._key is None:
            asked = self._look(asked)
        self.schema: pa.Schema = asked
        self._all = asked
        self._tolerant = False

    def splits(self) -> Sequence[Split]:
        doing = self._server.translated(f"cannot divide {self._named}")
        with self._server.connect() as connection, doing:
            relation = self._relation(connection, self.schema)
            bounds = _bounds(connection, relation, self._ranges, sampled=self._query is None)
        ends: list[Key | None] = [*bounds, None]
        within = [KeyRange(a, b) for a, b in zip([None, *bounds], ends, strict=True)]
        # Always as many: those that a checkpoint names must be all that there are.
        empty = [None] * (self._ranges - len(within))
        return [Split(f"range {n}", one) for n, one in enumerate([*within, *empty])]

    def open(self, split: Split, position: Any) -> Reader:
        within: KeyRange | None = split.payload
        if within is not None and position is not None:
            within = KeyRange(tuple(position), within.upto)
        return _RangeReader(self, within, position)

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that reads only these columns, in the order of the schema."""
        wanted = set(columns)
        kept = [name for name in self.schema.names if name in wanted] or self.schema.names[:1]
        if kept == self.schema.names:
            return self
        narrow = copy.copy(self)
        narrow.schema = pa.schema([self.schema.field(name) for name in kept])
        return narrow

    def tolerating(self) -> Source:
        """Give a source that hands over rows whose values have no place in the schema."""
        tolerant = copy.copy(self)
        tolerant._tolerant = True  # noqa: SLF001  a copy of this
        return tolerant

    def describe(self) -> str:
        narrow = f" [{', '.join(self.schema.names)}]" if self.schema != self._all else ""
        return f"PostgresSource({self._server}, {self._named}){narrow}"

    def _look(self, asked: pa.Schema | None) -> pa.Schema:
        """Read what was not given, where the job is built."""
        if not self._server.is_known:
            raise PlanError(
                f"what {self._named} holds cannot be read here: {self._server} is not known",
                hint="give schema= and key=, or set the secret where the job is built, too",
            )
        doing = self._server.translated(f"cannot read {self._named}")
        with self._server.connect() as connection, doing:
            relation = self._relation(connection, asked)
        self._key = tuple(column.name for column in relation.key)
        return relation.schema

    def _relation(self, connection: Any, schema: pa.Schema | None) -> KeyedRelation:
        what = f"PostgresSource: {self._named}"
        if self._table is not None:
            table = found(connection, self._table, "PostgresSource")
            sql, key = table.sql, self._key or primary_key(connection, table)
        else:
            sql, key = f"({self._query}) AS rows", self._key or ()
        if not key:
            raise PlanError(
                f"{what} has no key that orders its rows",
                hint="give key=, columns that tell each row from all others",
            )
        columns = columns_of(connection, sql, what, schema)
        every = columns if schema is None else types_of(connection, sql, what, key)
        return KeyedRelation(sql, tuple(columns), key_columns(every, key, what))

    @property
    def tolerant(self) -> bool:
        """Whether rows that cannot be read are handed over."""
        return self._tolerant

    def copy_of(self, within: KeyRange) -> tuple[Any, TableCopy]:
        """Begin to read a range, over a connection of its own."""
        connection = self._server.connect()
        try:
            with self._server.translated(f"cannot read {self._named}"):
                relation = self._relation(connection, self.schema)
                return connection, TableCopy(connection, relation, within)
        except ExternalError:
            let_go(connection)
            raise

    def read(self, rows: TableCopy, rows_max: int) -> tuple[pa.RecordBatch, Key] | None:
        """Read on."""
        with self._server.translated(f"cannot read {self._named}"):
            return rows.read(rows_max)


class _RangeReader(Reader):
    """Reads one range; its position is the key of the last row."""

    def __init__(self, source: PostgresSource, within: KeyRange | None, position: Any) -> None:
        self._source = source
        self._within = within
        self._position: Key | None = None if position is None else tuple(position)
        self._connection: Any = None
        self._copy: TableCopy | None = None

    def poll(self, max_rows: int) -> Polled:
        if self._within is None:
            return END
        if self._copy is None:
            self._connection, self._copy = self._source.copy_of(self._within)
        read = self._source.read(self._copy, max_rows)
        if read is None:
            return END
        texts, self._position = read
        return rows_of(texts, self._source.schema, tolerant=self._source.tolerant)

    def position(self) -> Key | None:
        return self._position

    def close(self) -> None:
        connection, self._connection, self._copy = self._connection, None, None
        let_go(connection)


def _bounds(connection: Any, relation: KeyedRelation, ranges: int, *, sampled: bool) -> list[Key]:
    """Give the keys that end all ranges but the last; fewer where there are few rows.

    Source: the sample is the server's own, by blocks: good enough for ranges of about one size.
    """
    rows = relation.sql
    if sampled:
        (estimate,) = connection.execute(
            "SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [relation.sql]
        ).fetchone()
        if estimate > _SAMPLED_ABOVE_ROWS:
            rows = (
                f"{rows} TABLESAMPLE SYSTEM ({100 * _SAMPLED_ROWS / estimate:.6f}) REPEATABLE (1)"
            )
    names = [quoted(column.name) for column in relation.key]
    texts = ", ".join(f"{name}::text" for name in names)
    every = f"((rows + {ranges} - 1) / {ranges})"
    ends = connection.execute(
        f"SELECT {texts} FROM (SELECT *, count(*) OVER () AS rows, "
        f"row_number() OVER (ORDER BY {relation.order}) AS place "
        f"FROM (SELECT {', '.join(names)} FROM {rows}) AS keys) AS numbered "
        f"WHERE place < rows AND mod(place, {every}) = 0 ORDER BY place"
    )
    return [tuple(key) for key in ends]
