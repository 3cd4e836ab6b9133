"""What rows are ranked by: columns or parts of objects, and which way each goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.api.aggregates import HiddenColumns
from raystream.api.columns import StreamColumns, is_expression


def read_order(
    hidden: HiddenColumns, by: Any, descending: bool | Sequence[bool]
) -> tuple[tuple[str, bool], ...]:
    """Read what rows are ranked by: columns, and whether the greatest comes first.

    Raises: PlanError for a column without an order, or more directions than columns.
    """
    order = []
    for value, way in _ways(hidden.columns, by, descending):
        name, kind = hidden.take(value)
        if pa.types.is_nested(kind):
            raise hidden.columns.error(f"top_k() compares values, and {kind} has no order")
        order.append((name, way))
    return tuple(order)


def object_order(
    columns: StreamColumns, by: Any, descending: bool | Sequence[bool]
) -> tuple[tuple[Any, bool], ...]:
    """Read what objects are ranked by: keys of dicts, or functions of the row.

    Raises: PlanError for anything else, or more directions than values.
    """
    order = _ways(columns, by, descending)
    for value, _ in order:
        if is_expression(value) or not (isinstance(value, str) or callable(value)):
            raise columns.error(
                f'top_k(): stream "{columns.stream}" carries objects, which expressions do '
                "not read",
                hint="name a key of the dict, give a function of the row, or call with_schema() "
                "before",
            )
    return order


def _ways(
    columns: StreamColumns, by: Any, descending: bool | Sequence[bool]
) -> tuple[tuple[Any, bool], ...]:
    """Pair what is compared with which way it goes: one way for all, or one each."""
    values = list(by) if isinstance(by, (list, tuple)) else [by]
    if not values:
        raise columns.error("top_k(by=) names no column")
    ways: list[Any] = [descending] * len(values)
    if isinstance(descending, (list, tuple)):
        ways = list(descending)
    if len(ways) != len(values) or not all(isinstance(way, bool) for way in ways):
        raise columns.error(
            f"top_k() takes as many descending= as by=, got {ways!r} for {len(values)} columns"
        )
    return tuple(zip(values, ways, strict=True))
