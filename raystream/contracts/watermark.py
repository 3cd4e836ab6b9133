"""How a stream gets its event time and its watermarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw

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


@dataclass(frozen=True, eq=False)
class WatermarkStrategy:
    """Read event time from ``timestamp``; rows may come late by ``out_of_orderness``.

    The watermark is ``max_ts - out_of_orderness - 1 us``, per split, the least over all splits. A
    split that has been silent for ``idleness`` no longer holds it back. ``unit`` (``s ms us ns``)
    reads integer columns; naive timestamps and dates are UTC.
    """

    timestamp: Timestamp
    out_of_orderness: Duration = field(default="0s", kw_only=True)
    idleness: Duration | None = field(default=None, kw_only=True)
    unit: str = field(default="us", kw_only=True)

    def __post_init__(self) -> None:
        if self.unit not in UNITS_PER_US:
            raise ConfigError(f"unit must be one of s, ms, us, ns, got {self.unit!r}")
        if self.out_of_orderness_us < 0:
            raise ConfigError(f"out_of_orderness is negative: {self.out_of_orderness!r}")
        if self.idleness is not None:
            positive(self.idleness, "idleness")

    @property
    def out_of_orderness_us(self) -> int:
        return micros(self.out_of_orderness)

    @property
    def idleness_us(self) -> int | None:
        return None if self.idleness is None else micros(self.idleness)
