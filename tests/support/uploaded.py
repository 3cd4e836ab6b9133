"""Manifests of subtasks that kept something, for the tests of storage."""

from __future__ import annotations

import pyarrow as pa

from raystream.flow.hashing import hash_objects
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest, SubtaskSnapshot
from raystream.keyed.snapshot import GONE, Section, Share, keyed_section

GROUPS = 16


def manifest_of(kept, *, checkpoint_id=1, attempt=0, savepoint=False):
    """Make a manifest of what each subtask kept: {SubtaskId: {uid: (Kept, ...)}}."""
    subtasks = tuple(SubtaskSnapshot(subtask, operators) for subtask, operators in kept.items())
    return Manifest("job", checkpoint_id, attempt, GROUPS, 0, savepoint, (), subtasks)


def subtask(index=0, parallelism=1, chain="count"):
    return SubtaskId(chain, index, parallelism)


def keyed(values, *, delta=False, name="keys"):
    """Make a keyed section of {key: value}; in a delta the value None says that a key is gone."""
    columns = {
        "k": pa.array(list(values), pa.int64()),
        "v": pa.array([value or 0 for value in values.values()], pa.int64()),
    }
    if delta:
        columns[GONE] = pa.array([value is None for value in values.values()], pa.bool_())
    made = keyed_section(name, pa.table(columns), hash_objects(list(values)), GROUPS)
    return Section(name, made.table, Share.KEYED, ("k",), delta)


def listed(items, share=Share.SPLIT, *, delta=False, name="items"):
    """Make a section of items that are divided in another way."""
    return Section(name, pa.table({"x": pa.array(items, pa.int64())}), share, (), delta)


def values_of(snapshot, name="keys"):
    """Give {key: value} of a restored keyed section, each key once."""
    (table,) = [one.table for one in snapshot if one.name == name]
    keys = table.column("k").to_pylist()
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, table.column("v").to_pylist(), strict=True))


def items_of(snapshot, name="items"):
    (table,) = [one.table for one in snapshot if one.name == name]
    return table.column("x").to_pylist()
