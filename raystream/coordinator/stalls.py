"""Say why a watermark stands still: which split holds it, since when, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raystream.coordinator.report import JobReport, SubtaskReport
from raystream.coordinator.words import moment, seconds
from raystream.flow.element import MAX_TIME
from raystream.flow.figures import InputFigures

STILL_US = 3_000_000
"""A watermark that has not moved for so long stands still; figures come once a second."""

_SAID_MAX = 3
"""Of so many sources it is said; mostly it is one."""

_BACKPRESSURED = 0.3


@dataclass(frozen=True, slots=True)
class _Holder:
    """The input of one source subtask that its watermark waits for."""

    source: str
    subtask: SubtaskReport
    held_by: InputFigures

    @property
    def still_us(self) -> int:
        return self.held_by.still_us + self.subtask.age_us

    @property
    def watermark_us(self) -> int:
        return -MAX_TIME if self.held_by.watermark_us is None else self.held_by.watermark_us


def stalled(report: JobReport) -> tuple[str, ...]:
    """Say of each source whose watermark stands still what it waits for; empty if time goes on.

    Jobs without event time have no watermark that could stand.
    """
    inputs = [i for one in report.subtasks for i in one.figures.inputs]
    if all(one.watermark_us is None for one in inputs):
        return ()
    sources = [one.name for one in report.status.operators if one.kind == "source"]
    said = (sentence for source in sources for sentence in _source(report, source))
    return tuple(sentence for sentence, _ in zip(said, range(_SAID_MAX), strict=False))


def _source(report: JobReport, source: str) -> Iterator[str]:
    subtasks = report.subtasks_of(source)
    alive = [one for one in subtasks if one.figures.inputs_active or one.figures.inputs_idle]
    if alive and not any(one.figures.inputs_active for one in alive):
        still_us = min(i.still_us for one in alive for i in one.figures.inputs) + alive[0].age_us
        if still_us >= STILL_US:
            yield (
                f'the watermark stands still: every split of source "{source}" has been idle for '
                f"{seconds(still_us)}; windows stay open until rows come"
            )
        return
    holders = [
        _Holder(source, one, one.figures.inputs[0])
        for one in alive
        if one.figures.inputs_active and one.figures.inputs[0].status == "active"
    ]
    if holders:
        least = min(holders, key=lambda one: one.watermark_us)
        if least.still_us >= STILL_US and least.watermark_us != MAX_TIME:
            yield _sentence(report, least)


def _sentence(report: JobReport, holder: _Holder) -> str:
    split = holder.held_by
    index = holder.subtask.figures.subtask.index
    head = (
        f"the watermark stands still at {moment(split.watermark_us)} for "
        f'{seconds(holder.still_us)}: split "{split.name}" of source "{holder.source}" '
        f"(subtask {index}) "
    )
    others = _others(report, holder)
    if split.silent_us is not None and split.silent_us + holder.subtask.age_us >= STILL_US:
        silent = seconds(split.silent_us + holder.subtask.age_us)
        if not others:
            return head + f"has had nothing to read for {silent}; windows stay open until rows come"
        return head + (
            f"has had nothing to read for {silent} and holds back {others}; give the "
            "source idleness= so that it does not"
        )
    if holder.subtask.figures.working_us >= STILL_US:
        inside = holder.subtask.figures.working_in
        return head + f'waits for "{inside}" in the same subtask, which does not return'
    if holder.subtask.backpressured >= _BACKPRESSURED:
        return head + "waits for the operators behind it, which are slow (backpressure)"
    if holder.subtask.rows_out_per_s:
        return head + "gives rows whose event time does not go on; look at its timestamps"
    return head + "has not been read for as long; its reader does not answer"


def _others(report: JobReport, holder: _Holder) -> str:
    """Say how many splits of the job are further than the one that holds the watermark."""
    sources = {one.name: one.chain for one in report.status.operators if one.kind == "source"}
    further = sum(
        one.figures.inputs_active - (one is holder.subtask)
        for one in report.subtasks
        if one.figures.subtask.chain in sources.values()
    )
    if not further:
        return ""
    return "another one" if further == 1 else f"{further} others"
