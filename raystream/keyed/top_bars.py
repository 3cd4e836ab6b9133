"""What a row must beat to be among the best of its key, by its first column alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME
from raystream.keyed.measures_pick import sort_key
from raystream.keyed.slots import SlotColumn


class TopBars:
    """A bar for each key that has ``k`` rows: the value of the worst of them, of type ``type``.

    It is derived from the rows that are held. Knowing less only leaves more rows in.
    """

    def __init__(self, type: pa.DataType, *, descending: bool) -> None:
        self._descending = descending
        integer = pa.types.is_integer(type) and type != pa.uint64()
        floating = pa.types.is_float32(type) or pa.types.is_float64(type)
        self.able = integer or floating or pa.types.is_temporal(type)
        # No value is greater than these.
        self._bars = SlotColumn("f8", np.inf) if floating else SlotColumn("i8", MAX_TIME)

    def reserve(self, count: int) -> None:
        """Make room for bars of slots below ``count``, to be called before anything of them."""
        self._bars.reserve(count)

    def hopeful(self, column: pa.Array, slots: Int64s) -> Int64s:
        """Give the rows that the bar of their key does not rule out.

        Shapes: column [n], slots int64 [n] -> int64 [m], ascending.
        """
        if not self.able:
            return np.arange(len(slots))
        # Not <=: NaN must not be ruled out while a list has room for it.
        out = self._values(column) > self._bars.values[slots]
        if column.null_count:
            out &= column.is_valid().to_numpy(zero_copy_only=False)
        return np.flatnonzero(~out)

    def learn(self, slots: Int64s, worst: pa.Array) -> None:
        """Set bars, from the column of the rows that are the worst of full lists.

        Shapes: slots int64 [n], worst [n].
        """
        values = self._values(worst)
        tells = values == values  # noqa: PLR0124  all but NaN
        if worst.null_count:
            tells &= worst.is_valid().to_numpy(zero_copy_only=False)
        self._bars.values[slots[tells]] = values[tells]

    def learn_one(self, slot: int, worst: tuple[int, Any]) -> None:
        """Set one bar, from what ``sort_values`` gives for the first column."""
        if self.able and worst[0] == 0:
            self._bars.values[slot] = worst[1]

    def _values(self, column: pa.Array) -> npt.NDArray[Any]:
        """Give numbers whose least is the best; those of nulls mean nothing."""
        if pa.types.is_floating(column.type):
            floats: npt.NDArray[np.float64] = (
                column.fill_null(0.0).to_numpy(zero_copy_only=False).astype(np.float64)
            )
            return -floats if self._descending else floats
        return sort_key(column, greatest=self._descending)
