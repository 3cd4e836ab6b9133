"""What a row is in Redis: a hash, a string, a member of a sorted set, an entry of a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.json_texts import json_texts
from raystream.connectors.key_template import KeyTemplate
from raystream.connectors.text_columns import texts
from raystream.errors import SinkError

MEMBER = "\0"
"""Stands between a set and its member where both are one text."""


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash a row: a field each column, without those that are null.

    ``takes`` is what a key must hold, if anything; None where it does not matter.
    """

    ttl_ms: int | None
    name = "hash"
    takes = None
    columns: tuple[str, ...] = ()

    def encoded(self, rows: pa.RecordBatch, key: KeyTemplate) -> tuple[pa.Array, pa.Array]:
        """Give the key and the value of each row."""
        return key.keys(rows), _fields(rows)

    def put(self, pipe: Any, key: str, value: bytes) -> int:
        """Ask to write a value; give how many answers that has."""
        pipe.delete(key)
        fields = _present(value)
        if not fields:
            return 1
        pipe.hset(key, mapping=fields)
        return 2 + _expire(pipe, key, self.ttl_ms)

    def remove(self, pipe: Any, key: str) -> int:
        """Ask to remove a value; give how many answers that has."""
        pipe.delete(key)
        return 1


@dataclass(frozen=True, slots=True)
class String:
    """A string a row: one column, or the row as JSON."""

    value: str | None
    ttl_ms: int | None
    name = "string"
    takes = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        return () if self.value is None else (self.value,)

    def encoded(self, rows: pa.RecordBatch, key: KeyTemplate) -> tuple[pa.Array, pa.Array]:
        """Give the key and the value of each row."""
        if self.value is None:
            return key.keys(rows), json_texts(rows)
        column = rows.column(self.value)
        if column.null_count:
            raise SinkError(f'column "{self.value}" is null: there is no value to keep')
        plain = column if pa.types.is_binary(column.type) else texts(column)
        return key.keys(rows), plain.cast(pa.binary())

    def put(self, pipe: Any, key: str, value: bytes) -> int:
        """Ask to write a value; give how many answers that has."""
        pipe.set(key, value, px=self.ttl_ms)
        return 1

    def remove(self, pipe: Any, key: str) -> int:
        """Ask to remove a value; give how many answers that has."""
        pipe.delete(key)
        return 1


@dataclass(frozen=True, slots=True)
class SortedSet:
    """A member of the set that the key names, with a column as its score."""

    member: KeyTemplate
    score: str
    name = "sorted_set"
    takes = b"zset"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        return (*self.member.columns, self.score)

    def encoded(self, rows: pa.RecordBatch, key: KeyTemplate) -> tuple[pa.Array, pa.Array]:
        """Give the set and member of each row as one key, and its score."""
        scores = rows.column(self.score)
        try:
            numbers = scores.cast(pa.float64(), safe=False)
        except pa.ArrowException as error:
            raise SinkError(f'score column "{self.score}" holds no number: {error}') from error
        if numbers.null_count or pc.any(pc.is_nan(numbers)).as_py():
            raise SinkError(f'score column "{self.score}" is null or no number')
        sets, members = key.keys(rows), self.member.keys(rows)
        if pc.any(pc.match_substring(sets, MEMBER)).as_py():
            raise SinkError("the name of a sorted set has the character NUL in it")
        keys = pc.binary_join_element_wise(sets, members, MEMBER)
        return keys, numbers.cast(pa.string()).cast(pa.binary())

    def put(self, pipe: Any, key: str, value: bytes) -> int:
        """Ask to write a member; give how many answers that has."""
        name, _, member = key.partition(MEMBER)
        pipe.zadd(name, {member: float(value)})
        return 1

    def remove(self, pipe: Any, key: str) -> int:
        """Ask to remove a member; give how many answers that has."""
        name, _, member = key.partition(MEMBER)
        pipe.zrem(name, member)
        return 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the stream that the key names: a field each column, without those of null."""

    length_max: int | None
    name = "stream"
    takes = b"stream"
    columns: tuple[str, ...] = ()

    def encoded(self, rows: pa.RecordBatch, key: KeyTemplate) -> tuple[pa.Array, pa.Array]:
        """Give the stream and the fields of each row."""
        return key.keys(rows), _fields(rows)

    def put(self, pipe: Any, key: str, value: bytes) -> int:
        """Ask to add an entry; give how many answers that has."""
        fields = _present(value) or {"": ""}
        pipe.xadd(key, fields, maxlen=self.length_max, approximate=True)
        return 1

    def remove(self, pipe: Any, key: str) -> int:
        """Nothing that was added to a stream is taken back."""
        raise AssertionError("a stream takes no changes")


Kind: TypeAlias = Hash | String | SortedSet | Entry


def _fields(rows: pa.RecordBatch) -> pa.Array:
    written = [texts(column) for column in rows.columns]
    return json_texts(pa.RecordBatch.from_arrays(written, names=rows.schema.names))


def _present(value: bytes) -> dict[str, str]:
    return {name: text for name, text in json.loads(value).items() if text is not None}


def _expire(pipe: Any, key: str, ttl_ms: int | None) -> int:
    if ttl_ms is None:
        return 0
    pipe.pexpire(key, ttl_ms)
    return 1
