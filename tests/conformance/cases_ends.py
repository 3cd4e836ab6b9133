"""Operators at the ends of a stream and where its time is made: source, sink, assign_timestamps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import narwhals.stable.v2 as nw
import pyarrow as pa
from conformance import Case, Story, plain, to_batch
from plans import KeepingSink
from stories import ODD, ODD_WIRE, ONLY_TIME, each, odd_rows, rows_of, story

from raystream.contracts.batch import Batch as Rows
from raystream.contracts.source import END, Reader, Source, Split
from raystream.contracts.watermark import Punctuated, Strategy, WatermarkStrategy
from raystream.flow.batch import Columns, wire_schema
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class StorySource(Source):
    """Gives the batches of a story, and every now and then nothing."""

    def __init__(self, told: Story, schema: pa.Schema | None, *, timed: bool = False) -> None:
        self.story, self.schema, self.timed = told, schema, timed

    def splits(self) -> list[Split]:
        return [Split("only")]

    def open(self, split: Split, position: Any) -> Reader:
        return StoryReader(self)

    def raw(self, batch: Any) -> Any:
        """Give a batch as a reader would."""
        rows = batch.visible if isinstance(batch, Columns) else batch.values
        return Rows(rows, batch.timestamps) if self.timed else rows


class StoryReader(Reader):
    def __init__(self, source: StorySource) -> None:
        self._source, self._turn = source, 0
        wire = None if source.schema is None else wire_schema(source.schema, timed=True)
        if rows_of(source.story)[:1] and rows_of(source.story)[0][0] is None:
            wire = source.schema
        self._shape = Case("", lambda: None, source.story, each(lambda row: row), input=wire)

    def poll(self, max_rows: int) -> Any:
        self._turn += 1
        if self._turn % 3 == 0:
            return None
        at = self._turn - self._turn // 3 - 1
        if at >= len(self._source.story):
            return END
        return self._source.raw(to_batch(self._shape, self._source.story[at]))

    def position(self) -> Any:
        return self._turn


# assign_timestamps and source --------------------------------------------------------------------


def stamped(unit: str) -> Story:
    """Tell rows that hold their event time in a column ``at``; negative and far ones too."""
    times = [-(10**15), -1, 5, 2, -700_001, 40, 39, 10**15, 10**15 - 3, 7]
    told = []
    for start in range(0, len(times), 3):
        rows = zip(times[start : start + 3], odd_rows(3, start), strict=False)
        told.append([(time, {**row, "at": point(time, unit)}) for time, row in rows])
    return told


def point(time_us: int, unit: str) -> Any:
    if unit == "ns":
        return time_us * 1_000 + 999  # to be floored, also before 1970
    if unit == "timestamp":
        return EPOCH + timedelta(microseconds=time_us)
    return time_us


AT = {"us": pa.int64(), "ns": pa.int64(), "timestamp": pa.timestamp("us", "America/New_York")}
LATE_US = 7


def with_at(unit: str) -> pa.Schema:
    return wire_schema(ODD.append(pa.field("at", AT[unit])), timed=True)


def by_at(row: Any) -> Any:
    return row["at"]


def strategy(timestamp: Any, unit: str = "us") -> WatermarkStrategy:
    return WatermarkStrategy(timestamp, out_of_orderness=LATE_US, unit=unit)


def marked(timestamp: Any, unit: str = "us") -> Punctuated:
    """Every row says its own time: a batch is cut behind each that is further than all before."""
    return Punctuated(timestamp, by_at, unit=unit)


def moved(told: Story) -> Story:
    """Give the same rows with other event times, and watermarks between: both are replaced."""
    out: Story = []
    for number, rows in enumerate(told):
        out += [[(number - 50, row) for _, row in rows], number - 50]
    return out


def read_again(unit: str) -> Any:
    """Expect the rows of a story at the times that they hold."""
    time_of = {repr(point(time, unit)): time for time, _ in rows_of(stamped(unit))}
    return lambda told, ended: [(time_of[repr(row["at"])], plain(row)) for _, row in rows_of(told)]


def last_us(made: Strategy) -> int:
    """Give the watermark behind the greatest time."""
    return 10**15 - (LATE_US + 1 if isinstance(made, WatermarkStrategy) else 0)


def assigning(
    timestamp: Any, unit: str, *, columns: bool, by: Callable[[Any, str], Strategy] = strategy
) -> Case:
    output = with_at(unit) if columns else None
    made = by(timestamp, unit if unit != "timestamp" else "us")
    return Case(
        f"{unit} by {type(timestamp).__name__}, {by.__name__}{'' if columns else ', objects'}",
        lambda: AssignTimestampsSpec(made, output, "it", ""),
        moved(stamped(unit)),
        read_again(unit),
        input=output,
        output=output,
        forwards=False,
        watermark=last_us(made),
    )


ASSIGN = [
    assigning("at", "us", columns=True),
    assigning("at", "ns", columns=True),
    assigning("at", "timestamp", columns=True),
    assigning(nw.col("at"), "us", columns=True),
    assigning(by_at, "timestamp", columns=True),
    assigning("at", "ns", columns=False),
    assigning(by_at, "timestamp", columns=False),
    assigning("at", "us", columns=True, by=marked),
    assigning(by_at, "timestamp", columns=True, by=marked),
    assigning("at", "ns", columns=False, by=marked),
    Case(
        "nothing comes",
        lambda: AssignTimestampsSpec(strategy("i"), ODD_WIRE, "it", ""),
        ONLY_TIME,
        each(lambda row: row),
        input=ODD_WIRE,
        output=ODD_WIRE,
        forwards=False,
    ),
]


def reading(
    timestamp: Any, unit: str, *, columns: bool, by: Callable[[Any, str], Strategy] = strategy
) -> Case:
    wire = with_at(unit) if columns else None
    visible = None if wire is None else wire.remove(len(wire) - 1)
    told = stamped(unit)
    made = by(timestamp, unit if unit != "timestamp" else "us")
    return Case(
        f"{unit} by {type(timestamp).__name__}, {by.__name__}{'' if columns else ', objects'}",
        lambda: SourceSpec(StorySource(told, visible), wire, made, "it", "", timed=True),
        told,
        read_again(unit),
        input=wire,
        output=wire,
        watermark=last_us(made),
    )


PLAIN = [item for item in story(40) if isinstance(item, list)]
NO_TIMES = [[(None, row) for _, row in batch] for batch in PLAIN]
SOURCE = [
    reading("at", "us", columns=True),
    reading("at", "timestamp", columns=True),
    reading(nw.col("at"), "us", columns=True),
    reading(by_at, "us", columns=True),
    reading("at", "ns", columns=False),
    reading(by_at, "timestamp", columns=False),
    reading("at", "us", columns=True, by=marked),
    reading("at", "timestamp", columns=True, by=marked),
    reading(by_at, "ns", columns=False, by=marked),
    Case(
        "times of its own",
        lambda: SourceSpec(StorySource(PLAIN, ODD, timed=True), ODD_WIRE, None, "it", "", True),
        PLAIN,
        each(lambda row: row),
        input=ODD_WIRE,
        output=ODD_WIRE,
    ),
    Case(
        "objects with times of their own",
        lambda: SourceSpec(StorySource(PLAIN, None, timed=True), None, None, "it", "", True),
        PLAIN,
        each(lambda row: row),
    ),
    Case(
        "columns without times",
        lambda: SourceSpec(StorySource(NO_TIMES, ODD), ODD, None, "it", "", False),
        NO_TIMES,
        each(lambda row: row),
        input=ODD,
        output=ODD,
    ),
    Case(
        "nothing comes",
        lambda: SourceSpec(StorySource([], ODD), ODD_WIRE, strategy("i"), "it", "", True),
        [],
        each(lambda row: row),
        input=ODD_WIRE,
        output=ODD_WIRE,
    ),
]

# sink --------------------------------------------------------------------------------------------


def sink() -> SinkSpec:
    return SinkSpec(KeepingSink(), "it", "")


def writing(name: str, told: Story, schema: pa.Schema | None = None) -> Case:
    return Case(name, sink, told, each(lambda row: row), input=schema, forwards=False)


SINK = [
    writing("columns", story(), ODD_WIRE),
    writing("objects", story()),
    writing("without event time", story(timed=False), ODD),
    writing("nothing comes", ONLY_TIME, ODD_WIRE),
]

SIDE = [
    Case(
        "columns as they are",
        lambda: SideOutputSpec("late", ODD_WIRE, "it", ""),
        story(40, seed=21),
        each(lambda row: row),
        input=ODD_WIRE,
        output=ODD_WIRE,
    ),
    Case(
        "dicts become columns",
        lambda: SideOutputSpec("odd", ODD_WIRE, "it", ""),
        story(40, seed=22),
        each(lambda row: row),
        output=ODD_WIRE,
    ),
    Case(
        "objects as they are",
        lambda: SideOutputSpec("odd", None, "it", ""),
        story(40, seed=23, timed=False),
        each(lambda row: row),
    ),
    Case(
        "columns become dicts",
        lambda: SideOutputSpec("odd", None, "it", ""),
        story(40, seed=24),
        each(lambda row: row),
        input=ODD_WIRE,
    ),
]

CASES = {
    "assign_timestamps": ASSIGN,
    "side_output": SIDE,
    "sink": SINK,
    "source": SOURCE,
}
