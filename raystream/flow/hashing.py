"""The hash of a key: frozen, because checkpoints and every process must agree on it.

The hash of a value is a uint64, the same for a Python value and for its Arrow form, on every
platform. All arithmetic is modulo 2**64; ``tag(name) = xxh3_64(name)``; canonical forms are those
of ``raystream.flow.key``::

    fmix64(x):  x ^= x >> 33; x *= 0xff51afd7ed558ccd
                x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53; x ^= x >> 33

    None                tag("null")
    int, -2**63 <= i < 2**63      fmix64(i)
    int, 2**63 <= i < 2**64       fmix64(i ^ (tag("uint64") >> 1))
    int beyond                    xxh3_64(decimal text, seed=tag("int"))
    bool                fmix64(0 or 1 ^ tag("bool"))
    float               fmix64(bits as float64 ^ tag("float")), -0.0 as 0.0, one NaN 0x7ff8 << 48
    datetime            fmix64(microseconds since the epoch, UTC, by floor ^ tag("timestamp"))
    date                fmix64(days since the epoch ^ tag("date"))
    time                fmix64(microseconds since midnight, by floor ^ tag("time"))
    timedelta           fmix64(microseconds, by floor ^ tag("duration"))
    str                 xxh3_64(UTF-8, seed=tag("string"))
    bytes               xxh3_64(bytes, seed=tag("binary"))
    Decimal             xxh3_64(text of digits, "E", exponent, no zeros at the end,
                                seed=tag("decimal")); zero is "0"
    tuple of n, or n > 1 columns  h = tag("tuple") + n
                                  for each item: h = fmix64(h * 0x9e3779b97f4a7c15 + hash(item))

Source: fmix64 is the finalizer of MurmurHash3 (Appleby); xxh3 is xxHash (Collet).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from raystream.flow.batch import Int64s
from raystream.flow.key import (
    canonical,
    decimal_text,
    fixed_bits,
    float_bits,
    is_fixed,
    is_text,
    plain_array,
    valid_rows,
)

UInt64s: TypeAlias = npt.NDArray[np.uint64]

_MASK = 2**64 - 1
_MIX1, _MIX2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
_GOLDEN = 0x9E3779B97F4A7C15
_NULL = xxh3_64_intdigest(b"null")
_UINT64 = xxh3_64_intdigest(b"uint64") >> 1
_INT, _STRING = xxh3_64_intdigest(b"int"), xxh3_64_intdigest(b"string")
_BINARY, _DECIMAL = xxh3_64_intdigest(b"binary"), xxh3_64_intdigest(b"decimal")
_TUPLE = xxh3_64_intdigest(b"tuple")
_TAGS: dict[Any, int] = {
    bool: xxh3_64_intdigest(b"bool"),
    float: xxh3_64_intdigest(b"float"),
    datetime: xxh3_64_intdigest(b"timestamp"),
    date: xxh3_64_intdigest(b"date"),
    time: xxh3_64_intdigest(b"time"),
    timedelta: xxh3_64_intdigest(b"duration"),
}


def hash_value(key: object) -> int:
    """Hash one Python value.

    Raises: UserFunctionError for a value that cannot be a key.
    """
    return hash_canonical(canonical(key))


def hash_column(array: pa.Array) -> UInt64s:
    """Hash each value of a column as its Python value would be.

    Shapes: array [n] -> uint64 [n].
    """
    array = plain_array(array)
    if not is_fixed(array.type):
        return _hash_interned(array)
    bits = fixed_bits(array).view(np.uint64)
    if pa.types.is_unsigned_integer(array.type):
        bits = np.where(bits >> np.uint64(63), bits ^ np.uint64(_UINT64), bits)
    elif not pa.types.is_integer(array.type):
        bits = bits ^ np.uint64(_tag(array.type))
    hashes = fmix64(bits)
    valid = valid_rows(array)
    return hashes if valid is None else np.where(valid, hashes, np.uint64(_NULL))


def hash_columns(arrays: Sequence[pa.Array]) -> UInt64s:
    """Hash rows of key columns: one column as its values, several as tuples.

    Shapes: arrays, each [n] -> uint64 [n].
    """
    assert arrays, "a key has a column"
    hashes = [hash_column(array) for array in arrays]
    return hashes[0] if len(hashes) == 1 else _fold(hashes)


def hash_table(table: pa.Table) -> UInt64s:
    """Hash each row of a table of any size by all of its columns, as ``hash_columns`` does.

    Shapes: [n] -> uint64 [n].
    """
    hashes = [hash_columns(batch.columns) for batch in table.to_batches() if batch.num_rows]
    return np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)


def hash_objects(keys: Sequence[Any]) -> UInt64s:
    """Hash a list of Python values, which may be of several kinds.

    Shapes: keys [n] -> uint64 [n].
    Raises: UserFunctionError for a value that cannot be a key.
    """
    kinds = set(map(type, keys))
    if len(kinds) == 1:
        kind = kinds.pop()
        if kind is int:
            return _hash_ints(keys)
        if kind is float:
            return fmix64(float_bits(np.array(keys)).view(np.uint64) ^ np.uint64(_TAGS[float]))
        if kind is tuple and len(set(map(len, keys))) == 1 and keys[0]:
            return _fold([hash_objects(column) for column in zip(*keys, strict=True)])
    # Other kinds are hashed one by one, each different key once.
    known: dict[Hashable, int] = {}
    hashes = np.empty(len(keys), np.uint64)
    for row, key in enumerate(map(canonical, keys)):
        found = known.get(key)
        if found is None:
            found = known[key] = hash_canonical(key)
        hashes[row] = found
    return hashes


def fmix64(bits: UInt64s) -> UInt64s:
    """Mix 64 bits so that each depends on all; a bijection.

    Shapes: uint64 [n] -> uint64 [n].
    """
    mixed = bits ^ (bits >> np.uint64(33))
    mixed *= np.uint64(_MIX1)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(_MIX2)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def _mix(bits: int) -> int:
    bits &= _MASK
    bits = ((bits ^ bits >> 33) * _MIX1) & _MASK
    bits = ((bits ^ bits >> 33) * _MIX2) & _MASK
    return bits ^ bits >> 33


def hash_canonical(key: Any) -> int:
    """Hash a key that is in canonical form already."""
    if key is None:
        return _NULL
    if isinstance(key, int):
        if -(2**63) <= key < 2**63:
            return _mix(key)
        return _mix(key ^ _UINT64) if 0 < key <= _MASK else xxh3_64_intdigest(b"%d" % key, _INT)
    if isinstance(key, str):
        return xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"), _STRING)
    if isinstance(key, bytes):
        return xxh3_64_intdigest(key, _BINARY)
    kind = key[0]
    if kind is tuple:
        folded = _TUPLE + len(key) - 1
        for item in key[1:]:
            folded = _mix(folded * _GOLDEN + hash_canonical(item))
        return folded
    if kind is Decimal:
        return xxh3_64_intdigest(key[1].encode(), _DECIMAL)
    if kind is float:
        bits = int(float_bits(np.array([key[1]], np.float64))[0])
        return _mix(bits ^ _TAGS[float])
    return _mix(key[1] ^ _TAGS[kind])


def _tag(type: pa.DataType) -> int:
    types = pa.types
    if types.is_boolean(type):
        return _TAGS[bool]
    if types.is_floating(type):
        return _TAGS[float]
    if types.is_timestamp(type):
        return _TAGS[datetime]
    if types.is_date(type):
        return _TAGS[date]
    return _TAGS[time] if types.is_time(type) else _TAGS[timedelta]


def _hash_interned(array: pa.Array) -> UInt64s:
    """Hash a column of strings, bytes or decimals: each different value of the batch once."""
    if pa.types.is_null(array.type):
        return np.full(len(array), _NULL, np.uint64)
    seed = _STRING if is_text(array.type) else _BINARY
    values, indices = different(array.cast(pa.large_binary()) if seed == _STRING else array)
    if pa.types.is_decimal(array.type):
        hashed = [xxh3_64_intdigest(decimal_text(value).encode(), _DECIMAL) for value in values]
    else:
        hashed = [xxh3_64_intdigest(value, seed) for value in values]
    hashed.append(_NULL)
    return np.array(hashed, np.uint64)[indices]


def different(array: pa.Array) -> tuple[list[Any], Int64s]:
    """Give the different values of a column as Python values, and which each row has.

    Shapes: array [n] -> list [d] in order of arrival, int64 [n]; a null row has d.
    """
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    elif pa.types.is_binary_view(array.type):
        array = array.cast(pa.large_binary())
    encoded = array.dictionary_encode()
    values: list[Any] = encoded.dictionary.to_pylist()
    indices: Int64s = encoded.indices.fill_null(len(values)).to_numpy().astype(np.int64)
    return values, indices


def _hash_ints(keys: Sequence[int]) -> UInt64s:
    try:
        return fmix64(np.array(keys, np.int64).view(np.uint64))
    except OverflowError:  # an int beyond 64 bits: one by one
        return np.array([hash_canonical(key) for key in keys], np.uint64)


def _fold(hashes: list[UInt64s]) -> UInt64s:
    folded = np.full(len(hashes[0]), (_TUPLE + len(hashes)) & _MASK, np.uint64)
    for column in hashes:
        folded = fmix64(folded * np.uint64(_GOLDEN) + column)
    return folded
