"""What a window operator keeps: rows by key group, how far each had fired, and what is on its way.

Where a bucket is a window, rows of windows that have fired are gone, and the rows say it all. Where
windows share panes, a pane's rows outlive the first of its windows: they are kept with the last
window that has fired for them, because subtasks that had not come equally far may become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from raystream.flow.element import MIN_TIME
from raystream.flow.hashing import UInt64s, hash_columns
from raystream.flow.ordering import stable_order
from raystream.keyed.snapshot import (
    BUCKET,
    Section,
    Snapshot,
    keyed_section,
    restored_watermark,
    section,
    watermark_section,
)
from raystream.keyed.window_state import WindowState

_FIRED = "__fired"
_PANES, _WINDOWS = "panes", "windows"

Repack = Callable[[pa.Table], pa.Table]
"""Turns rows as they are held into rows as they are kept, or back."""


def as_it_is(rows: pa.Table) -> pa.Table:
    """Keep rows as they are held: they are columns."""
    return rows


def window_snapshot(
    state: WindowState,
    keys: Sequence[str],
    schema: pa.Schema,
    max_parallelism: int,
    pack: Repack = as_it_is,
) -> Snapshot:
    """Keep the rows of the open windows, and the watermark.

    Rows are handed out by reference; sorting them by key group copies them.
    Shapes: rows of ``schema``, which has the columns ``keys`` and the bucket.
    """
    held = state.held()
    records = [record for _, record in held]
    rows = pack(pa.Table.from_batches(records, schema))
    if state.shares_panes:
        # A window so early that its number leaves int64 has no rows of its own.
        fired = [max(window, MIN_TIME) for window, _ in held]
        counts = [record.num_rows for record in records]
        rows = rows.append_column(_FIRED, pa.array(np.repeat(np.array(fired, np.int64), counts)))
    return (
        keyed_section(windows_name(state), rows, key_hashes(records, keys), max_parallelism),
        watermark_section(state.watermark_us),
    )


def windows_name(state: WindowState) -> str:
    """Name the section of the rows of open windows."""
    return _PANES if state.shares_panes else _WINDOWS


def restore_windows(state: WindowState, snapshot: Snapshot, unpack: Repack = as_it_is) -> None:
    """Take up the rows of open windows, and the least watermark that was kept."""
    watermark_us = restored_watermark(snapshot)
    watermark_us = MIN_TIME if watermark_us is None else watermark_us
    windows = section(snapshot, _WINDOWS)
    panes = section(snapshot, _PANES)
    if panes is None:
        held = [] if windows is None else [(None, by_bucket(unpack(windows)))]
        state.restore(held, watermark_us, shares_panes=False)
        return
    fired = panes.column(_FIRED).to_numpy()
    rows = unpack(panes.drop_columns(_FIRED))
    state.restore(
        [
            (
                int(window) if window > MIN_TIME else state.grid.due(MIN_TIME),
                by_bucket(rows.take(pa.array(np.flatnonzero(fired == window)))),
            )
            for window in np.unique(fired)
        ],
        watermark_us,
        shares_panes=True,
    )


def waiting_section(
    rows: Sequence[pa.RecordBatch],
    keys: Sequence[str],
    max_parallelism: int,
    pack: Repack = as_it_is,
    name: str = "waiting",
) -> Section:
    """Keep rows of windows that have fired: those that have not gone out, or may again."""
    table = pack(pa.Table.from_batches(rows))
    return keyed_section(name, table, key_hashes(rows, keys), max_parallelism)


def restored_waiting(
    snapshot: Snapshot, unpack: Repack = as_it_is, name: str = "waiting"
) -> pa.RecordBatch | None:
    """Give rows of windows that had fired, by window."""
    table = section(snapshot, name)
    return by_bucket(unpack(table)) if table is not None and table.num_rows else None


def held_schema(snapshot: Snapshot) -> pa.Schema | None:
    """Give the columns of the rows that were kept."""
    for name in (_PANES, _WINDOWS):
        table = section(snapshot, name)
        if table is not None:
            return table.schema
    return None


def key_hashes(records: Sequence[pa.RecordBatch], keys: Sequence[str]) -> UInt64s:
    """Hash the key of each row; without keys all rows are one subtask's."""
    hashes = [
        hash_columns([record.column(key) for key in keys])
        if keys
        else np.zeros(record.num_rows, np.uint64)
        for record in records
    ]
    return np.concatenate([*hashes, np.zeros(0, np.uint64)])


def by_bucket(rows: pa.Table) -> pa.RecordBatch:
    """Sort rows by bucket, in order of arrival within one."""
    order = stable_order(rows.column(BUCKET).to_numpy())
    return pa.concat_batches(rows.take(pa.array(order)).to_batches() or [_empty(rows.schema)])


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)
