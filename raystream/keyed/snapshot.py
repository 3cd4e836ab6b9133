"""What an operator keeps, as data: Arrow tables that can be divided among other subtasks.

A *section* is one table of one operator in one subtask. Keyed sections carry the key group of each
row and lie sorted by it, so that a subtask of any parallelism takes its range; the others say how
they are shared. An operator's snapshot is its sections; ``share`` gives each subtask of the next
attempt its part of what all subtasks of the last one had kept.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import CorruptSnapshot
from raystream.flow.batch import Int64s
from raystream.flow.gather import take_rows
from raystream.flow.hashing import UInt64s
from raystream.flow.keygroup import key_group_range, key_groups

KEY_GROUP = "__group"
"""The first column of a keyed section: the key group of each row, ascending."""

GONE = "__gone"
"""The last column of a delta with a key where rows can go: true for a key that is no more."""

BUCKET = "__bucket"
"""The column that says in which window or pane a row lies; later ones go later."""

_GROUP_FIELD = pa.field(KEY_GROUP, pa.int32(), nullable=False)


class Share(enum.Enum):
    """How the rows of a section find the subtasks that restore it."""

    KEYED = "keyed"
    """Each row to the subtask that owns its key group."""

    SPLIT = "split"
    """Dealt out evenly, in order; untouched where the parallelism stays."""

    UNION = "union"
    """All rows of all subtasks to each subtask."""

    BROADCAST = "broadcast"
    """Subtask i takes those of subtask ``i mod n``: all n had the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One table that an operator keeps; keyed ones begin with ``KEY_GROUP``, sorted by it.

    ``key`` names the columns of which each row has its own values; empty, rows may be alike. A
    section with ``delta`` holds only what changed since the operator was last asked: with a key,
    rows that take the place of earlier ones, and, where the column ``GONE`` is true, of nothing;
    without, rows that are new, and, where ``GONE`` is true, a row of which only the ``BUCKET``
    counts: all that was given before of this bucket and of lower ones is gone.
    """

    name: str
    table: pa.Table
    share: Share = Share.KEYED
    key: tuple[str, ...] = ()
    delta: bool = False


Snapshot: TypeAlias = tuple[Section, ...]
"""What one operator keeps in one subtask; no name comes twice."""


def keyed_section(
    name: str,
    columns: pa.Table | pa.RecordBatch,
    hashes: UInt64s,
    max_parallelism: int,
    key: tuple[str, ...] = (),
    *,
    delta: bool = False,
) -> Section:
    """Make a keyed section: rows sorted by key group, in order of arrival within one.

    Shapes: columns [n], hashes uint64 [n] of each row's key.
    """
    groups = key_groups(hashes, max_parallelism)
    table = columns if isinstance(columns, pa.Table) else pa.Table.from_batches([columns])
    # NumPy sorts numbers of 16 bits by radix.
    narrow = groups.astype(np.uint16) if max_parallelism <= 2**16 else groups
    order = np.argsort(narrow, kind="stable")
    # Taking also copies: what is kept must not change with what it was made of.
    taken = take_rows(table, order)
    column = pa.array(groups[order].astype(np.int32))
    return Section(name, taken.add_column(0, _GROUP_FIELD, column), Share.KEYED, key, delta)


def watermark_section(time_us: int) -> Section:
    """Keep how far event time had come; ``restored_watermark`` reads it."""
    table = pa.table({"watermark": pa.array([time_us], pa.int64())})
    return Section("watermark", table, Share.UNION)


def restored_watermark(snapshot: Snapshot) -> int | None:
    """Give the least watermark of the subtasks that kept one: nobody's rows are late by another's.

    None where none was kept.
    """
    table = section(snapshot, "watermark")
    return None if table is None else int(np.min(table.column("watermark").to_numpy()))


def arrival_section(count: int) -> Section:
    """Keep how many rows had arrived; ``restored_arrival`` reads it."""
    table = pa.table({"arrived": pa.array([count], pa.int64())})
    return Section("arrival", table, Share.UNION)


def restored_arrival(snapshot: Snapshot) -> int:
    """Give a number of arrival that no row had in any subtask: what comes now came later."""
    table = section(snapshot, "arrival")
    return 0 if table is None else int(np.max(table.column("arrived").to_numpy()))


def section(snapshot: Snapshot, name: str) -> pa.Table | None:
    """Give the rows of a section, without their key groups; None where there is no such section."""
    for one in snapshot:
        if one.name == name:
            return one.table.drop_columns(KEY_GROUP) if one.share is Share.KEYED else one.table
    return None


def share(
    snapshots: Sequence[Snapshot], index: int, parallelism: int, max_parallelism: int
) -> Snapshot:
    """Give one subtask its part of what all subtasks of an operator had kept, in their order.

    Raises: CorruptSnapshot where sections of one name do not fit together.
    """
    names = dict.fromkeys(one.name for snapshot in snapshots for one in snapshot)
    parts = []
    for name in names:
        kept = [one for snapshot in snapshots for one in snapshot if one.name == name]
        if len({one.share for one in kept}) > 1:
            raise CorruptSnapshot(f'the sections "{name}" are shared in different ways')
        table = _shared(kept, index, parallelism, max_parallelism)
        parts.append(Section(name, table, kept[0].share))
    return tuple(parts)


def _shared(kept: list[Section], index: int, parallelism: int, max_parallelism: int) -> pa.Table:
    match kept[0].share:
        case Share.KEYED:
            owned = key_group_range(index, parallelism, max_parallelism)
            return _sorted(_joined([of_groups(one.table, owned) for one in kept]))
        case Share.SPLIT:
            if len(kept) == parallelism:
                return kept[index].table
            table = _joined([one.table for one in kept])
            start, stop = _part(table.num_rows, index, parallelism)
            return table.slice(start, stop - start)
        case Share.UNION:
            return _joined([one.table for one in kept])
        case Share.BROADCAST:
            return kept[index % len(kept)].table


def of_groups(table: pa.Table, owned: range) -> pa.Table:
    """Give the rows of a keyed table in some key groups, which lie together."""
    groups = table.column(KEY_GROUP).to_numpy()
    start, stop = np.searchsorted(groups, [owned.start, owned.stop])
    return table.slice(int(start), int(stop - start))


def _joined(tables: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise CorruptSnapshot(f"parts of one section differ in their columns: {error}") from error


def _sorted(table: pa.Table) -> pa.Table:
    if KEY_GROUP not in table.column_names:
        return table
    groups: Int64s = table.column(KEY_GROUP).to_numpy()
    if (np.diff(groups) >= 0).all():
        return table
    return take_rows(table, np.argsort(groups, kind="stable"))


def _part(count: int, index: int, parallelism: int) -> tuple[int, int]:
    """Give the rows of one subtask: the first ones hold one more where it does not come out even.

    [A, B, C, D, E] over 3 is [A, B], [C, D], [E].
    """
    each, more = divmod(count, parallelism)
    start = index * each + min(index, more)
    return start, start + each + (index < more)


def merged(parts: Sequence[pa.Table], key: Sequence[str]) -> pa.Table:
    """Put together a whole table and the deltas that came behind it, in order.

    With a key, of rows of one key the last one counts, unless it says that the key is gone. Keys
    are compared as keys of streams are: null equals null, NaN NaN, and 0.0 -0.0.
    Shapes: tables of one schema; a delta may have ``GONE`` behind it.
    Raises: CorruptSnapshot where the parts differ in their columns.
    """
    if len(parts) == 1:
        return parts[0]
    if not key:
        return _sorted(_joined(_without_gone(parts)))
    table = _joined([_flagged(part) for part in parts])
    names = [f"key_{place}" for place in range(len(key))]
    columns = [_comparable(table.column(name)) for name in key]
    places = pa.table([*columns, pa.array(np.arange(table.num_rows))], [*names, "place"])
    last = places.group_by(names).aggregate([("place", "max")]).column("place_max")
    kept = np.sort(last.to_numpy())
    rows = take_rows(table, kept[~table.column(GONE).to_numpy()[kept]])
    return _sorted(rows.drop_columns(GONE))


def _without_gone(parts: Sequence[pa.Table]) -> list[pa.Table]:
    """Leave out rows of buckets that a later part says are gone."""
    left: list[pa.Table] = []
    gone_to: int | None = None
    for part in reversed(parts):
        rows = part
        if GONE in part.column_names:
            gone = part.column(GONE)
            rows = part.filter(pc.invert(gone)).drop_columns(GONE)
        if gone_to is not None:
            rows = rows.filter(pc.greater(rows.column(BUCKET), gone_to))
        if (
            GONE in part.column_names
            and (told := pc.max(part.filter(gone).column(BUCKET))).is_valid
        ):
            gone_to = told.as_py() if gone_to is None else max(gone_to, told.as_py())
        left.append(rows)
    return left[::-1]


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give a column of which Arrow groups what are equal keys: it compares floats bit by bit."""
    if not pa.types.is_floating(column.type):
        return column
    doubles = column.cast(pa.float64())
    nan = pc.if_else(pc.is_nan(doubles), pa.scalar(float("nan")), doubles)
    return pc.add(nan, pa.scalar(0.0))


def _flagged(table: pa.Table) -> pa.Table:
    if GONE in table.column_names:
        return table
    return table.append_column(GONE, pa.array(np.zeros(table.num_rows, bool)))
