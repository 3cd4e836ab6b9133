"""Which formats messages of Kafka may have, and what else of a message may become a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def found(self, messages: Messages, decode: Decode, columns: pa.Schema | None) -> Found:
        """Decode messages; what is broken is told with its place among them."""
        values = [*map(kafka_client.client().Message.value, messages)]
        nothing: Rows = [] if columns is None else pa.RecordBatch.from_pylist([], columns)
        if not self.added:
            return decoded(values, decode, nothing)

        def widened(some: Found) -> Found:
            kept = [messages[place] for place in some.places.tolist()]
            return Found(self._with(some.rows, kept), some.places, some.broken)

        found = decoded(values, decode, nothing)
        keys = next(
            (name for name, kind, what in self.added if what == "key" and kind != pa.binary()), None
        )
        return widened(found) if keys is None else widened(_with_utf8_keys(found, messages))

    def _with(self, rows: Rows, messages: Messages) -> Rows:
        columns = [(name, _READS[what](messages, kind)) for name, kind, what in self.added]
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


def _with_utf8_keys(found: Found, messages: Messages) -> Found:
    """Take out the messages whose keys are no text."""
    bad: dict[int, SourceError] = {}
    for place in dict.fromkeys(found.places.tolist()):
        key = messages[place].key()
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


def _keys(messages: Messages, kind: pa.DataType) -> pa.Array:
    keys = [*map(kafka_client.client().Message.key, messages)]
    return pa.array(keys, pa.binary()).cast(kind)


def _headers(messages: Messages, kind: pa.DataType) -> pa.Array:
    pairs = [
        [{"key": key, "value": value} for key, value in message.headers() or ()]
        for message in messages
    ]
    return pa.array(pairs, kind)


def _timestamps(messages: Messages, kind: pa.DataType) -> pa.Array:
    # Of the producer's clock or the broker's, as the topic says; -1 where there is none.
    pairs = np.array([*map(kafka_client.client().Message.timestamp, messages)], np.int64)
    times = pairs.reshape(-1, 2)[:, 1]
    return pa.array(times * 1000, pa.int64(), mask=times < 0).cast(kind)


def _topics(messages: Messages, kind: pa.DataType) -> pa.Array:
    return pa.array([message.topic() for message in messages], kind)


def _partitions(messages: Messages, kind: pa.DataType) -> pa.Array:
    return pa.array([message.partition() for message in messages], kind)


def _offsets(messages: Messages, kind: pa.DataType) -> pa.Array:
    return pa.array([message.offset() for message in messages], kind)


_TYPES = {
    "headers": HEADERS,
    "timestamp": _TIME,
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
}
_READS: dict[str, Callable[[Messages, pa.DataType], pa.Array]] = {
    "key": _keys,
    "headers": _headers,
    "timestamp": _timestamps,
    "topic": _topics,
    "partition": _partitions,
    "offset": _offsets,
}

__all__ = ["HEADERS", "Decoded", "Metadata", "format_of"]
