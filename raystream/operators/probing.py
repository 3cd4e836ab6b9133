"""Small tables on which expressions are tried while a job is built.

A probe holds nulls, repeated values and distinct ordinary ones, integers beyond 2**24 among them,
so that an expression which looks at other rows gives itself away. Some valid expressions refuse
odd values (a cast of ``"x"`` to an integer, the fourth element of a short list); for these there
are tamer probes, down to nulls alone and to no rows at all.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from raystream.flow.batch import EVENT_TIME

PROBE_ROWS = 12


class Probe(enum.Enum):
    """How odd the values of a probe are, oddest first."""

    ORDINARY = "ordinary"
    TAME = "tame"
    """Small positive numbers, long lists, text that can be read as an integer."""
    DATES = "dates"
    """As tame, and text that can be read as a date."""
    TIMES = "times"
    """As tame, and text that can be read as a point in time."""
    NULLS = "nulls"
    EMPTY = "empty"


_INTEGERS = (3, 16_777_217, -5, 0, 1, 10, 2, 3, 16_777_219, 2**53 + 1, 7)
_FLOATS = (1.5, -2.25, 0.0, 3.0, 1e9, 1.5, 16_777_217.5, 0.1, 7.0)
_TEXTS = ("a", "Bc de", "", "12", "Zz", "a", "x=1&y=2", "\u00e9", "http://h/p?q=5")
_TEXTS_OF = {
    Probe.TAME: ("7", "12", "3", "7", "40"),
    Probe.DATES: ("2020-01-05", "2021-11-30", "2020-01-05", "2019-06-07"),
    Probe.TIMES: ("2020-01-05 10:30:00", "2021-11-30 23:59:59", "2019-06-07 00:00:00"),
}
_DAYS = (18_262, 18_999, 20_000, 18_262, 365, -400)
_MOMENTS_US = (
    1_577_836_800_000_000,
    1_641_513_599_999_999,
    1_728_000_000_123_456,
    1_577_836_800_000_000,
    31_536_000_000_001,
    1_700_000_000_000_000,
)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_S = 86_400


def probe_record(schema: pa.Schema, probe: Probe) -> pa.RecordBatch:
    """Make the rows of a probe for a schema of the wire; event time is never null.

    Shapes: [PROBE_ROWS], or [0] for ``EMPTY``.
    """
    arrays = [
        _column(field.type, probe, index, always=field.name == EVENT_TIME)
        for index, field in enumerate(schema)
    ]
    plain = pa.schema([pa.field(field.name, field.type) for field in schema])
    return pa.RecordBatch.from_arrays(arrays, schema=plain)


def _column(kind: pa.DataType, probe: Probe, index: int, *, always: bool) -> pa.Array:
    if probe is Probe.EMPTY:
        return pa.array([], kind)
    values: Sequence[Any] = () if probe is Probe.NULLS and not always else _values(kind, probe)
    if not values:
        return pa.nulls(PROBE_ROWS, kind)
    # Each column starts elsewhere and has its nulls elsewhere, so that rows mix values.
    rows = [values[(row + index) % len(values)] for row in range(PROBE_ROWS)]
    if not always:
        rows[(4 + 3 * index) % PROBE_ROWS] = None
    return pa.array(rows, kind)


def _values(kind: pa.DataType, probe: Probe) -> Sequence[Any]:
    """Give what a column of a type is filled with; nothing: nulls."""
    types = pa.types
    if types.is_struct(kind):
        return _structs(kind, probe)
    if types.is_map(kind):
        keys, items = _values(kind.key_type, probe), _values(kind.item_type, probe)
        pairs = list(zip(keys, items, strict=False))
        return [pairs[:1], pairs, pairs[1:2]]
    if types.is_fixed_size_list(kind):
        values = _values(kind.value_type, probe) or [None]
        size = kind.list_size
        return [[values[(at + i) % len(values)] for i in range(size)] for at in range(3)]
    if types.is_list(kind):
        return _lists(_values(kind.value_type, probe), probe)
    return _scalars(kind, probe)


def _structs(kind: pa.DataType, probe: Probe) -> Sequence[Any]:
    children = [(kind.field(i).name, kind.field(i).type) for i in range(kind.num_fields)]
    values = [(name, _values(child, probe) or [None]) for name, child in children]
    return [{name: some[row % len(some)] for name, some in values} for row in range(5)]


def _lists(values: Sequence[Any], probe: Probe) -> Sequence[Any]:
    some = list(values) or [None]
    if probe is Probe.ORDINARY:
        return [some[:1], [], [*some[:2], None], some, some[1:3], some[:1]]
    # Long enough for the element that somebody asks for.
    return [some * 16, list(reversed(some)) * 16, some[1:] * 16 + some * 16]


def _scalars(kind: pa.DataType, probe: Probe) -> Sequence[Any]:
    types = pa.types
    tame = probe is not Probe.ORDINARY
    if types.is_boolean(kind):
        return [True, False, False]
    if types.is_integer(kind):
        return _integers(kind, tame=tame)
    if types.is_floating(kind):
        return [1.0, 4.0, 2.0, 9.0, 1.0] if tame else _FLOATS
    if types.is_decimal(kind):
        return _decimals(kind)
    if types.is_string(kind) or types.is_large_string(kind):
        return _TEXTS_OF.get(probe, _TEXTS)
    if types.is_fixed_size_binary(kind):
        return [bytes([byte]) * kind.byte_width for byte in (1, 65, 200)]
    if types.is_binary(kind) or types.is_large_binary(kind):
        return [text.encode() for text in _TEXTS_OF.get(probe, _TEXTS)]
    return _times(kind)


def _integers(kind: pa.DataType, *, tame: bool) -> Sequence[int]:
    if tame:
        return [1, 4, 2, 9, 1]
    bits = kind.bit_width
    signed = pa.types.is_signed_integer(kind)
    least, greatest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return [value for value in _INTEGERS if least <= value <= greatest]


def _decimals(kind: pa.DataType) -> Sequence[Decimal]:
    if kind.scale >= kind.precision or kind.scale < 0:
        unit = Decimal(1).scaleb(-kind.scale)
        return [3 * unit, 1 * unit, 7 * unit, 3 * unit]
    return [Decimal(number) for number in (3, 1, 7, 3, 9)]


def _times(kind: pa.DataType) -> Sequence[Any]:
    types = pa.types
    if types.is_timestamp(kind):
        scale = _PER_SECOND[kind.unit]
        return [moment * scale // 1_000_000 for moment in _MOMENTS_US]
    if types.is_date32(kind):
        return [dt.date.fromordinal(719_163 + day) for day in _DAYS]
    if types.is_date64(kind):
        return [day * _DAY_S * 1_000 for day in _DAYS]
    if types.is_time(kind):
        scale = _PER_SECOND[kind.unit]
        return [second * scale for second in (0, 3_661, 86_399, 43_200, 3_661)]
    if types.is_duration(kind):
        scale = _PER_SECOND[kind.unit]
        return [second * scale for second in (60, 3_661, -5, 86_400, 60)]
    return ()
