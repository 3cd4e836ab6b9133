"""How windows read the lengths they are given, and write them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from raystream.errors import PlanError
from raystream.flow.time import Duration, micros

TimeKind: TypeAlias = Literal["event", "processing"]
"""Whose time windows are cut in: that of the rows, or that of the machine."""

LENGTH_US_MAX = 1 << 61
"""Seventy thousand years: sums of a time and a window's size stay within reach of int64."""

DAY_US = 86_400_000_000
_UNITS = (("d", DAY_US), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))


def length(value: Duration, window: str, name: str) -> int:
    """Read a duration that is longer than nothing.

    Raises: PlanError naming the argument.
    """
    length_us = micros(value)
    if length_us <= 0:
        raise PlanError(
            f"{window}({name}=) must be longer than nothing, got {value!r}",
            hint=f'give a {name} such as "10s"',
        )
    if length_us > LENGTH_US_MAX:
        raise PlanError(f"{window}({name}=) is longer than 70,000 years: {value!r}")
    return length_us


def offset(value: Duration, window: str) -> int:
    """Read a duration of either sign.

    Raises: PlanError if it is out of reach.
    """
    offset_us = micros(value)
    if abs(offset_us) > LENGTH_US_MAX:
        raise PlanError(f"{window}(offset=) is longer than 70,000 years: {value!r}")
    return offset_us


def check_time(value: Any, window: str) -> None:
    """Refuse what is neither event time nor processing time.

    Raises: PlanError.
    """
    if value not in ("event", "processing"):
        raise PlanError(f'{window}(time=) is "event" or "processing", got {value!r:.60}')


def check_count(value: Any, window: str, name: str) -> None:
    """Refuse what is no number of rows.

    Raises: PlanError naming the argument.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PlanError(f"{window}({name}=) is an int of at least 1, got {value!r:.60}")


def text(length_us: int) -> str:
    """Write a length as ``1h30m``."""
    sign, rest = ("-", -length_us) if length_us < 0 else ("", length_us)
    parts = []
    for unit, unit_us in _UNITS:
        count, rest = divmod(rest, unit_us)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{rest // 1000}ms" if rest % 1000 == 0 else f"{rest}us")
    return sign + ("".join(parts) or "0s")


def beside(offset_us: int, time: TimeKind, tz: str | None = None) -> str:
    """Write what a window has beside its lengths."""
    shifted = f" offset {text(offset_us)}" if offset_us else ""
    zone = f" {tz}" if tz is not None else ""
    return f"{zone}{shifted}{' of processing time' if time == 'processing' else ''}"
