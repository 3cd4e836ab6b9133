"""What a key is: its canonical form, the same for a Python value and for its Arrow form.

A key is a value and a kind. All widths of integers are one kind; floats of all widths are one, with
-0.0 as 0.0 and a single NaN; timestamps of any unit are microseconds by floor, naive ones UTC; two
decimals are equal whatever their scale. None is a key of its own. True is not 1, 1.0 is not 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import Int64s
from raystream.flow.time import micros

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
_PER_US = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": -1_000}
_DAY_MS = 86_400_000
_THEMSELVES = {int, str, bytes, type(None)}
_PLAIN = {*_THEMSELVES, bool, float, datetime, date, time, timedelta, Decimal}
_NAN_BITS = 0x7FF8_0000_0000_0000


def canonical(value: object) -> Hashable:
    """Turn a key into what a dict tells apart as keys are told apart.

    int, str, bytes and None stay as they are; everything else becomes ``(kind, ...)``, where the
    kind is a Python type.
    Raises: UserFunctionError for a value that cannot be a key.
    """
    kind = type(value)
    if kind is int or kind is str or value is None or kind is bytes:
        return value
    if kind is tuple:
        return (tuple, *map(canonical, value))  # type: ignore[call-overload]
    return _odd(value)


def canonical_keys(keys: Sequence[Any]) -> Sequence[Hashable]:
    """Give the canonical form of each key; the keys themselves where all are their own.

    Raises: UserFunctionError for a value that cannot be a key.
    """
    return keys if _THEMSELVES.issuperset(map(type, keys)) else list(map(canonical, keys))


def are_plain(keys: Sequence[Any]) -> bool:
    """Tell at a glance that all are keys; False where only ``canonical`` can tell."""
    kinds = set(map(type, keys))
    if kinds == {tuple}:
        kinds = set(map(type, chain.from_iterable(keys)))
    return kinds <= _PLAIN


def check_key_type(type: pa.DataType) -> None:
    """Refuse a column type that cannot be a key.

    Raises: PlanError for nested types.
    """
    kind = plain_type(type)
    if pa.types.is_nested(kind) or not (is_fixed(kind) or is_interned(kind)):
        raise PlanError(
            f"a key cannot be of type {type}",
            hint="take its fields or elements out into columns of their own first",
        )


def plain_type(type: pa.DataType) -> pa.DataType:
    """Give the type of the values themselves, without dictionary, run-end or extension."""
    types = pa.types
    while True:
        if types.is_dictionary(type) or types.is_run_end_encoded(type):
            type = type.value_type
        elif isinstance(type, pa.BaseExtensionType):
            type = type.storage_type
        else:
            return type


def key_kind(type: pa.DataType) -> str:
    """Name the kind of a type's keys: keys of two kinds are never the same key."""
    kind, types = plain_type(type), pa.types
    for name, holds in (
        ("bool", types.is_boolean),
        ("int", types.is_integer),
        ("float", types.is_floating),
        ("decimal", types.is_decimal),
        ("timestamp", types.is_timestamp),
        ("date", types.is_date),
        ("time", types.is_time),
        ("duration", types.is_duration),
        ("string", is_text),
        ("null", types.is_null),
    ):
        if holds(kind):
            return name
    return "binary"


def plain_array(array: pa.Array) -> pa.Array:
    """Give the values themselves, without dictionary, run-end or extension."""
    types = pa.types
    while True:
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        elif types.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif types.is_run_end_encoded(array.type):
            array = pa.compute.run_end_decode(array)
        else:
            return array


def is_fixed(type: pa.DataType) -> bool:
    """Tell whether values of a plain type have a canonical form of 64 bits."""
    types = pa.types
    return bool(
        types.is_integer(type)
        or types.is_floating(type)
        or types.is_boolean(type)
        or types.is_temporal(type)
    ) and not types.is_interval(type)


def is_interned(type: pa.DataType) -> bool:
    """Tell whether values of a plain type are told apart as Python values."""
    types = pa.types
    raw = types.is_binary(type) or types.is_large_binary(type) or types.is_binary_view(type)
    other = types.is_fixed_size_binary(type) or types.is_decimal(type) or types.is_null(type)
    return bool(is_text(type) or raw or other)


def is_text(type: pa.DataType) -> bool:
    """Tell whether values of a type are strings, in any layout."""
    types = pa.types
    return bool(types.is_string(type) or types.is_large_string(type) or types.is_string_view(type))


def fixed_bits(array: pa.Array) -> Int64s:
    """Give the canonical 64 bits of each value of a plain fixed-width column.

    Shapes: array [n] -> int64 [n]; what stands where the column is null is undefined.
    Units: timestamps, times and durations in microseconds, dates in days.
    """
    type, types = array.type, pa.types
    if types.is_boolean(type):
        flags = array.fill_null(False) if array.null_count else array
        bools: Int64s = flags.to_numpy(zero_copy_only=False).astype(np.int64)
        return bools
    if types.is_floating(type):
        return float_bits(raw_values(array, f"f{type.bit_width // 8}").astype(np.float64))
    if types.is_integer(type):
        sign = "u" if types.is_unsigned_integer(type) else "i"
        values = raw_values(array, f"{sign}{type.bit_width // 8}")
        return values.view(np.int64) if type.bit_width == 64 else values.astype(np.int64)
    ticks = raw_values(array, f"i{type.bit_width // 8}").astype(np.int64)
    if types.is_date32(type):
        return ticks
    if types.is_date64(type):
        return ticks // _DAY_MS
    factor = _PER_US[type.unit]
    if factor == 1:
        return ticks
    return ticks * factor if factor > 0 else ticks // -factor


def float_bits(values: npt.NDArray[np.float64]) -> Int64s:
    """Give the bits of floats with one zero and one NaN.

    Shapes: float64 [n] -> int64 [n].
    """
    bits: Int64s = (values + 0.0).view(np.int64)
    odd = np.isnan(values)
    if odd.any():
        bits[odd] = _NAN_BITS
    return bits


def raw_values(array: pa.Array, dtype: str) -> npt.NDArray[Any]:
    """View the values of a fixed-width column; undefined where it is null."""
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.zeros(len(array), dtype)
    start = array.offset * np.dtype(dtype).itemsize
    return np.frombuffer(data, dtype, len(array), start)


def valid_rows(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Tell which values are not null; None where none is null."""
    if not array.null_count:
        return None
    valid: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def decimal_text(value: Decimal) -> str:
    """Write a decimal so that equal values have equal text: ``15E-1`` for 1.5 and 1.50."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return "NaN" if value.is_nan() else str(value)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return "0"
    short = text.rstrip("0")
    return f"{'-' if sign else ''}{short}E{exponent + len(text) - len(short)}"


def _odd(value: object) -> Hashable:
    if isinstance(value, np.generic):
        return _from_numpy(value)
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, float):
        return (float, "nan") if math.isnan(value) else (float, float(value) + 0.0)
    if isinstance(value, datetime):
        return (datetime, micros(value))
    if isinstance(value, date):
        return (date, value.toordinal() - _EPOCH_ORDINAL)
    if isinstance(value, time):
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return (time, seconds * 1_000_000 + value.microsecond)
    if isinstance(value, timedelta):
        return (timedelta, value // _MICROSECOND)
    if isinstance(value, Decimal):
        return (Decimal, decimal_text(value))
    if isinstance(value, tuple):
        return (tuple, *map(canonical, value))
    return _subclass(value)


def _subclass(value: object) -> Hashable:
    """Take a value of a subclass (an IntEnum, a str of one's own) as what it is made of."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, pa.Scalar):
        return canonical(value.as_py())
    raise UserFunctionError(
        f"a key cannot be a {type(value).__name__}: {value!r:.200}",
        hint="a key is an int, str, bytes, float, bool, Decimal, datetime, date, time, timedelta, "
        "None, or a tuple of these",
    )


def _from_numpy(value: np.generic) -> Hashable:
    if isinstance(value, np.datetime64 | np.timedelta64):
        kind = datetime if isinstance(value, np.datetime64) else timedelta
        if np.isnat(value):
            return None
        if isinstance(value, np.datetime64) and np.datetime_data(value)[0] in "YMWD":
            return (date, int(value.astype("M8[D]").astype(np.int64)))
        return (kind, int(value.astype(f"{value.dtype.kind}8[us]").astype(np.int64)))
    return canonical(value.item())
