"""Where a subtask's time goes, and the figures that it reports.

Figures may be asked from another thread while a function does not return: they are read, nothing is
booked for them, and what is gone through is copied before.
"""

from __future__ import annotations

import heapq
from typing import Any

from raystream.clock import Clock
from raystream.contracts.metrics import Metrics
from raystream.flow.control import OperatorFigures, SubtaskFigures
from raystream.flow.element import MIN_TIME
from raystream.flow.figures import (
    INPUTS_SHOWN_MAX,
    METRICS_SHOWN_MAX,
    HistogramFigures,
    InputFigures,
)
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.subtask.chain import RunningChain
from raystream.subtask.gate import ChannelState, Gate
from raystream.subtask.inbox import Inbox
from raystream.subtask.keeping import Keeping
from raystream.subtask.outputs import Outputs
from raystream.subtask.splits import Splits

_OURS = ("late_rows", "failed_rows")
"""Counters that have a place of their own."""

_ORDER = {ChannelState.ACTIVE: 0, ChannelState.IDLE: 1, ChannelState.FINISHED: 2}
"""Who holds the watermark comes first."""


class Account:
    """Time since the subtask was made, by what it was spent on."""

    def __init__(self, clock: Clock, inbox: Inbox, outputs: Outputs, keeping: Keeping) -> None:
        self._clock = clock
        self._inbox = inbox
        self._outputs = outputs
        self._keeping = keeping
        self._since_us = clock.monotonic_us()
        self._working = False
        self._spent = {"busy": 0, "backpressured": 0, "idle": 0}

    @property
    def _state(self) -> str:
        if self._working:
            return "busy"
        return "backpressured" if self._outputs.full else "idle"

    def waited(self) -> None:
        """Book the time since the last entry, in which nothing was done."""
        now_us = self._clock.monotonic_us()
        passed_us = now_us - self._since_us
        state = self._state
        self._spent[state] += passed_us
        self._since_us = now_us
        if state == "backpressured":
            self._outputs.held(passed_us)

    def begin(self) -> None:
        """Begin a slice of work."""
        self.waited()
        self._working = True

    def end(self) -> None:
        """End a slice of work."""
        self.waited()
        self._working = False

    def figures(
        self, subtask: SubtaskId, chain: RunningChain, splits: Splits | None, gate: Gate
    ) -> SubtaskFigures:
        """Tell what has been done so far."""
        state, open_us = self._state, self._clock.monotonic_us() - self._since_us
        spent = {**self._spent, state: self._spent[state] + open_us}
        gate = gate if splits is None else splits.gate
        known = gate.channels()
        counts = {one: sum(state is one for _, state, _ in known) for one in ChannelState}
        incoming = self._inbox.channels.values()
        outputs = self._outputs.figures()
        return SubtaskFigures(
            subtask,
            _operators(chain),
            None if gate.output_us == MIN_TIME else gate.output_us,
            spent["busy"],
            spent["backpressured"],
            spent["idle"],
            sum(channel.queued_bytes for channel in incoming),
            sum(channel.window_bytes for channel in incoming),
            chain.rows_in[0],
            sum(
                rows for node, rows in zip(chain.nodes, chain.rows_out, strict=True) if node.outputs
            ),
            sum(channel.consumed_bytes + channel.queued_bytes for channel in incoming),
            sum(output.bytes for output in outputs),
            _inputs(known, splits, self._inbox),
            counts[ChannelState.ACTIVE],
            counts[ChannelState.IDLE],
            counts[ChannelState.FINISHED],
            outputs,
            open_us if self._working else 0,
            chain.inside if self._working else "",
            snapshot=self._keeping.newest,
        )


def _inputs(known: list[Any], splits: Splits | None, inbox: Inbox) -> tuple[InputFigures, ...]:
    first = heapq.nsmallest(INPUTS_SHOWN_MAX, known, key=lambda one: (_ORDER[one[1]], one[2]))
    return tuple(
        InputFigures(
            str(name) if splits is not None else _peer(inbox, name),
            state.value,
            None if watermark_us == MIN_TIME else watermark_us,
            None if splits is None else splits.silent_us(name),
        )
        for name, state, watermark_us in first
    )


def _peer(inbox: Inbox, channel: ChannelId) -> str:
    return str(inbox.channels[channel].link.peer)


def _operators(chain: RunningChain) -> tuple[OperatorFigures, ...]:
    return tuple(
        OperatorFigures(
            node.name,
            rows_in,
            rows_out,
            ctx.metrics.counter("late_rows").value,
            ctx.metrics.counter("failed_rows").value,
            *_users(ctx.metrics),
            busy_us,
        )
        for node, ctx, rows_in, rows_out, busy_us in zip(
            chain.nodes,
            chain.contexts,
            chain.rows_in,
            chain.rows_out,
            chain.busy_us(),
            strict=True,
        )
    )


def _users(
    metrics: Metrics,
) -> tuple[dict[str, int], dict[str, float], dict[str, HistogramFigures]]:
    counters = [(name, one) for name, one in list(metrics.counters.items()) if name not in _OURS]
    gauges = list(metrics.gauges.items())[:METRICS_SHOWN_MAX]
    histograms = list(metrics.histograms.items())[:METRICS_SHOWN_MAX]
    return (
        {name: one.value for name, one in counters[:METRICS_SHOWN_MAX]},
        {name: one.value for name, one in gauges},
        {name: HistogramFigures(tuple(one.counts), one.total) for name, one in histograms},
    )
