"""What a server of PostgreSQL sends of its write-ahead log: pgoutput, version 1, read and answered.

Source: PostgreSQL documentation, Streaming Replication Protocol; Logical Replication Messages.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from raystream.errors import SourceError


class Unsent(enum.Enum):
    """The type of ``UNSENT``."""

    UNSENT = "unsent"


UNSENT: Final = Unsent.UNSENT
"""A value that lies out of line and did not change: the server leaves it out."""

Value: TypeAlias = str | Unsent | None


@dataclass(frozen=True, slots=True)
class Begin:
    """The rows of a transaction follow; ``lsn`` is where its commit stands."""

    lsn: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction is complete; the next one comes behind ``end_lsn``."""

    end_lsn: int


@dataclass(frozen=True, slots=True)
class Relation:
    """The columns of a table, which its rows come in from here on."""

    id: int
    schema: str
    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A row; ``old`` is what it was before, whole or (``key_only``) its key; None is not told.

    ``update``: it was there before.
    """

    relation: int
    old: Sequence[Value] | None
    new: Sequence[Value] | None
    key_only: bool = False
    update: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of some tables are gone."""

    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing was committed up to ``end_lsn`` but what was sent; an answer may be wanted."""

    end_lsn: int
    answer: bool


Message: TypeAlias = Begin | Commit | Relation | Change | Truncate | KeepAlive

_STATUS = struct.Struct(">cQQQqB")
_EPOCH_2000_US = 946_684_800_000_000


def lsn_of(text: str) -> int:
    """Read a place in the log as the server writes it: two hex numbers."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def lsn_text(lsn: int) -> str:
    """Write a place in the log as the server reads it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def status_update(received: int, flushed: int, now_us: int) -> bytes:
    """Tell the server what has come, and up to where it never need be sent again."""
    return _STATUS.pack(b"r", received, flushed, flushed, now_us - _EPOCH_2000_US, 0)


def read_message(frame: bytes) -> Message | None:
    """Read one message; None for those that say nothing about rows.

    Raises: SourceError for what is none.
    """
    kind = frame[:1]
    if kind == b"k":
        (end_lsn,) = struct.unpack_from(">Q", frame, 1)
        return KeepAlive(end_lsn, frame[17] == 1)
    if kind != b"w":
        raise SourceError(f"the server sent a message of the unknown kind {kind!r}")
    return _read(frame, 25)


def _read(frame: bytes, at: int) -> Message | None:
    kind = frame[at : at + 1]
    at += 1
    match kind:
        case b"B":
            return Begin(*struct.unpack_from(">Q", frame, at))
        case b"C":
            return Commit(*struct.unpack_from(">Q", frame, at + 9))
        case b"R":
            return _relation(frame, at)
        case b"I":
            (relation,) = struct.unpack_from(">I", frame, at)
            return Change(relation, None, _row(frame, at + 5)[0])
        case b"U" | b"D":
            return _change(frame, at, update=kind == b"U")
        case b"T":
            count, _ = struct.unpack_from(">IB", frame, at)
            return Truncate(struct.unpack_from(f">{count}I", frame, at + 5))
        case b"O" | b"Y" | b"M":
            return None
        case _:
            raise SourceError(f"the server sent a change of the unknown kind {kind!r}")


def _relation(frame: bytes, at: int) -> Relation:
    (number,) = struct.unpack_from(">I", frame, at)
    schema, at = _text(frame, at + 4)
    name, at = _text(frame, at)
    (count,) = struct.unpack_from(">H", frame, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        column, at = _text(frame, at + 1)
        columns.append(column)
        at += 8
    return Relation(number, schema, name, tuple(columns))


def _change(frame: bytes, at: int, *, update: bool) -> Change:
    (relation,) = struct.unpack_from(">I", frame, at)
    at += 4
    old: list[Value] | None = None
    new: list[Value] | None = None
    key_only = False
    while at < len(frame):
        part = frame[at : at + 1]
        row, at = _row(frame, at + 1)
        if part == b"N":
            new = row
        else:
            old, key_only = row, part == b"K"
    return Change(relation, old, new, key_only, update)


def _row(frame: bytes, at: int) -> tuple[list[Value], int]:
    (count,) = struct.unpack_from(">H", frame, at)
    at += 2
    values: list[Value] = []
    # A loop over values: each brings its own length.
    for _ in range(count):
        kind = frame[at]
        at += 1
        if kind == ord("t"):
            length = int.from_bytes(frame[at : at + 4], "big")
            at += 4
            values.append(frame[at : at + length].decode())
            at += length
        else:
            values.append(None if kind == ord("n") else UNSENT)
    return values, at


def _text(frame: bytes, at: int) -> tuple[str, int]:
    end = frame.index(b"\x00", at)
    return frame[at:end].decode(), end + 1
