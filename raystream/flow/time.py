"""Durations and points in time, in every form that the API takes, as int64 microseconds."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import TypeAlias

from raystream.errors import ConfigError

Duration: TypeAlias = str | timedelta | int
Instant: TypeAlias = datetime | date | int

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)

_FIRST = datetime.min.replace(tzinfo=timezone.utc)
_LAST = datetime.max.replace(tzinfo=timezone.utc)
_FIRST_US = (_FIRST - EPOCH) // MICROSECOND
_LAST_US = (_LAST - EPOCH) // MICROSECOND

_UNIT_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)")


def micros(value: Duration | datetime | date) -> int:
    """Turn a duration or a point in time into microseconds.

    Units: a duration gives its length, a point in time the microseconds since the epoch, UTC;
    naive datetimes and dates are UTC; an int is microseconds already.
    Raises: ConfigError if the text is no duration such as ``"1h30m"``.
    """
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
        return (aware - EPOCH) // MICROSECOND
    if isinstance(value, date):
        return (datetime(value.year, value.month, value.day, tzinfo=timezone.utc) - EPOCH) // (
            MICROSECOND
        )
    if isinstance(value, timedelta):
        return value // MICROSECOND
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _no_duration(value)
    return int(value)


def moment(time_us: int) -> datetime:
    """Give a time as an aware datetime; beyond the years 1 to 9999 it saturates."""
    return EPOCH + timedelta(microseconds=min(max(time_us, _FIRST_US), _LAST_US))


def positive(value: Duration, name: str) -> int:
    """Read a duration that must be longer than nothing.

    Raises: ConfigError naming ``name`` otherwise.
    """
    length_us = micros(value)
    if length_us <= 0:
        raise ConfigError(f"{name} must be longer than nothing, got {value!r}")
    return length_us


def _parse(text: str) -> int:
    # A sign is that of the whole, not of its first part.
    sign, parts = (-1, text.lstrip()[1:]) if text.lstrip().startswith("-") else (1, text)
    total_us, end = 0.0, 0
    exact_us = 0
    for part in _PART.finditer(parts):
        if part.start() != end:
            raise _no_duration(text)
        number, unit = part.groups()
        end = part.end()
        if "." in number:
            total_us += float(number) * _UNIT_US[unit]
        else:
            exact_us += int(number) * _UNIT_US[unit]
    if end == 0 or parts[end:].strip():
        raise _no_duration(text)
    return sign * (exact_us + round(total_us))


def _no_duration(value: object) -> ConfigError:
    return ConfigError(
        f"not a duration: {value!r}",
        hint='write "500ms", "10s", "5m", "1h30m" or "2d", a timedelta, or an int of microseconds',
    )
