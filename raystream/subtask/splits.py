"""The splits of one source subtask: whose turn it is, what time it is, what is still to come.

The split with the lowest watermark is read next, so that splits that overlap in time advance
together; where the source is aligned, one that is too far ahead of its group is not read at all.
At most two polls are under way: one being read while the one before is worked on. What is given
behind the barrier that stops the reading is kept here, for whoever goes on with the readers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa
from typing_extensions import assert_never

from raystream.clock import Clock
from raystream.config import Limits
from raystream.contracts.batch import Batch as GivenBatch
from raystream.contracts.source import End, Later
from raystream.flow.batch import Batch
from raystream.flow.control import SubtaskFigures
from raystream.flow.element import Status, Watermark
from raystream.flow.messages import AlignTo, SplitsFound, Start
from raystream.flow.split import Split
from raystream.operators.source import SourceOperator
from raystream.subtask.events import Acknowledge, Poll, Polled, Tell
from raystream.subtask.gate import ChannelState, Gate
from raystream.subtask.kept_splits import KeptSplit
from raystream.subtask.pacing import Pace

_POLLS_MAX = 2

_MARK_EVERY_US = 1_000_000
"""How often a source lets a marker go with its rows: latency costs nothing to see."""

_LITTLE = 8

Rows: TypeAlias = GivenBatch | pa.RecordBatch | list[Any]
"""What a reader may give that is rows."""


@dataclass(slots=True)
class _Reading:
    split: Split
    order: int
    polls: int = 0
    asked_us: list[int] = field(default_factory=list)  # one a poll under way
    not_before_us: int = 0
    backoff_us: int = 0
    silent_since_us: int | None = None
    quiet: bool = False  # it has said when it will have something
    finished: bool = False
    position: Any = None  # of the next row that the chain has not had
    backlog_rows: int | None = None


class Splits:
    """Chooses what to poll; ``gate`` combines the watermarks of the splits."""

    def __init__(self, operator: SourceOperator, clock: Clock, limits: Limits) -> None:
        self._operator = operator
        self._clock = clock
        self._limits = limits
        self._readings: dict[str, _Reading] = {}
        self._under_way = 0
        self._pace = Pace(operator.alignment)
        self._restored: tuple[KeptSplit, ...] = ()
        self._answers: list[Polled] = []  # that the chain has not had; _POLLS_MAX, and idle splits
        self._drained = False
        self._marked_us = clock.monotonic_us()
        self.stopped = False  # nothing more is read, though it has not ended
        self.gate = Gate()
        self.more_may_come = False
        self.dry_polls = 0

    def restore(self, splits: tuple[KeptSplit, ...], ahead: tuple[Polled, ...] = ()) -> None:
        """Take up splits where they were left; called once, before ``learn``.

        ``ahead`` is what their readers, still open, have given beyond that.
        """
        self._restored, self._answers = splits, list(ahead)

    def answer(self, polled: Polled) -> None:
        """Take what a reader gave; it waits for its turn."""
        if not self._drained:
            self._answers.append(polled)

    @property
    def answered(self) -> bool:
        """Whether something that a reader gave is to go through the chain."""
        return bool(self._answers) and not self.stopped

    def next_answer(self) -> Polled:
        """Give what came first: it goes through the chain now, and the next row is behind it."""
        polled = self._answers.pop(0)
        reading = self._readings[polled.split]
        reading.position, reading.backlog_rows = polled.position, polled.backlog_rows
        if isinstance(polled.rows, GivenBatch | pa.RecordBatch | list):
            # Where more is always to come a batch that is nearly empty has taken all that is there.
            little = len(polled.rows) < self._limits.batch_rows_max // _LITTLE
            self.dry_polls += little and not self._operator.bounded
        return polled

    @property
    def ahead(self) -> tuple[Polled, ...]:
        """What readers have given beyond where the splits stand, and will not say again."""
        idle = (name for name in self._readings if self.gate.state_of(name) is ChannelState.IDLE)
        said = (Polled(name, Status(idle=True), self._readings[name].position) for name in idle)
        return (*said, *self._answers)

    @property
    def awaited(self) -> int:
        """How many polls nobody has answered yet."""
        return self._under_way - len(self._answers)

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that are read here, or have been."""
        return tuple(dict.fromkeys([kept.split.id for kept in self._restored] + [*self._readings]))

    def marks(self) -> int | None:
        """Give the time of day if the rows that are read now are to be followed by a marker."""
        now_us = self._clock.monotonic_us()
        if now_us - self._marked_us < _MARK_EVERY_US:
            return None
        self._marked_us = now_us
        return self._clock.now_us()

    def silent_us(self, split: str) -> int | None:
        """Tell how long a split has had nothing, though it was asked; None where it gives rows."""
        since_us = self._readings[split].silent_since_us
        return None if since_us is None else self._clock.monotonic_us() - since_us

    def kept(self) -> list[KeptSplit]:
        """Give each split with the position of its next row: what a checkpoint keeps."""
        return [
            KeptSplit(r.split, r.position, self.gate.watermark_of(name), r.finished)
            for name, r in self._readings.items()
        ]

    def acknowledge(self, kept: list[KeptSplit]) -> Iterator[Acknowledge]:
        """Tell readers that what was kept is durable."""
        for one in kept:
            if not one.finished and one.position is not None:
                yield Acknowledge(one.split.id, one.position)

    def drain(self) -> Iterator[Watermark | Status]:
        """End the input here; where splits stand is kept all the same."""
        self._drained, self.stopped, self.more_may_come = True, True, False
        self._answers.clear()
        for reading in self._unfinished():
            yield from self.gate.finish(reading.split.id)

    def _take_up(self, new: tuple[Split, ...]) -> Iterator[Watermark | Status]:
        for kept in self._restored:
            reading = _Reading(kept.split, len(self._readings), position=kept.position)
            reading.finished = kept.finished
            self._readings[kept.split.id] = reading
            yield from self.gate.add(kept.split.id, kept.watermark_us)
        for polled in self._answers:
            self._asks(self._readings[polled.split], self._clock.monotonic_us())
        yield from self.add(new)
        # Only now that all are known: time goes on by the least of those that have not ended.
        for kept in self._restored:
            if kept.finished:
                yield from self.gate.finish(kept.split.id)
        if self.more_may_come:
            yield from self.gate.rest()
        self._restored = ()

    def add(self, splits: tuple[Split, ...]) -> Iterator[Status]:
        """Take splits; ones that are known already change nothing."""
        for split in splits:
            if split.id not in self._readings:
                # A split that comes late takes its turns; it does not catch up with the others'.
                polls = min((r.polls for r in self._unfinished()), default=0)
                self._readings[split.id] = _Reading(split, len(self._readings), polls)
                yield from self.gate.add(split.id, self._operator.first_watermark(split))
        if self.more_may_come:
            yield from self.gate.rest()

    @property
    def unfinished(self) -> int:
        """How many splits are read here that have not ended."""
        return sum(1 for _ in self._unfinished())

    @property
    def backlog_rows(self) -> int | None:
        """Rows that are there and not read; None where one of the readers cannot tell."""
        known = [reading.backlog_rows for reading in self._unfinished()]
        return None if None in known else sum(rows for rows in known if rows is not None)

    def figures(self, figures: SubtaskFigures) -> SubtaskFigures:
        """Add what is to be told of splits."""
        return dataclasses.replace(
            figures,
            splits=self.unfinished,
            dry_polls=self.dry_polls,
            backlog_rows=self.backlog_rows,
        )

    @property
    def finished(self) -> bool:
        """Whether every row of every split has been given."""
        ended = not self._answers and all(r.finished for r in self._readings.values())
        return self._drained or (not self.stopped and not self.more_may_come and ended)

    def learn(self, event: Start | SplitsFound | AlignTo) -> Iterator[Watermark | Status]:
        """Take what the coordinator says of splits, and of the others of the alignment group."""
        match event:
            case Start(splits, more_splits, others_us):
                self.more_may_come = more_splits
                self._pace.others_us = others_us
                yield from self._take_up(splits)
            case SplitsFound(splits):
                yield from self.add(splits)
            case AlignTo(others_us):
                self._pace.others_us = others_us
            case _:
                assert_never(event)

    def asks(self, *, polls: bool) -> Iterator[Poll | Tell]:
        """Tell the time if it is due; if ``polls``, ask for rows while fewer than two are asked.

        That a split has to wait for others is no silence of its own.
        """
        if self.stopped:
            return
        now_us, limit_us = self._clock.monotonic_us(), self._limit_us()
        ahead = (
            []
            if limit_us is None
            else [r for r in self._unfinished() if self._is_ahead(r, limit_us)]
        )
        for reading in ahead:
            reading.silent_since_us = None
        waits = bool(ahead) and next(self._readable(limit_us), None) is None
        yield from self._pace.tells(self._least_us(), now_us, waits=waits)
        while polls and self._under_way < _POLLS_MAX:
            ready = [r for r in self._readable(limit_us) if r.not_before_us <= now_us]
            if not ready:
                return
            chosen = min(ready, key=self._turn)
            self._asks(chosen, now_us)
            yield Poll(chosen.split, self._limits.batch_rows_max, chosen.position)

    def dues(self, *, polls: bool) -> Iterator[int]:
        """Tell when the time is to be told and, if ``polls``, a split that had nothing is due."""
        if self.stopped:
            return
        yield from self._pace.dues(self._least_us())
        yield from self._due_again(polls, quiet=False)

    def moments(self, *, polls: bool) -> Iterator[int]:
        """Tell, if ``polls``, when splits that have said so will have something, or be idle."""
        yield from self._due_again(polls, quiet=True)

    def without_rows(
        self, split: str, said: Watermark | Status | Later | End | None
    ) -> Iterator[Watermark | Status]:
        """Note what a reader gave that is no rows."""
        match said:
            case None:
                yield from self.nothing(split)
            case Later(not_before_us):
                yield from self.nothing(split, not_before_us)
            case Watermark(time_us):
                yield from self.came(split)
                yield from self.gave(split, time_us)
            case Status(idle):
                reading, _ = self._answered(split)
                self._has_spoken(reading)
                yield from self.gate.go_idle(split) if idle else self.gate.active(split)
            case End.END:
                yield from self.ended(split)
            case _:
                assert_never(said)

    def nothing(self, split: str, not_before_us: int | None = None) -> Iterator[Watermark | Status]:
        """Note that a split had no rows; after its idleness it no longer holds the time.

        It is asked again soon, or when it has said, and in between if it may turn out to be idle.
        """
        reading, asked_us = self._answered(split)
        self.dry_polls += 1
        if reading.finished:
            return
        now_us = self._clock.monotonic_us()
        self._ask_again(reading, now_us, not_before_us)
        if self._is_ahead(reading, self._limit_us()):
            return  # it waits for others: whether it is silent will be seen when it is read again
        if reading.silent_since_us is None:
            reading.silent_since_us = now_us
        idleness_us = self._operator.idleness_us
        # The answer may have waited for a long time: it tells of the moment of the question.
        if idleness_us is not None and asked_us - reading.silent_since_us >= idleness_us:
            yield from self.gate.go_idle(split)
        elif idleness_us is not None and reading.quiet:
            idle_us = reading.silent_since_us + idleness_us
            reading.not_before_us = min(reading.not_before_us, idle_us)

    def convert(self, split: str, rows: Rows) -> Iterator[tuple[Batch, int | None]]:
        """Make batches of what the reader of a split gave, and say how far each brings its time."""
        return self._operator.convert(rows, self.gate.watermark_of(split))

    def gave(self, split: str, watermark_us: int | None) -> Iterator[Watermark | Status]:
        """Note that a split gave rows, and what they say of time; after the rows have left."""
        if watermark_us is not None:
            yield from self.gate.watermark(split, watermark_us)

    def came(self, split: str) -> Iterator[Watermark | Status]:
        """Note that rows of a split came, before they leave."""
        reading, _ = self._answered(split)
        self._has_spoken(reading)
        yield from self.gate.active(split)

    def ended(self, split: str) -> Iterator[Watermark | Status]:
        """Note that a split has no more rows."""
        reading, _ = self._answered(split)
        if not reading.finished:
            reading.finished = True
            yield from self.gate.finish(split)
            if self.more_may_come:
                yield from self.gate.rest()

    def held_up(self) -> None:
        """Note that nobody asks for rows just now: silence does not count as idleness."""
        for reading in self._readings.values():
            reading.silent_since_us = None

    def _has_spoken(self, reading: _Reading) -> None:
        reading.backoff_us, reading.not_before_us, reading.silent_since_us = 0, 0, None
        reading.quiet = False

    def _ask_again(self, reading: _Reading, now_us: int, not_before_us: int | None) -> None:
        least, most = self._limits.poll_idle_us_min, self._limits.poll_idle_us_max
        reading.backoff_us = min(max(least, reading.backoff_us * 2), most)
        reading.quiet = not_before_us is not None
        again_us = now_us + reading.backoff_us
        reading.not_before_us = again_us if not_before_us is None else not_before_us

    def _due_again(self, polls: bool, *, quiet: bool) -> Iterator[int]:
        if polls and self._under_way < _POLLS_MAX and not self.stopped:
            readable = self._readable(self._limit_us())
            yield from (r.not_before_us for r in readable if r.quiet is quiet)

    def _unfinished(self) -> Iterator[_Reading]:
        return (reading for reading in self._readings.values() if not reading.finished)

    def _readable(self, limit_us: int | None) -> Iterator[_Reading]:
        if limit_us is None:
            return self._unfinished()
        return (r for r in self._unfinished() if not self._is_ahead(r, limit_us))

    def _is_ahead(self, reading: _Reading, limit_us: int | None) -> bool:
        return limit_us is not None and self.gate.watermark_of(reading.split.id) > limit_us

    def _limit_us(self) -> int | None:
        return self._pace.limit_us(self._least_us())

    def _least_us(self) -> int | None:
        """Give the least watermark of the splits that the group waits for."""
        if self._operator.alignment is None:
            return None
        names = (reading.split.id for reading in self._unfinished())
        active = (name for name in names if self.gate.state_of(name) is ChannelState.ACTIVE)
        return min((self.gate.watermark_of(name) for name in active), default=None)

    def _asks(self, reading: _Reading, now_us: int) -> None:
        reading.polls += 1
        reading.asked_us.append(now_us)
        self._under_way += 1

    def _answered(self, split: str) -> tuple[_Reading, int]:
        self._under_way -= 1
        assert self._under_way >= 0, "an answer to no poll"
        reading = self._readings[split]
        return reading, reading.asked_us.pop(0)

    def _turn(self, reading: _Reading) -> tuple[int, int, int]:
        turns = reading.polls if self.more_may_come or self._operator.in_turns else 0
        return self.gate.watermark_of(reading.split.id), turns, reading.order
