"""A column of any Arrow type, filled as a function of the rows' numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from raystream.connectors.nexmark_text import strings
from raystream.connectors.seeded import UInt64s, below, random_bits
from raystream.errors import PlanError
from raystream.flow.batch import Int64s

BASE_TIME_US = 1_704_067_200_000_000
"""2024-01-01T00:00:00Z: the time of row 0."""

_TEXT_LENGTH = 8
_LIST_LENGTH = 3
_DAYS = 3_650
_CHILDREN = 32
"""Columns inside of a column: each has a purpose of its own."""


def random_column(kind: pa.DataType, ids: Int64s, purpose: int, step_us: int) -> pa.Array:
    """Fill a column: integers from 0 up, floats in [0, 1), texts of 8 letters, no nulls.

    Timestamps tell the row's own time, ``step_us`` after that of the row before.

    Shapes: ids int64 [n] -> kind [n].
    Raises: PlanError for a type that has no random values here.
    """
    types = pa.types
    if types.is_timestamp(kind):
        return pa.array(BASE_TIME_US + ids * step_us).view(pa.timestamp("us")).cast(kind)
    if types.is_struct(kind):
        fields = list(kind)
        children = [
            random_column(field.type, ids, purpose * _CHILDREN + number + 1, step_us)
            for number, field in enumerate(fields)
        ]
        return pa.StructArray.from_arrays(children, fields=fields)
    if types.is_list(kind):
        inner = (ids[:, None] * _LIST_LENGTH + np.arange(_LIST_LENGTH)).reshape(-1)
        values = random_column(kind.value_type, inner, purpose * _CHILDREN + 1, step_us)
        offsets = np.arange(0, inner.size + 1, _LIST_LENGTH, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)
    for is_kind, make in _MAKERS:
        if is_kind(kind):
            return make(kind, random_bits(0, purpose, ids))
    raise PlanError(
        f"DataGenSource makes no random {kind}", hint="give a function of the row's number instead"
    )


def _integers(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    width = min(kind.bit_width - 1, 31)
    return pa.array((bits >> np.uint64(64 - width)).view(np.int64)).cast(kind)


def _floats(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    return pa.array((bits >> np.uint64(11)).astype(np.float64) / 2.0**53).cast(kind)


def _booleans(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    return pa.array((bits >> np.uint64(63)).astype(np.bool_), kind)


def _texts(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    lanes = bits[:, None] >> (np.arange(_TEXT_LENGTH, dtype=np.uint64) * np.uint64(8))
    letters = ((lanes & np.uint64(255)) * np.uint64(26)) >> np.uint64(8)
    characters = (letters + np.uint64(ord("a"))).astype(np.uint8).reshape(-1)
    return strings(np.full(bits.size, _TEXT_LENGTH, dtype=np.int64), characters).cast(kind)


def _decimals(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    digits = min(kind.precision, 9)
    whole = pa.decimal128(digits, 0)
    numbers = pa.array(below(bits, 10**digits)).cast(pa.decimal128(19, 0)).cast(whole)
    raw = numbers.cast(pa.decimal128(kind.precision, 0))
    # The same digits, read with the point where the type has it.
    return pa.Array.from_buffers(
        pa.decimal128(kind.precision, kind.scale), len(raw), raw.buffers()
    ).cast(kind)


def _dates(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    days = below(bits, _DAYS) + BASE_TIME_US // 86_400_000_000
    return pa.array(days.astype(np.int32)).view(pa.date32()).cast(kind)


def _times(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    seconds = pa.array(below(bits, 86_400).astype(np.int32)).view(pa.time32("s"))
    return seconds.cast(kind)


def _durations(kind: pa.DataType, bits: UInt64s) -> pa.Array:
    return pa.array(below(bits, 86_400)).view(pa.duration("s")).cast(kind)


_Maker = Callable[[pa.DataType, UInt64s], pa.Array]
_MAKERS: tuple[tuple[Callable[[pa.DataType], bool], _Maker], ...] = (
    (pa.types.is_boolean, _booleans),
    (pa.types.is_integer, _integers),
    (pa.types.is_floating, _floats),
    (pa.types.is_string, _texts),
    (pa.types.is_binary, _texts),
    (pa.types.is_decimal128, _decimals),
    (pa.types.is_date, _dates),
    (pa.types.is_time, _times),
    (pa.types.is_duration, _durations),
)
