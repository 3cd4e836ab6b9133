"""What comes out of a stream, written down in the words of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa

from raystream.connectors.memory import MemorySink, TableSink
from raystream.contracts.batch import Batch as Rows
from raystream.contracts.context import OpenContext
from raystream.flow.batch import NO_TIME, Batch, Columns
from raystream.flow.changes import op_names
from raystream.flow.element import MIN_TIME, Side, Status
from raystream.keyed.snapshot import (
    Section,
    Share,
    Snapshot,
    arrival_section,
    restored_arrival,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.operators.operator import Operator, Output, Spec
from raystream.operators.process_rows import ProcessRows
from raystream.operators.pyrows import to_rows
from raystream.testing.items import Active, At, Idle, Watermark

_NOTED = "noted"
"""The section of what an operator has sent aside."""

Told: TypeAlias = Callable[[str, str], None]
"""Told what a recording takes down: its name, and a few words."""


def nobody(name: str, words: str) -> None:
    """Tell nobody."""


@dataclass(eq=False)
class Recording:
    """The rows of one stream, and everything that came with them, in order."""

    name: str
    told: Told = nobody
    changelog: tuple[str, ...] | None = None
    taken: list[Rows | Watermark | Idle | Active] = field(default_factory=list)
    """Batches and what was said of time, in order; a job that goes on from a checkpoint takes back
    what came behind it."""

    @property
    def rows(self) -> list[Any]:
        """The rows, or, of changes, the table that they end in."""
        kept = MemorySink() if self.changelog is None else TableSink(self.changelog)
        for one in self.taken:
            if isinstance(one, Rows):
                kept.receive(one)
        return kept.rows

    @property
    def events(self) -> list[Any]:
        """Rows, those that have an event time with it, and between them what was said of time."""
        events: list[Any] = []
        for one in self.taken:
            if not isinstance(one, Rows):
                events.append(one)
            elif one.timestamps is None:
                events += one.rows
            else:
                pairs = zip(one.timestamps.tolist(), one.rows, strict=True)
                events += [row if ts == NO_TIME else At(ts, row) for ts, row in pairs]
        return events

    def batch(self, batch: Batch) -> None:
        """Take rows."""
        rows, times = values_of(batch), batch.timestamps
        codes = batch.ops if isinstance(batch, Columns) else None
        self.taken.append(Rows(rows, times, None if codes is None else op_names(codes)))
        self.told(self.name, f"{len(rows)} rows")

    def word(self, word: Watermark | Idle | Active) -> None:
        """Take what is said of time."""
        self.taken.append(word)
        self.told(self.name, str(word))


def values_of(batch: Batch) -> list[Any]:
    """Give rows as Python values: dicts where the stream has columns."""
    return to_rows(batch.visible) if isinstance(batch, Columns) else batch.values


@dataclass(frozen=True)
class RecordSpec:
    """Take down what comes out of one stream; it runs in the process of the test."""

    recording: Recording

    @property
    def verb(self) -> str:
        return "record"

    def describe(self) -> str:
        return ""

    def build(self) -> Recorder:
        return Recorder(self.recording)


class Recorder(Operator):
    """The end of a stream in a test."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._watermark_us = MIN_TIME
        self._before: list[Any] = []

    def open(self, ctx: OpenContext) -> None:
        # Of an attempt that is over nothing stays but what a checkpoint says.
        self._before, self._recording.taken = self._recording.taken, []

    def restore(self, snapshot: Snapshot) -> None:
        self._recording.taken = self._before[: restored_arrival(snapshot)]
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        self._watermark_us = watermark_us

    def snapshot(self) -> Snapshot:
        return arrival_section(len(self._recording.taken)), watermark_section(self._watermark_us)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        self._recording.batch(batch)
        return iter(())

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        # The end of input brings MAX, also where a source has said so itself.
        if time_us > self._watermark_us:
            self._watermark_us = time_us
            self._recording.word(Watermark(time_us))
        return iter(())

    def output_watermark(self, time_us: int) -> int | None:
        return None

    def on_status(self, status: Status) -> Iterator[Output]:
        self._recording.word(Idle() if status.idle else Active())
        return iter(())


@dataclass(eq=False)
class Taps:
    """Operators that a user's function stands in: what they send aside, and what they keep.

    Both by the uid of the operator and the index of its subtask: those of the last attempt count.
    """

    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    operators: dict[tuple[str, int], Operator] = field(default_factory=dict)
    noted: dict[tuple[str, int], list[tuple[int, str, list[Any]]]] = field(default_factory=dict)
    """Each with a number, by which it stands among what others have noted."""

    count: int = 0

    @property
    def sides(self) -> dict[str, list[Any]]:
        """What was sent aside, by tag, in order."""
        sides: dict[str, list[Any]] = {}
        for _, tag, rows in sorted((n for some in self.noted.values() for n in some), key=_first):
            sides.setdefault(tag, []).extend(rows)
        return sides

    def read_states(self) -> None:
        """Note the values that all states have now: by uid, then by name."""
        self.states.clear()
        for (uid, _), operator in sorted(self.operators.items()):
            if isinstance(operator, ProcessRows):
                known = self.states.setdefault(uid, {})
                for name in operator.state_names:
                    known[name] = _joined(known.get(name), operator.present(name))


def _first(one: tuple[int, str, list[Any]]) -> int:
    return one[0]


def _joined(known: Any, more: Any) -> Any:
    """Join what two subtasks keep: keys are of one of them, elements of a list come in order."""
    if known is None:
        return more
    return known | more if isinstance(more, dict) else [*known, *more]


@dataclass(frozen=True)
class TapSpec:
    """An operator, and somebody who looks on."""

    spec: Spec
    uid: str
    taps: Taps

    @property
    def verb(self) -> str:
        return self.spec.verb

    def describe(self) -> str:
        return self.spec.describe()

    def build(self) -> Operator:
        return Tap(self.spec.build(), self.uid, self.taps)


class Tap(Operator):
    """Does what its operator does, and notes what that sends aside."""

    def __init__(self, operator: Operator, uid: str, taps: Taps) -> None:
        self._operator = operator
        self._uid = uid
        self._taps = taps
        self._aside: list[tuple[int, str, list[Any]]] = []
        self._before: list[tuple[int, str, list[Any]]] = []

    def open(self, ctx: OpenContext) -> None:
        place = self._uid, ctx.subtask_index
        self._before = self._taps.noted.get(place, [])
        self._taps.noted[place] = self._aside
        self._taps.operators[place] = self._operator
        self._operator.open(ctx)

    def restore(self, snapshot: Snapshot) -> None:
        noted = section(snapshot, _NOTED)
        assert noted is not None, "what was noted is kept"
        self._aside += self._before[: noted.column("noted")[0].as_py()]
        theirs = tuple(one for one in snapshot if one.name != _NOTED)
        if theirs:
            self._operator.restore(theirs)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        return self._noted(self._operator.on_batch(port, batch))

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        return self._noted(self._operator.on_watermark(time_us))

    def output_watermark(self, time_us: int) -> int | None:
        return self._operator.output_watermark(time_us)

    def on_status(self, status: Status) -> Iterator[Output]:
        return self._noted(self._operator.on_status(status))

    def timer_due_us(self) -> int | None:
        return self._operator.timer_due_us()

    def on_timer(self, now_us: int) -> Iterator[Output]:
        return self._noted(self._operator.on_timer(now_us))

    def on_end(self) -> Iterator[Output]:
        return self._noted(self._operator.on_end())

    def snapshot(self) -> Snapshot:
        return *self._operator.snapshot(), self._note()

    def changes(self) -> Snapshot:
        return *self._operator.changes(), self._note()

    def _note(self) -> Section:
        noted = pa.table({"noted": pa.array([len(self._aside)], pa.int64())})
        return Section(_NOTED, noted, Share.SPLIT)

    def close(self) -> None:
        self._operator.close()

    def _noted(self, outputs: Iterator[Output]) -> Iterator[Output]:
        for output in outputs:
            if isinstance(output, Side):
                self._taps.count += 1
                self._aside.append((self._taps.count, output.tag, values_of(output.batch)))
            yield output
