"""Group rows once, and reduce all their columns by that one grouping.

Arrow's grouped kernels do sums and the like in a single call. What they cannot do (the value at the
latest time, distinct lists, sketches) works on the same grouping as a permutation: the row numbers
of each group, collected by the same call, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s

Values: TypeAlias = Any
"""A ``pa.Array`` or ``pa.ChunkedArray``."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One of Arrow's grouped kernels over one column; ``values`` None: over whole rows."""

    values: Values | None
    function: str
    options: Any = None


class Groups:
    """A grouping as a permutation of the rows.

    Shapes: order int64 [n], row numbers group by group, in order of arrival within a group;
    starts int64 [g + 1], where each group begins in ``order``.
    """

    def __init__(self, order: Int64s, starts: Int64s) -> None:
        self.order = order
        self.starts = starts

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def ids(self) -> Int64s:
        """The group at each position of ``order``, int64 [n]."""
        return np.repeat(np.arange(self.count, dtype=np.int64), np.diff(self.starts))

    def where(self, valid: npt.NDArray[np.bool_] | None) -> tuple[Int64s, Int64s]:
        """Give rows and their groups, of the rows for which ``valid`` [n] is true; None: all.

        Shapes: rows int64 [m], group by group; ids int64 [m].
        """
        if valid is None:
            return self.order, self.ids
        kept = valid[self.order]
        return self.order[kept], self.ids[kept]


Segments: TypeAlias = Callable[[Groups], list[pa.Array]]
"""Reduces columns by a permutation: one array of [g] for each partial column."""

Request: TypeAlias = list[Kernel] | Segments
"""How one part of the partial columns is made: kernels, one a column, or one function for all."""


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """What came out: the key columns [g], and the partial columns [g] of each request."""

    keys: list[pa.Array]
    columns: list[list[pa.Array]]


def group(keys: list[Values], requests: list[Request], row_count: int) -> Grouped:
    """Group rows by ``keys`` and reduce them; groups come in no order that Arrow would promise.

    Shapes: keys, each [n] -> Grouped [g].
    """
    names = [f"k{i}" for i in range(len(keys))]
    inputs = dict(zip(names, keys, strict=True))
    aggregates: list[tuple[Any, str, Any, str]] = []
    for i, request in enumerate(requests):
        if not isinstance(request, list):
            continue
        for j, kernel in enumerate(request):
            name = f"v{i}_{j}"
            if kernel.values is not None:
                inputs[name] = kernel.values
            column: Any = name if kernel.values is not None else []
            aggregates.append((column, f"hash_{kernel.function}", kernel.options, name))
    permuted = any(not isinstance(request, list) for request in requests)
    if permuted:
        inputs["rows"] = np.arange(row_count, dtype=np.int64)
        aggregates.append(("rows", "hash_list", None, "rows"))
    result = _aggregate(pa.table(inputs), names, aggregates)
    groups = _groups(result) if permuted else None
    columns = []
    for i, request in enumerate(requests):
        if isinstance(request, list):
            columns.append([whole(result.column(f"v{i}_{j}")) for j in range(len(request))])
        else:
            assert groups is not None
            columns.append(request(groups))
    return Grouped([whole(result.column(name)) for name in names], columns)


def whole(values: Values) -> pa.Array:
    """Give a column as one array; several chunks are copied into one."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.nulls(0, values.type)


def _aggregate(
    table: pa.Table, keys: list[str], aggregates: list[tuple[Any, str, Any, str]]
) -> pa.Table:
    # Here, because it loads pyarrow.dataset, and that loads pandas where it is installed.
    from pyarrow import acero

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    node = acero.Declaration("aggregate", acero.AggregateNodeOptions(aggregates, keys=keys))
    # One thread: a subtask has one core, and only so do rows of a group keep their order.
    return acero.Declaration.from_sequence([source, node]).to_table(use_threads=False)


def _groups(result: pa.Table) -> Groups:
    rows = whole(result.column("rows"))
    order: Int64s = rows.flatten().to_numpy()
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(rows.value_lengths().to_numpy(), out=starts[1:])
    return Groups(order, starts)
