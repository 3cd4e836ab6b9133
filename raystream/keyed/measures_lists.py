"""Parts that keep values: distinct ones, all of them, and sketches of how many differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.flow.batch import Int64s
from raystream.flow.hashing import hash_column
from raystream.keyed.measures_grouping import Groups, Kernel, Request, Values, group, whole
from raystream.keyed.measures_parts import ARRIVAL, numbers, one_zero, valid

_VALID = pc.CountOptions(mode="only_valid")


@dataclass(frozen=True)
class Distinct:
    """The different values of a column, in no order."""

    column: str
    type: pa.DataType

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (pa.list_(self._value_type),)

    @property
    def _value_type(self) -> pa.DataType:
        # Arrow's kernel cannot take the type of nothing but nulls.
        return pa.int8() if pa.types.is_null(self.type) else self.type

    def fold(self, rows: pa.RecordBatch) -> Request:
        values = one_zero(rows.column(self.column).cast(self._value_type))
        return [Kernel(values, "distinct", _VALID)]

    def merge(self, partials: list[Values]) -> Request:
        lists = whole(partials[0])

        def merged(groups: Groups) -> list[pa.Array]:
            values, owners = _flat(lists, groups)
            pairs = group([pa.array(owners), values], [], len(owners))
            owners = pairs.keys[0].to_numpy()
            order = np.argsort(owners, kind="stable")
            return [_lists(pairs.keys[1].take(pa.array(order)), owners, groups.count)]

        return merged


@dataclass(frozen=True)
class AllValues:
    """Every value that is not null, in order of arrival; as float64 where ``as_numbers``.

    Partials come in order of arrival, but those of several panes do not: ``arrival`` keeps the
    number of each row beside its value, and ``in_order`` sorts by it in the end.
    """

    column: str
    type: pa.DataType
    as_numbers: bool
    arrival: bool = False

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        values = pa.list_(pa.float64() if self.as_numbers else self.type)
        return (values, *([pa.list_(pa.int64())] if self.arrival else []))

    def fold(self, rows: pa.RecordBatch) -> Request:
        column = rows.column(self.column)
        values = numbers(column) if self.as_numbers else column
        kept = [values, *([rows.column(ARRIVAL)] if self.arrival else [])]

        def gathered(groups: Groups) -> list[pa.Array]:
            order, owners = groups.where(valid(values))
            return [_lists(some.take(pa.array(order)), owners, groups.count) for some in kept]

        return gathered

    def merge(self, partials: list[Values]) -> Request:
        kept = [whole(lists) for lists in partials]
        return lambda groups: [_lists(*_flat(lists, groups), groups.count) for lists in kept]


def in_order(lists: pa.Array, arrivals: pa.Array) -> pa.Array:
    """Sort each list by the arrivals of its values.

    Shapes: lists [n], arrivals lists of int64 [n] -> lists [n].
    """
    owners = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    order = np.lexsort((arrivals.flatten().to_numpy(), owners))
    return _lists(lists.flatten().take(pa.array(order)), owners, len(lists))


@dataclass(frozen=True)
class Sketch:
    """A HyperLogLog of 16,384 registers, sparse: a list of ``register << 6 | rank``.

    Source: Flajolet et al., HyperLogLog, 2007; the estimate: Ertl, "New cardinality estimation
    algorithms for HyperLogLog sketches", 2017, algorithm 6.
    """

    column: str

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (pa.list_(pa.int32()),)

    def fold(self, rows: pa.RecordBatch) -> Request:
        column = rows.column(self.column)
        codes = sketch_codes(column)

        def sketched(groups: Groups) -> list[pa.Array]:
            order, owners = groups.where(valid(column))
            return [_greatest_ranks(codes[order], owners, groups.count)]

        return sketched

    def merge(self, partials: list[Values]) -> Request:
        lists = whole(partials[0])

        def merged(groups: Groups) -> list[pa.Array]:
            values, owners = _flat(lists, groups)
            codes = values.to_numpy().astype(np.int64)
            return [_greatest_ranks(codes, owners, groups.count)]

        return merged

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        column = rows.column(self.column)
        mask = valid(column)
        owners = np.arange(rows.num_rows, dtype=np.int64)
        owners = owners if mask is None else owners[mask]
        return [_greatest_ranks(sketch_codes(column)[owners], owners, rows.num_rows)]


_BITS = 14
_REGISTERS = 1 << _BITS
_RANKS = 64 - _BITS + 1
_RANK_BITS = 6


def sketch_codes(column: pa.Array) -> Int64s:
    """Give the register and the rank of each value's hash.

    Shapes: column [n] -> int64 [n], ``register << 6 | rank``.
    """
    hashes = hash_column(column)
    registers = (hashes & np.uint64(_REGISTERS - 1)).astype(np.int64)
    # The rest has 50 bits, which a float64 holds exactly, and with it the highest bit's place.
    lengths = np.frexp((hashes >> np.uint64(_BITS)).astype(np.float64))[1]
    codes: Int64s = registers << _RANK_BITS | (_RANKS - lengths)
    return codes


def estimates(sketches: pa.Array) -> Int64s:
    """Estimate how many different values each sketch has seen.

    Shapes: sketches [n] -> int64 [n].
    """
    count = len(sketches)
    codes = sketches.flatten().to_numpy()
    owners = np.repeat(np.arange(count), sketches.value_lengths().to_numpy())
    places = owners * (_RANKS + 1) + (codes & ((1 << _RANK_BITS) - 1))
    histogram = np.bincount(places, minlength=count * (_RANKS + 1)).reshape(count, _RANKS + 1)
    empty = _REGISTERS - histogram.sum(axis=1)
    z = _REGISTERS * _tau(1 - histogram[:, _RANKS] / _REGISTERS)
    for rank in range(_RANKS - 1, 0, -1):
        z = 0.5 * (z + histogram[:, rank])
    with np.errstate(divide="ignore"):
        z += _REGISTERS * _sigma(empty / _REGISTERS)
        guess = _REGISTERS * _REGISTERS / (2 * np.log(2) * z)
    rounded: Int64s = np.rint(guess).astype(np.int64)
    return rounded


def _tau(
    x: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    ends = (x == 0) | (x == 1)
    y, z = 1.0, 1 - x
    while True:
        x, y = np.sqrt(x), y * 0.5
        less = z - (1 - x) ** 2 * y
        if np.array_equal(less, z):
            return np.where(ends, 0.0, z / 3)
        z = less


def _sigma(
    x: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    # An untouched sketch would never converge: it has seen nothing, so its z is infinite.
    untouched = x == 1
    x = np.where(untouched, 0.0, x)
    y, z = 1.0, x
    while True:
        x = x * x
        more, y = z + x * y, y + y
        if np.array_equal(more, z):
            return np.where(untouched, np.inf, z)
        z = more


def _flat(lists: pa.Array, groups: Groups) -> tuple[pa.Array, Int64s]:
    """Give the values of lists group by group, in order, and the group of each."""
    ordered = lists.take(pa.array(groups.order))
    return ordered.flatten(), np.repeat(groups.ids, ordered.value_lengths().to_numpy())


def _lists(values: pa.Array, owners: Int64s, count: int) -> pa.Array:
    """Cut values, which come group by group, into one list a group."""
    starts = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(owners, minlength=count), out=starts[1:])
    return pa.ListArray.from_arrays(pa.array(starts), values)


def _greatest_ranks(codes: Int64s, owners: Int64s, count: int) -> pa.Array:
    """Keep the greatest rank of each register of each group."""
    tagged = np.sort(owners << (_BITS + _RANK_BITS) | codes)
    registers = tagged >> _RANK_BITS
    tagged = tagged[np.flatnonzero(np.diff(registers, append=-1))]
    kept = pa.array((tagged & ((1 << (_BITS + _RANK_BITS)) - 1)).astype(np.int32))
    return _lists(kept, tagged >> (_BITS + _RANK_BITS), count)
