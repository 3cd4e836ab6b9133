"""Durations and points in time, in every form that the API takes."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from raystream.errors import ConfigError
from raystream.flow.time import micros, positive


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("500ms", 500_000),
        ("10s", 10_000_000),
        ("1h30m", 5_400_000_000),
        ("2d", 172_800_000_000),
        ("1.5s", 1_500_000),
        ("-3s", -3_000_000),
        ("7us", 7),
        (timedelta(seconds=1, microseconds=1), 1_000_001),
        (42, 42),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc), 1_000_000),
        (datetime(1970, 1, 1, 0, 0, 1), 1_000_000),  # noqa: DTZ001  naive is UTC: that is the rule
        (date(1970, 1, 2), 86_400_000_000),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc), -1),
    ],
)
def test_every_form_becomes_microseconds(value, expected):
    assert micros(value) == expected


@pytest.mark.parametrize("value", ["", "ten", "10", "10 parsecs", "1h x", None, 1.5, True])
def test_what_is_no_duration_is_refused_with_a_way_out(value):
    with pytest.raises(ConfigError, match="not a duration"):
        micros(value)


def test_a_length_of_nothing_is_named():
    with pytest.raises(ConfigError, match="gap must be longer than nothing"):
        positive("0s", "gap")
