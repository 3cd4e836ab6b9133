"""Where a subtask's time goes, and the figures that it reports."""

from __future__ import annotations

from typing import Literal

from raystream.clock import Clock
from raystream.flow.control import OperatorFigures, SubtaskFigures
from raystream.flow.element import MIN_TIME
from raystream.flow.ids import SubtaskId
from raystream.subtask.chain import RunningChain


class Account:
    """Time since the subtask was made, by what it was spent on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_us = clock.monotonic_us()
        self._spent = {"busy": 0, "backpressured": 0, "idle": 0}

    def spend(self, on: Literal["busy", "backpressured", "idle"]) -> None:
        """Book the time since the last entry."""
        now_us = self._clock.monotonic_us()
        self._spent[on] += now_us - self._since_us
        self._since_us = now_us

    def figures(
        self, subtask: SubtaskId, chain: RunningChain, watermark_us: int, queued_bytes: int
    ) -> SubtaskFigures:
        """Tell what has been done so far."""
        operators = tuple(
            OperatorFigures(
                node.name,
                rows_in,
                rows_out,
                ctx.metrics.counter("late_rows").value,
                ctx.metrics.counter("failed_rows").value,
            )
            for node, ctx, rows_in, rows_out in zip(
                chain.nodes, chain.contexts, chain.rows_in, chain.rows_out, strict=True
            )
        )
        return SubtaskFigures(
            subtask,
            operators,
            None if watermark_us == MIN_TIME else watermark_us,
            self._spent["busy"],
            self._spent["backpressured"],
            self._spent["idle"],
            queued_bytes,
        )
