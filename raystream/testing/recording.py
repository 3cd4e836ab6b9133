"""What comes out of a stream, written down in the words of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raystream.connectors.memory import MemorySink, TableSink
from raystream.contracts.batch import Batch as Rows
from raystream.contracts.context import OpenContext
from raystream.flow.batch import NO_TIME, Batch, Columns
from raystream.flow.changes import op_names
from raystream.flow.element import MIN_TIME, Side, Status
from raystream.keyed.snapshot import Snapshot
from raystream.operators.operator import Operator, Output, Spec
from raystream.operators.process_rows import ProcessRows
from raystream.operators.pyrows import to_rows
from raystream.testing.items import Active, At, Idle, Watermark

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
    events: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kept = MemorySink() if self.changelog is None else TableSink(self.changelog)

    @property
    def rows(self) -> list[Any]:
        """The rows, or, of changes, the table that they end in."""
        return self._kept.rows

    def batch(self, batch: Batch) -> None:
        """Take rows; those that have an event time stand with it in ``events``."""
        rows, times = values_of(batch), batch.timestamps
        codes = batch.ops if isinstance(batch, Columns) else None
        self._kept.receive(Rows(rows, times, None if codes is None else op_names(codes)))
        if times is None:
            self.events += rows
        else:
            pairs = zip(times.tolist(), rows, strict=True)
            self.events += [row if ts == NO_TIME else At(ts, row) for ts, row in pairs]
        self.told(self.name, f"{len(rows)} rows")

    def word(self, word: Watermark | Idle | Active) -> None:
        """Take what is said of time."""
        self.events.append(word)
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
    """Operators that a user's function stands in: what they send aside, and what they keep."""

    sides: dict[str, list[Any]] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    operators: list[tuple[str, Operator]] = field(default_factory=list)

    def read_states(self) -> None:
        """Note the values that all states have now: by uid, then by name."""
        for uid, operator in self.operators:
            if isinstance(operator, ProcessRows):
                known = self.states.setdefault(uid, {})
                for name in operator.state_names:
                    known[name] = _joined(known.get(name), operator.present(name))


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
        operator = self.spec.build()
        self.taps.operators.append((self.uid, operator))
        return Tap(operator, self.taps)


class Tap(Operator):
    """Does what its operator does, and notes what that sends aside."""

    def __init__(self, operator: Operator, taps: Taps) -> None:
        self._operator = operator
        self._taps = taps

    def open(self, ctx: OpenContext) -> None:
        self._operator.open(ctx)

    def restore(self, snapshot: Snapshot) -> None:
        self._operator.restore(snapshot)

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
        return self._operator.snapshot()

    def changes(self) -> Snapshot:
        return self._operator.changes()

    def close(self) -> None:
        self._operator.close()

    def _noted(self, outputs: Iterator[Output]) -> Iterator[Output]:
        for output in outputs:
            if isinstance(output, Side):
                self._taps.sides.setdefault(output.tag, []).extend(values_of(output.batch))
            yield output
