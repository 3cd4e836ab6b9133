"""What fits together with a window, and which operators can gather it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raystream.api.columns import StreamColumns
from raystream.contracts import triggers
from raystream.contracts.aggregate import Aggregate
from raystream.contracts.evictor import Evictor
from raystream.contracts.functions import Function, check_function
from raystream.contracts.trigger import Trigger
from raystream.contracts.window import (
    WINDOWS,
    Cumulative,
    Sliding,
    Tumbling,
    Window,
    is_timed,
    needs_event_time,
)
from raystream.contracts.window_unaligned import Global, Session
from raystream.graph.logical import LogicalNode, is_bounded

WINDOW_COLUMNS = ("window_start", "window_end")


@dataclass(frozen=True, slots=True)
class Choices:
    """What was asked of a window beside its kind; None and 0: nothing."""

    lateness_us: int = 0
    late_tag: str | None = None
    trigger: Trigger | None = None
    evictor: Evictor | None = None


def takes_columns(
    window: Window,
    choices: Choices,
    aggregates: Mapping[str, Aggregate] | None,
) -> bool:
    """Tell whether the operators of columns gather such windows; the others go row by row.

    ``aggregates`` None: the question is about ``top_k``.
    """
    if aggregates is None:
        # Cumulative windows nest, which sorted rows cannot make use of.
        return isinstance(window, (Tumbling, Sliding)) and takes_plain(window, choices)
    if choices.trigger is not None or choices.evictor is not None:
        return False
    own = any(one.kind == "function" for one in aggregates.values())
    if isinstance(window, Session):
        # The accumulators of a user's function are joined in order of arrival, which columns do
        # not keep over a session; and a session that has fired is not kept.
        return window.gap_us is not None and not own and not choices.lateness_us
    if not isinstance(window, (Tumbling, Sliding, Cumulative)):
        return False
    # What may fire again is kept beside what has fired: a user's accumulator is only there once.
    return not choices.lateness_us or (needs_event_time(window) and not own)


def takes_plain(window: Window, choices: Choices) -> bool:
    """Tell whether windows of event time are gathered as they are, with no choice made."""
    return needs_event_time(window) and choices == Choices()


def takes_objects(window: Window, choices: Choices) -> bool:
    """Tell whether aggregates of objects are gathered by the panes of a grid."""
    grid = isinstance(window, Sliding) or (isinstance(window, Tumbling) and window.tz is None)
    return grid and takes_plain(window, choices)


def check_window(
    node: LogicalNode, window: Any, keys: tuple[str, ...], verb: str, where: str
) -> None:
    """Refuse what is no window, and windows where there is no event time to open them by.

    Raises: PlanError.
    """
    columns = StreamColumns(node, verb, where)
    if not isinstance(window, WINDOWS):
        raise columns.error(
            f"{verb}() takes a window, got {window!r:.60}",
            hint='rs.Tumbling("10s"), rs.Sliding("10s", "2s"), rs.Session("5m"), …',
        )
    if node.type.changelog is not None:
        raise columns.error(
            f'{verb}(): stream "{columns.stream}" is a changelog, and what a window has counted '
            "cannot be taken back",
            hint='to_rows(op="op") makes every change a plain row',
        )
    if needs_event_time(window) and not node.type.timed:
        raise columns.error(
            f'{verb}() needs event time, and stream "{columns.stream}" has none: its source has '
            "no watermark strategy",
            hint='job.source(…, watermark=rs.WatermarkStrategy("time")), or assign_timestamps(…); '
            'windows of the time of the machine: time="processing"',
        )
    if isinstance(window, Session) and callable(window.gap):
        check_function(Function(window.gap), verb="Session", where=where)
    for key in keys:
        if key in WINDOW_COLUMNS:
            raise columns.error(
                f'a key column cannot be called "{key}": the window\'s own column is',
                hint="rename() it before key_by()",
            )


def check_fires(
    node: LogicalNode, window: Window, trigger: Trigger | None, columns: StreamColumns
) -> None:
    """Refuse a window that would never fire.

    Raises: PlanError.
    """
    by_default = trigger is None or isinstance(_innermost(trigger), triggers.EventTime)
    if isinstance(window, Global) and by_default and not is_bounded(node):
        chosen = "without a trigger" if trigger is None else "with triggers.EventTime()"
        raise columns.error(
            f"a global window {chosen} fires at the end of the input, and this one has no end",
            hint="window(rs.Global()).trigger(rs.triggers.Count(100))",
        )


def check_clock(window: Window, trigger: Trigger, columns: StreamColumns) -> None:
    """Refuse a trigger that waits for the other time than the one its windows end by.

    One of processing time does fire windows of event time: the clock comes to their last instant.
    Raises: PlanError.
    """
    inner = _innermost(trigger)
    by_clock = is_timed(window) and not needs_event_time(window)
    if by_clock and isinstance(inner, triggers.EventTime):
        raise columns.error(
            f"trigger(): a window of {window} is gone when the clock passes its end, which "
            "triggers.EventTime() does not wait for: it would not fire",
            hint="without trigger() it fires by the clock; EventTime() is for windows of "
            'time="event"',
        )
    if isinstance(window, Global) and isinstance(inner, triggers.ProcessingTime):
        raise columns.error(
            "trigger(): a global window has no end, so triggers.ProcessingTime() would never fire",
            hint='rs.triggers.ContinuousProcessingTime("1m") fires by the clock',
        )


def sees_rows(window: Window, choices: Choices) -> bool:
    """Tell whether rows are shown to somebody, or go out, as they came."""
    own = any(
        one is not None and not type(one).__module__.startswith("raystream.contracts.")
        for one in (_innermost(choices.trigger), choices.evictor)
    )
    gap = isinstance(window, Session) and callable(window.gap)
    return own or gap or choices.late_tag is not None


def _innermost(trigger: Trigger | None) -> Trigger | None:
    while isinstance(trigger, triggers.Purging):
        trigger = trigger.trigger
    return trigger


def reads_event_time(trigger: Trigger) -> bool:
    """Tell whether a trigger means nothing where rows have no event time."""
    return isinstance(_innermost(trigger), triggers.ContinuousEventTime)
