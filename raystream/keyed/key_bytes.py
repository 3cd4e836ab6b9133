"""Canonical keys as bytes that tell their own length: what an ordered store on disk sorts by.

Each value is a letter and what follows it, so that a key is never the beginning of another one::

    None      N              bytes      b length raw      datetime   M int (microseconds)
    True      t              str        s length UTF-8    date       D int (days)
    False     f              Decimal    c length text     time       T int (microseconds)
    int       i 8 bytes      float      d 8 bytes         timedelta  m int (microseconds)
    int       I length text, beyond 64 bits               tuple      ( count each

Units: numbers are big-endian, a length and a count have 4 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

_INT = struct.Struct(">cq")
_FLOAT = struct.Struct(">cd")
_LENGTH = struct.Struct(">cI")
_COUNT = struct.Struct(">I")
_TICKS: dict[Any, bytes] = {datetime: b"M", date: b"D", time: b"T", timedelta: b"m"}
_KINDS = {letter: kind for kind, letter in _TICKS.items()}


def key_bytes(key_id: Any) -> bytes:
    """Write a key in canonical form."""
    kind = type(key_id)
    if kind is int:
        if -(2**63) <= key_id < 2**63:
            return _INT.pack(b"i", key_id)
        return _with_length(b"I", b"%d" % key_id)
    if kind is str:
        return _with_length(b"s", key_id.encode("utf-8", "surrogatepass"))
    if kind is bytes:
        return _with_length(b"b", key_id)
    if key_id is None:
        return b"N"
    assert kind is tuple, f"no canonical form is a {kind.__name__}"
    mark = key_id[0]
    if mark is tuple:
        return _LENGTH.pack(b"(", len(key_id) - 1) + b"".join(map(key_bytes, key_id[1:]))
    value = key_id[1]
    if mark is bool:
        return b"t" if value else b"f"
    if mark is float:
        return _FLOAT.pack(b"d", float(value))
    if mark is Decimal:
        return _with_length(b"c", value.encode())
    return _TICKS[mark] + key_bytes(value)


def read_key(raw: bytes, start: int = 0) -> tuple[Hashable, int]:
    """Read the key that begins at ``start``, and where it ends."""
    letter = raw[start : start + 1]
    if letter == b"i":
        return _INT.unpack_from(raw, start)[1], start + _INT.size
    if letter in b"MDTm":
        ticks, end = read_key(raw, start + 1)
        return (_KINDS[letter], ticks), end
    if letter in b"Ntf":
        return None if letter == b"N" else (bool, letter == b"t"), start + 1
    if letter == b"d":
        number = _FLOAT.unpack_from(raw, start)[1]
        return (float, number if number == number else "nan"), start + _FLOAT.size  # noqa: PLR0124
    count = _COUNT.unpack_from(raw, start + 1)[0]
    begin = start + _LENGTH.size
    if letter == b"(":
        parts: list[Any] = [tuple]
        for _ in range(count):
            part, begin = read_key(raw, begin)
            parts.append(part)
        return tuple(parts), begin
    return _of_text(letter, raw[begin : begin + count]), begin + count


def _of_text(letter: bytes, text: bytes) -> Hashable:
    if letter == b"s":
        return text.decode("utf-8", "surrogatepass")
    if letter == b"b":
        return text
    return int(text) if letter == b"I" else (Decimal, text.decode())


def _with_length(letter: bytes, text: bytes) -> bytes:
    return _LENGTH.pack(letter, len(text)) + text
