"""Which formats messages of Kafka may have, and what else of a message may become a column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.connectors import kafka_client
from raystream.connectors.json_records import CsvRecords, JsonRecords
from raystream.connectors.plain_records import ArrowRecords, PlainRecords
from raystream.connectors.record_formats import (
    Decode,
    Decoded,
    Format,
    Found,
    Rows,
    decoded,
    unknown_format,
)
from raystream.errors import PlanError, SourceError
from raystream.flow.normal import normal_type

Messages: TypeAlias = Sequence[Any]
"""Messages of the client, none of them an error."""


class Taken:
    """What was taken out of messages: their values, offsets, and what ``wanted`` names of them.

    The messages themselves are let go of a piece at a time. Thousands of them would be looked at
    again and again by the collector of garbage, which took a quarter of all time.
    """

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self.values: list[bytes | None] = []
        self.offsets: list[int] = []
        self.beside: dict[str, list[Any]] = {what: [] for what in wanted}

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, messages: Messages) -> None:
        """Take what is wanted out of more messages."""
        of = kafka_client.client().Message
        # Loops over messages, in C.
        self.values += map(of.value, messages)
        self.offsets += map(of.offset, messages)
        for what, found in self.beside.items():
            found.extend(map(getattr(of, what), messages))


HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
_TIME = pa.timestamp("us", "UTC")

_BY_NAME: dict[str, Format] = {
    "json": JsonRecords(),
    "csv": CsvRecords(),
    "raw": PlainRecords("raw"),
    "text": PlainRecords("text"),
    "arrow": ArrowRecords(),
}


def format_of(format: str | Format) -> Format:
    """Give the format of a name, or the one that is given.

    Raises: PlanError for an unknown name.
    """
    if isinstance(format, str):
        if format not in _BY_NAME:
            raise unknown_format(format, [*_BY_NAME, "kafka.Avro(…)", "kafka.Protobuf(…)"])
        return _BY_NAME[format]
    if not callable(getattr(format, "decoder", None)):
        raise unknown_format(format, [*_BY_NAME, "kafka.Avro(…)", "kafka.Protobuf(…)"])
    return format


@dataclass(frozen=True, slots=True)
class Metadata:
    """The columns beside the values: each what it is called, its type, and what it is of a message.

    ``schema`` is that of the rows, values first; None on an object stream.
    """

    schema: pa.Schema | None
    added: tuple[tuple[str, pa.DataType, str], ...]

    @classmethod
    def of(
        cls, columns: pa.Schema | None, *, key: str | pa.Field | None, **named: str | None
    ) -> Metadata:
        """Name what is to be added.

        Raises: PlanError for a name that is taken, or a type that a key cannot have.
        """
        added: list[tuple[str, pa.DataType, str]] = []
        if key is not None:
            field = pa.field(key, pa.binary()) if isinstance(key, str) else key
            kind = normal_type(field.type)
            if kind not in {pa.binary(), pa.string()}:
                raise PlanError(f"a key is read as bytes or a string, not as {kind}")
            added.append((field.name, kind, "key"))
        for what, name in named.items():
            if name is not None:
                added.append((name, _TYPES[what], what))
        taken = [] if columns is None else list(columns.names)
        for name, _, what in added:
            if name in taken:
                raise PlanError(f'{what}="{name}": there is another column of this name')
            taken.append(name)
        if columns is None:
            return cls(None, tuple(added))
        fields = [*columns, *(pa.field(name, kind) for name, kind, _ in added)]
        return cls(pa.schema(fields), tuple(added))

    def taken(self) -> Taken:
        """Give what takes values, and what the columns beside them need."""
        return Taken(what for _, _, what in self.added)

    def found(self, taken: Taken, decode: Decode, columns: pa.Schema | None) -> Found:
        """Decode messages; what is broken is told with its place among them."""
        nothing: Rows = [] if columns is None else pa.RecordBatch.from_pylist([], columns)
        found = decoded(taken.values, decode, nothing)
        if not self.added:
            return found
        if any(what == "key" and kind != pa.binary() for _, kind, what in self.added):
            found = _with_utf8_keys(found, taken.beside["key"])
        return Found(self._with(found, taken), found.places, found.broken)

    def _with(self, found: Found, taken: Taken) -> Rows:
        rows, places = found.rows, pa.array(found.places)
        columns = [
            (name, _READS[what](taken.beside[what]).take(places).cast(kind))
            for name, kind, what in self.added
        ]
        if isinstance(rows, list):
            lists = [(name, column.to_pylist()) for name, column in columns]
            return [
                {**_dict(row), **{name: values[i] for name, values in lists}}
                for i, row in enumerate(rows)
            ]
        assert self.schema is not None, "columns have a schema"
        arrays = [*rows.columns, *(column for _, column in columns)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _dict(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else {"value": row}


def _with_utf8_keys(found: Found, keys: Sequence[bytes | None]) -> Found:
    """Take out the messages whose keys are no text."""
    bad: dict[int, SourceError] = {}
    for place in dict.fromkeys(found.places.tolist()):
        key = keys[place]
        try:
            if key is not None:
                key.decode()
        except UnicodeDecodeError as error:
            bad[place] = SourceError(f"the key is no UTF-8: {error}")
    if not bad:
        return found
    kept = np.flatnonzero(~np.isin(found.places, list(bad)))
    rows = (
        [found.rows[i] for i in kept.tolist()]
        if isinstance(found.rows, list)
        else found.rows.take(pa.array(kept))
    )
    broken = sorted([*found.broken, *bad.items()], key=lambda one: one[0])
    return Found(rows, found.places[kept], tuple(broken))


def _keys(keys: Sequence[bytes | None]) -> pa.Array:
    return pa.array(keys, pa.binary())


def _headers(headers: Sequence[Any]) -> pa.Array:
    # A loop over messages: each has a list of its own.
    pairs = [[{"key": key, "value": value} for key, value in some or ()] for some in headers]
    return pa.array(pairs, HEADERS)


def _timestamps(kinds_and_times: Sequence[tuple[int, int]]) -> pa.Array:
    # Of the producer's clock or the broker's, as the topic says; -1 where there is none.
    pairs = np.array(kinds_and_times, np.int64)
    times = pairs.reshape(-1, 2)[:, 1]
    return pa.array(times * 1000, pa.int64(), mask=times < 0)


_TYPES = {
    "headers": HEADERS,
    "timestamp": _TIME,
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
}
_READS: dict[str, Callable[[Sequence[Any]], pa.Array]] = {
    "key": _keys,
    "headers": _headers,
    "timestamp": _timestamps,
    "topic": lambda names: pa.array(names, pa.string()),
    "partition": lambda numbers: pa.array(numbers, pa.int32()),
    "offset": lambda offsets: pa.array(offsets, pa.int64()),
}

__all__ = ["HEADERS", "Decoded", "Metadata", "Taken", "format_of"]
