"""What joins by event time ask of their streams, their windows and their tolerance."""

from __future__ import annotations

from datetime import date
from typing import Any

from raystream.api.columns import StreamColumns
from raystream.contracts.window import WINDOWS, TimeWindow, Window, is_timed, needs_event_time
from raystream.contracts.window_lengths import LENGTH_US_MAX
from raystream.contracts.window_unaligned import Global, Session
from raystream.errors import ConfigError
from raystream.flow.time import micros


def check_join_window(columns: StreamColumns, window: Window | Any) -> TimeWindow:
    """Refuse windows that rows of two streams cannot meet in.

    Raises: PlanError that says what to use instead.
    """
    if not isinstance(window, WINDOWS):
        raise columns.error(
            f"join(window=) takes a window, got {window!r:.60}",
            hint='rs.Tumbling("10s"), rs.Sliding("10s", "2s"), rs.Session("5m"), …',
        )
    if isinstance(window, Global):
        raise columns.error(
            "join(window=rs.Global()): a window without end would never be joined",
            hint='ttl="forever" joins all rows as they come; ttl="1h" forgets them in time',
        )
    if not is_timed(window):
        raise columns.error(
            f"join(window=) takes windows of event time, and {window} counts the rows of one "
            "stream",
            hint='rs.Tumbling("10s"); ttl="1h" joins rows as they come',
        )
    if not needs_event_time(window):
        raise columns.error(
            f"join(window=) takes windows of event time, got {window}: what meets would depend on "
            "when rows happen to come",
            hint='leave time="processing" out; ttl="1h" joins rows by the time of the machine',
        )
    if isinstance(window, Session) and window.gap_us is None:
        raise columns.error(
            f"join(window=) takes sessions of one gap, got {window}",
            hint='rs.Session("5m")',
        )
    assert not hasattr(window, "n"), "all others have an end"
    return window


def check_tolerance(columns: StreamColumns, tolerance: Any) -> int | None:
    """Read ``tolerance=``: how much older than the left's row the right's may be.

    Units: -> microseconds; None: any age.
    Raises: PlanError unless it is a duration of nothing or more.
    """
    if tolerance is None:
        return None
    if isinstance(tolerance, date):
        raise columns.error(
            f"{columns.verb}(tolerance=) takes a duration, got {tolerance!r:.60}",
            hint='tolerance="1h"',
        )
    try:
        tolerance_us = micros(tolerance)
    except ConfigError as error:
        raise columns.error(
            f"{columns.verb}(tolerance=): {error.message}", hint=error.hint
        ) from error
    if tolerance_us < 0:
        raise columns.error(
            f"{columns.verb}(tolerance=) cannot be negative, got {tolerance!r:.60}",
            hint='tolerance="1h" takes rows of the right up to an hour older than the left\'s',
        )
    if tolerance_us > LENGTH_US_MAX:
        raise columns.error(
            f"{columns.verb}(tolerance=) is longer than 70,000 years: {tolerance!r:.60}",
            hint="leave it out: then any age will do",
        )
    return tolerance_us
