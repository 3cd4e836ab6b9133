"""Namespaces of state and timers as columns: a window as its bounds, a number, or anything."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Sequence
from typing import Any

import pyarrow as pa

from raystream.keyed.key_form import pickled

_START, _END, _OTHER = "__start", "__end", "__namespace"

NAMESPACE = (_START, _END, _OTHER)
"""The columns of namespaces."""


def write_namespaces(spaces: Sequence[Any]) -> dict[str, pa.Array]:
    """Give the columns of namespaces: ``(start, end)``, an int, None, or another pickled value."""
    starts: list[int | None] = [None] * len(spaces)
    ends: list[int | None] = [None] * len(spaces)
    others: list[bytes | None] = [None] * len(spaces)
    # A loop over rows: namespaces are Python values.
    for row, space in enumerate(spaces):
        if space is None:
            continue
        if _is_bound(space):
            starts[row] = space
        elif type(space) is tuple and len(space) == 2 and all(map(_is_bound, space)):
            starts[row], ends[row] = space
        else:
            others[row] = pickled([space])[0]
    return {
        _START: pa.array(starts, pa.int64()),
        _END: pa.array(ends, pa.int64()),
        _OTHER: pa.array(others, pa.binary()),
    }


def read_namespaces(table: pa.Table) -> list[Hashable | None]:
    """Read what ``write_namespaces`` wrote."""
    columns = [table.column(name) for name in (_START, _END, _OTHER)]
    if columns[0].null_count == table.num_rows and columns[2].null_count == table.num_rows:
        return [None] * table.num_rows
    return [
        pickle.loads(other) if other is not None else start if end is None else (start, end)
        for start, end, other in zip(*(column.to_pylist() for column in columns), strict=True)
    ]


def _is_bound(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63
