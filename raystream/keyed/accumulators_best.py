"""The value of the best row so far: min, max, first, last, min_by, max_by.

All six are one rule: rows have an order, 64 bits a row, and the least wins; of equals the row that
came first. Numbers and times are such bits; of strings, bytes and decimals the ranks among those of
the batch and the best so far are taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import PlanError
from raystream.flow.batch import Int64s
from raystream.flow.key import is_fixed, is_interned, raw_values
from raystream.keyed.groups import Groups, Rows
from raystream.keyed.segmented import first_least
from raystream.keyed.slots import SlotColumn

_WORST = 2**63 - 1


class Best:
    """The value of the row whose order is least or, with ``greatest``, greatest.

    ``by`` None orders rows by event time, or by arrival where there is none. NaN loses against
    every number.
    Raises: PlanError where values of the type of ``by`` have no order.
    """

    def __init__(
        self,
        column: str,
        type: pa.DataType,
        by: str | None,
        by_type: pa.DataType,
        *,
        greatest: bool,
    ) -> None:
        if not (is_fixed(by_type) or is_interned(by_type)):
            raise PlanError(f'values of type {by_type} have no order ("{by}")')
        self._column, self._by, self._greatest = column, by, greatest
        self._values = ValueColumn(type)
        self._has = SlotColumn("?", False)
        self._keys = SlotColumn("i8")
        self._orders = None if is_fixed(by_type) else ValueColumn(by_type)

    def reserve(self, count: int) -> None:
        for column in (self._values, self._has, self._keys, self._orders):
            if column is not None:
                column.reserve(count)

    def scan(self, groups: Groups, rows: Rows) -> pa.Array:
        values = rows.record.column(self._column).take(pa.array(groups.order))
        orders, before, keys = self._order(groups, rows)
        best = first_least(keys, groups)
        stays = self._has.values[groups.slots] & True
        stays = groups.spread(stays) & (groups.spread(before) <= keys[best])
        known = self._values.read(groups.slots)
        place = np.where(stays, groups.segments, best + len(known))
        changed = np.flatnonzero(~stays[groups.ends])
        winners, slots = best[groups.ends[changed]], groups.slots[changed]
        self._has.values[slots] = True
        self._keys.values[slots] = keys[winners]
        self._values.write(slots, values.take(pa.array(winners)))
        if self._orders is not None:
            self._orders.write(slots, orders.take(pa.array(winners)))
        return pa.concat_arrays([known, values]).take(pa.array(place))

    def fold(self, groups: Groups, rows: Rows) -> None:
        self.scan(groups, rows)

    def result(self, slots: Int64s) -> pa.Array:
        known = self._values.read(slots)
        has = self._has.values[slots]
        if has.all():
            return known
        return pc.if_else(pa.array(has), known, pa.scalar(None, known.type))

    def state(self, slots: Int64s) -> list[pa.Array]:
        orders = pa.array(self._keys.values[slots])
        if self._orders is not None:
            orders = self._orders.read(slots)
        return [self.result(slots), orders]

    def restore(self, slots: Int64s, columns: list[pa.Array]) -> None:
        values, orders = columns
        has = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        slots, values, orders = slots[has], values.take(pa.array(has)), orders.take(pa.array(has))
        self._has.values[slots] = True
        self._values.write(slots, values)
        if self._orders is None:
            self._keys.values[slots] = orders.to_numpy()
        else:
            self._orders.write(slots, orders)

    def _order(self, groups: Groups, rows: Rows) -> tuple[pa.Array, Int64s, Int64s]:
        """Give the values to order by, and order bits: of what is known, and of the rows.

        Shapes: -> array [n], int64 [m], int64 [n].
        """
        if self._by is None:
            times = rows.timestamps
            if times is None:
                times = np.arange(rows.arrival, rows.arrival + rows.record.num_rows)
            keys = times[groups.order]
            return None, self._keys.values[groups.slots], ~keys if self._greatest else keys
        orders = rows.record.column(self._by).take(pa.array(groups.order))
        if self._orders is None:
            keys = order_bits(orders, greatest=self._greatest)
            return orders, self._keys.values[groups.slots], keys
        known = self._orders.read(groups.slots)
        keys = _ranks(pa.concat_arrays([known, orders]))
        keys = ~keys if self._greatest else keys
        return orders, keys[: len(known)], keys[len(known) :]


class ValueColumn:
    """Values of one Arrow type by slot; what was never written reads as anything or null."""

    def __init__(self, type: pa.DataType) -> None:
        self._type = type
        # Numbers and times are kept as their own bits, all others as Python objects: nested ones as
        # Arrow scalars, which lose nothing.
        self._bits = is_fixed(type)
        self._scalars = not (self._bits or is_interned(type))
        if pa.types.is_boolean(type):
            self._column = SlotColumn("?", False)
        elif self._bits:
            self._column = SlotColumn(f"i{type.bit_width // 8}")
        else:
            self._column = SlotColumn("O", None)

    def reserve(self, count: int) -> None:
        """Make room for slots 0 to ``count`` - 1."""
        self._column.reserve(count)

    def read(self, slots: Int64s) -> pa.Array:
        """Give the values of some slots: int64 [m] -> array [m]."""
        values: npt.NDArray[Any] = self._column.values[slots]
        if not self._bits or pa.types.is_boolean(self._type):
            return pa.array(values.tolist(), self._type)
        return pa.array(values).view(self._type)

    def write(self, slots: Int64s, values: pa.Array) -> None:
        """Set the values of different slots: int64 [m], array [m] without nulls."""
        if not self._bits:
            objects = np.empty(len(values), object)
            objects[:] = list(values) if self._scalars else values.to_pylist()
            self._column.values[slots] = objects
        elif pa.types.is_boolean(self._type):
            self._column.values[slots] = values.to_numpy(zero_copy_only=False)
        else:
            self._column.values[slots] = raw_values(values, f"i{self._type.bit_width // 8}")


def order_bits(array: pa.Array, *, greatest: bool) -> Int64s:
    """Give int64s that are ordered as the values of a fixed-width column, or the other way.

    NaN comes last either way.
    Shapes: array [n] -> int64 [n].
    """
    type, types = array.type, pa.types
    keys: Int64s
    if types.is_boolean(type):
        keys = array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
    elif types.is_floating(type):
        floats = raw_values(array, f"f{type.bit_width // 8}").astype(np.float64) + 0.0
        bits = floats.view(np.int64)
        # Negative floats are ordered backwards by their bits.
        keys = bits ^ (bits >> 63 & np.int64(_WORST))
        keys = ~keys if greatest else keys
        keys[np.isnan(floats)] = _WORST
        return keys
    elif types.is_unsigned_integer(type):
        values = raw_values(array, f"u{type.bit_width // 8}").astype(np.uint64)
        keys = (values ^ np.uint64(2**63)).view(np.int64)
    else:
        keys = raw_values(array, f"i{type.bit_width // 8}").astype(np.int64)
    return ~keys if greatest else keys


def _ranks(array: pa.Array) -> Int64s:
    """Give the rank of each value among the different ones; of nulls, anything."""
    encoded = array.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.zeros(len(order) + 1, np.int64)
    ranks[order] = np.arange(len(order))
    indices: Int64s = encoded.indices.fill_null(len(order)).to_numpy()
    return ranks[indices]
