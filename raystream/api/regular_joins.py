"""Joins of whole streams: how long their rows stay, and which table the output describes."""

from __future__ import annotations

from typing import Any

from raystream.api.columns import StreamColumns
from raystream.contracts.window_lengths import LENGTH_US_MAX
from raystream.errors import ConfigError
from raystream.flow.batch import visible_names
from raystream.flow.time import positive
from raystream.graph.logical import StreamType
from raystream.operators.join_plan import JoinPlan

FOREVER = "forever"


def ttl_us(columns: StreamColumns, ttl: Any) -> int | None:
    """Read how long a row stays; None: forever.

    Raises: PlanError where it is no duration.
    """
    if ttl == FOREVER:
        return None
    try:
        length_us = positive(ttl, "join(ttl=)")
    except ConfigError as error:
        raise columns.error(
            f'join(ttl=) takes a duration or "{FOREVER}": {error.message}',
            hint='write "10s", "5m", "1h30m" or "2d", a timedelta, an int of microseconds, or '
            f'"{FOREVER}"',
        ) from error
    if length_us > LENGTH_US_MAX:
        raise columns.error(
            f"join(ttl=) is longer than 70,000 years: {ttl!r}", hint=f'ttl="{FOREVER}"'
        )
    return length_us


def gives_changes(left: StreamType, right: StreamType, how: str) -> bool:
    """Tell whether a join of these takes back what it gave."""
    plain = left.changelog is None and right.changelog is None
    return not (plain and how in ("inner", "semi"))


def table_key(plan: JoinPlan, left: StreamType, right: StreamType) -> tuple[str, ...]:
    """Give the key of the table that a join's changes describe; all columns where none is known.

    A row of the left meets one of the right at most where the right's key is among its join keys:
    then the left's key is that of the pairs, unless rows of the right come out alone, which have
    none of the left's.
    """
    one, other = _known(left), _known(right)
    if plan.left_only:
        return one or _all(plan)
    if one is None or other is None:
        return _all(plan)
    names = dict(plan.kept) | dict(zip(plan.right_keys, plan.left_keys, strict=True))
    others = tuple(names[name] for name in other)
    if set(other) <= set(plan.right_keys) and not plan.keeps_right:
        return one
    if set(one) <= set(plan.left_keys) and not plan.keeps_left:
        return tuple(dict.fromkeys(others))
    return tuple(dict.fromkeys([*one, *others]))


def _known(type: StreamType) -> tuple[str, ...] | None:
    """Give the key of a changelog; None where all columns are, which says that none is known."""
    assert type.schema is not None, "checked: the stream has columns"
    changelog = type.changelog
    return None if changelog is None or set(changelog) == set(type.schema.names) else changelog


def _all(plan: JoinPlan) -> tuple[str, ...]:
    return tuple(visible_names(plan.output))
