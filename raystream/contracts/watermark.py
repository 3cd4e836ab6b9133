"""How a stream gets its event time and its watermarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw

from raystream.contracts.functions import Function
from raystream.errors import ConfigError
from raystream.flow.time import Duration, micros, positive

Timestamp: TypeAlias = str | nw.Expr | Callable[[Any], Any]
"""A column's name, an expression, or a function of the row."""

UNITS_PER_US: dict[str, tuple[int, int]] = {
    "s": (1_000_000, 1),
    "ms": (1_000, 1),
    "us": (1, 1),
    "ns": (1, 1_000),
}
"""Factor and divisor that turn an integer in a unit into microseconds."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Let the sources of a ``group`` advance together, at most ``max_drift`` of event time apart.

    A split whose watermark is further than that ahead of the least watermark of the group (over
    the active splits of all its sources, in all subtasks) is not read until the others have caught
    up; rows that were asked for before still come. Give an ``idleness`` where a split may be silent
    for long: until it is idle the others wait for it.
    """

    group: str
    max_drift: Duration

    def __post_init__(self) -> None:
        group: object = self.group
        if not isinstance(group, str) or not group:
            raise ConfigError(f"the group of an alignment is a name, got {group!r:.60}")
        if self.max_drift_us < 0:
            raise ConfigError(f"max_drift is negative: {self.max_drift!r}")

    @property
    def max_drift_us(self) -> int:
        return micros(self.max_drift)


@dataclass(frozen=True, eq=False)
class WatermarkStrategy:
    """Read event time from ``timestamp``; rows may come late by ``out_of_orderness``.

    The watermark is ``max_ts - out_of_orderness - 1 us``, per split, the least over all splits,
    at most one behind a batch: a row that keeps the promise is never late, wherever batches are
    cut. A split that has been silent for ``idleness`` no longer holds it back, nor does, behind
    ``assign_timestamps``, the stream in one subtask. ``unit`` (``s ms us ns``) reads integers;
    naive timestamps and dates are UTC.
    """

    timestamp: Timestamp
    out_of_orderness: Duration = field(default="0s", kw_only=True)
    idleness: Duration | None = field(default=None, kw_only=True)
    alignment: Alignment | None = field(default=None, kw_only=True)
    unit: str = field(default="us", kw_only=True)

    def __post_init__(self) -> None:
        _check(self)
        if self.out_of_orderness_us < 0:
            raise ConfigError(f"out_of_orderness is negative: {self.out_of_orderness!r}")

    @property
    def out_of_orderness_us(self) -> int:
        return micros(self.out_of_orderness)

    @property
    def idleness_us(self) -> int | None:
        return None if self.idleness is None else micros(self.idleness)

    def describe(self) -> str:
        """Say in a few words where time comes from, for ``explain``."""
        return f"by {_named(self.timestamp)}, up to {self.out_of_orderness} late"


@dataclass(frozen=True, eq=False)
class Punctuated:
    """Read event time from ``timestamp``, and watermarks from the rows that carry them.

    ``fn(row)`` gives a point in time W, "after this row none with ts <= W comes", or None. It may
    be a function, an instance, or a class that is made once a subtask. W is read like the
    timestamp: an int in ``unit``, a datetime or a date. It counts for the split of its row, a lower
    one than before changes nothing, and the stream's is the least over all splits. W stands
    directly behind its row, so that the outcome does not depend on how rows are cut into batches;
    rows behind it that break the promise are late. Watermarks cut batches: one with every row makes
    a batch of every row.
    """

    timestamp: Timestamp
    fn: Callable[[Any], Any]
    unit: str = field(default="us", kw_only=True)
    idleness: Duration | None = field(default=None, kw_only=True)
    alignment: Alignment | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check(self)
        if not callable(self.fn):
            raise ConfigError(
                f"fn of rs.Punctuated is a function of the row, got {self.fn!r:.60}",
                hint='rs.Punctuated("at", lambda row: row["at"] if row["last"] else None)',
            )

    @property
    def out_of_orderness_us(self) -> int:
        return 0

    @property
    def idleness_us(self) -> int | None:
        return None if self.idleness is None else micros(self.idleness)

    def describe(self) -> str:
        """Say in a few words where time comes from, for ``explain``."""
        return f"by {_named(self.timestamp)}, watermarks by {Function(self.fn).name}"


Strategy: TypeAlias = WatermarkStrategy | Punctuated
"""What ``watermark=`` and ``assign_timestamps()`` take."""


def _check(strategy: Strategy) -> None:
    if strategy.unit not in UNITS_PER_US:
        raise ConfigError(f"unit must be one of s, ms, us, ns, got {strategy.unit!r}")
    if strategy.idleness is not None:
        positive(strategy.idleness, "idleness")
    if not isinstance(strategy.alignment, Alignment | None):
        raise ConfigError(
            f"alignment is a rs.Alignment, got {strategy.alignment!r:.60}",
            hint='rs.Alignment("group", max_drift="1m")',
        )


def _named(timestamp: Timestamp) -> str:
    if isinstance(timestamp, str):
        return timestamp
    return "expr" if isinstance(timestamp, nw.Expr) else Function(timestamp).name
