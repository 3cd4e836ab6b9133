"""Compare rows that come in any order, and whose numbers may be rounded in another way."""

from __future__ import annotations

import math
from typing import Any


def ordered(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows as tuples in an order of their own; lists, which come in any order, sorted."""

    def value(one: Any) -> Any:
        return tuple(sorted(one)) if isinstance(one, list) else one

    def key(row: tuple[Any, ...]) -> tuple[Any, ...]:
        # Floats last: rows that differ in nothing but a rounding error keep their order.
        plain = sorted(row, key=lambda one: isinstance(one, float))
        return tuple((one is None, type(one).__name__, one) for one in plain)

    return sorted((tuple(value(one) for one in row.values()) for row in rows), key=key)


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return type(one) is type(other) and one == other
