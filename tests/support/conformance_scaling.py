"""A conformance case whose operator is divided anew among other numbers of subtasks, twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from conformance import Case, Row, Story, difference, expected, is_batch, same, to_batch
from conformance_run import Run

from raystream.clock import ManualClock
from raystream.flow.batch import Batch, Columns
from raystream.flow.element import MIN_TIME
from raystream.flow.hashing import hash_columns, hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.keyed.snapshot import Snapshot

MAX_PARALLELISM = 128


def owners(case: Case, batch: Batch, parallelism: int) -> list[int]:
    """Say which subtask each row of a batch goes to."""
    if isinstance(batch, Columns):
        hashes = hash_columns([batch.record.column(key) for key in case.keys or ()])
    else:
        assert batch.keys is not None
        hashes = hash_objects(batch.keys)
    groups = key_groups(hashes, MAX_PARALLELISM)
    owned: list[int] = subtask_of(groups, parallelism, MAX_PARALLELISM).tolist()
    return owned


def rescaled(case: Case, told: Story, parallelisms: Sequence[int]) -> None:
    """Play a story, each part of it by so many subtasks; together they give the same rows."""
    cuts = np.linspace(0, len(told), len(parallelisms) + 1).astype(int).tolist()
    rows: list[Row] = []
    late = 0
    kept: list[Snapshot] = []
    subtasks: list[Run] = []
    watermark_us, now_us = MIN_TIME, 0
    for parallelism, start, stop in zip(parallelisms, cuts, cuts[1:], strict=False):
        subtasks = [Run(case, clock=ManualClock(now_us)) for _ in range(parallelism)]
        for index, subtask in enumerate(subtasks):
            if kept:
                subtask.restore(kept, index, parallelism)
            subtask.watermark_us = watermark_us
        for item in told[start:stop]:
            _tell(case, subtasks, item)
        watermark_us, now_us = subtasks[0].watermark_us, subtasks[0].clock.now_us()
        kept = [subtask.operator.snapshot() for subtask in subtasks]
        if stop == len(told):
            for subtask in subtasks:
                subtask.end()
        rows += [row for subtask in subtasks for row in subtask.rows]
        late += sum(s.context.metrics.counter("late_rows").value for s in subtasks)
        for subtask in subtasks:
            subtask.operator.close()
    wanted = expected(case, told, ended=True)
    if case.view is not None:
        assert case.view(rows) == case.view(wanted)
    else:
        assert same(rows, wanted, ordered=False), difference(rows, wanted)
    if case.late is not None:
        assert late == case.late


def _tell(case: Case, subtasks: list[Run], item: Any) -> None:
    if not is_batch(item):
        for subtask in subtasks:
            subtask.tell(item)
        return
    if not item:
        return
    owned = owners(case, to_batch(case, item), len(subtasks))
    for index, subtask in enumerate(subtasks):
        mine = type(item)(row for row, owner in zip(item, owned, strict=True) if owner == index)
        if mine:
            subtask.batch(mine)
