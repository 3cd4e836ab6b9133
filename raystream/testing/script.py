"""What one split of a test source does, step by step, and who does it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.clock import Clock
from raystream.contracts import source as contract
from raystream.contracts.batch import Batch
from raystream.contracts.source import END, Later, Polled, Reader, Split
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, Status
from raystream.flow.element import Watermark as FlowWatermark
from raystream.operators.pyrows import to_columns
from raystream.testing.fate import Fate
from raystream.testing.items import (
    Active,
    Advance,
    At,
    Checkpoint,
    Crash,
    Idle,
    Open,
    Watermark,
    Word,
    micros_of,
)
from raystream.testing.simulated_clock import SimulatedClock

_SILENT_SHARE = 0.25
"""How often, drawn by the seed, a split lets others of its source go first."""


@dataclass(frozen=True, slots=True)
class _Rows:
    start: int
    stop: int


_Step: TypeAlias = _Rows | FlowWatermark | Status | Advance | Open | Crash | Checkpoint


@dataclass(frozen=True, slots=True)
class Script:
    """One split: its rows, their times, and the steps in which they come."""

    rows: list[Any] | pa.RecordBatch
    times: Int64s | None
    steps: tuple[_Step, ...]


def splits_of(scripts: Sequence[Script]) -> list[Split]:
    """Give the splits that do what the scripts say, in their order."""
    return [Split(str(number)) for number in range(len(scripts))]


class ScriptReader(Reader):
    """Does what a script says.

    With ``chance`` it cuts runs of rows where that says, and, ``among_others``, often lets them go
    first. On a simulated clock it asks for the time that it waits for.
    """

    def __init__(
        self,
        script: Script,
        position: tuple[int, int],
        clock: Clock,
        chance: random.Random | None = None,
        *,
        among_others: bool = False,
        fate: Fate | None = None,
        name: str = "",
    ) -> None:
        self._fate = fate
        self._name = name
        self._request = ""
        self._script = script
        self._step, self._given = position  # steps done, and rows given of the next one
        self._clock = clock
        self._chance = chance
        self._among_others = among_others
        self._until_us: int | None = None

    def poll(self, max_rows: int) -> Polled:
        if self._lets_others_go_first():
            return None
        while self._step < len(self._script.steps):
            step = self._script.steps[self._step]
            if isinstance(step, _Rows):
                return self._rows(step, max_rows)
            if isinstance(step, Open):
                return Later(MAX_TIME)
            if isinstance(step, Crash | Checkpoint):
                if not self._has_befallen(step):
                    return None
                self._step += 1
                continue
            if isinstance(step, Advance):
                left_us = self._left_us(step)
                if left_us > 0:
                    return Later(self._clock.monotonic_us() + left_us)
                self._until_us = None
            self._step += 1
            if not isinstance(step, Advance):
                return step
        return END

    def _has_befallen(self, word: Crash | Checkpoint) -> bool:
        """Let the job crash, or be snapshotted; True once that is over."""
        fate, where = self._fate, (self._name, self._step)
        if fate is None:
            raise PlanError(f"{type(word).__name__}() in a test source is for rs.testing.run alone")
        if isinstance(word, Crash):
            return fate.crash(where)
        if not fate.is_over(where) and not fate.is_asked(self._request):
            self._request = fate.ask(where)
        return fate.is_over(where)

    def position(self) -> tuple[int, int]:
        return self._step, self._given

    def _rows(self, step: _Rows, max_rows: int) -> Batch:
        start = step.start + self._given
        count = min(step.stop - start, max_rows)
        if self._chance is not None:
            count = self._chance.randint(1, count)
        if start + count == step.stop:
            self._step, self._given = self._step + 1, 0
        else:
            self._given += count
        rows, times = self._script.rows, self._script.times
        cut = rows[start : start + count] if isinstance(rows, list) else rows.slice(start, count)
        return Batch(cut, None if times is None else times[start : start + count])

    def _left_us(self, step: Advance) -> int:
        now_us = self._clock.now_us()
        if self._until_us is None:
            self._until_us = now_us + micros_of(step.duration)
            if isinstance(self._clock, SimulatedClock):
                self._clock.await_time(self._until_us)
        return self._until_us - now_us

    def _lets_others_go_first(self) -> bool:
        if self._chance is None or not self._among_others:
            return False
        return self._until_us is None and self._chance.random() < _SILENT_SHARE


class Staged(contract.Source):
    """The scripts of a test source in place of a source of a job, for one simulated run."""

    def __init__(
        self,
        scripts: Sequence[Script],
        like: contract.Source,
        schema: pa.Schema | None,
        clock: Clock,
        seed: str,
        *,
        fate: Fate,
    ) -> None:
        self._fate = fate
        self.schema, self.timed, self.bounded = schema, like.timed, like.bounded
        self._scripts, self._clock, self._seed = scripts, clock, seed
        self._description = like.describe()

    def splits(self) -> Sequence[Split]:
        return splits_of(self._scripts)

    def open(self, split: Split, position: Any) -> Reader:
        chance = random.Random(f"{self._seed} {split.id}")  # noqa: S311  no secret hangs on it
        return ScriptReader(
            self._scripts[int(split.id)],
            position or (0, 0),
            self._clock,
            chance,
            among_others=len(self._scripts) > 1,
            fate=self._fate,
            name=f"{self._seed} {split.id}",
        )

    def describe(self) -> str:
        return self._description


def script_of(items: list[Any], schema: pa.Schema | None, where: str) -> Script:
    """Read the items of one split.

    Raises: PlanError for a row that does not fit the schema.
    """
    rows: list[Any] = []
    times: list[int] = []
    steps: list[_Step] = []
    # A loop over rows: a test has few.
    for item in items:
        if isinstance(item, Word):
            steps += _steps(item)
            continue
        row = item
        if isinstance(item, At):
            row = item.row
            times.append(micros_of(item.ts))
        rows.append(row)
        if steps and isinstance(steps[-1], _Rows):
            steps[-1] = _Rows(steps[-1].start, len(rows))
        else:
            steps.append(_Rows(len(rows) - 1, len(rows)))
    given = np.array(times, np.int64) if times else None
    return Script(rows if schema is None else _columns(rows, schema, where), given, tuple(steps))


def _steps(word: Word) -> list[_Step]:
    match word:
        case Watermark(ts):
            return [FlowWatermark(micros_of(ts))]
        case Idle() | Active():
            return [Status(idle=isinstance(word, Idle))]
        case Advance() | Open() | Crash() | Checkpoint():
            return [word]


def _columns(rows: list[Any], schema: pa.Schema, where: str) -> pa.RecordBatch:
    try:
        return to_columns(rows, schema, None, operator="the test source").record
    except UserFunctionError as error:
        raise PlanError(error.message, hint=error.hint, where=where) from error
