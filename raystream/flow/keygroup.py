"""Key groups: the unit in which keyed state moves between subtasks.

A key belongs to one of ``max_parallelism`` groups for good; subtask ``i`` of ``p`` owns a range of
groups.
"""

from __future__ import annotations

import numpy as np

from raystream.flow.batch import Int64s
from raystream.flow.hashing import UInt64s


def key_groups(hashes: UInt64s, max_parallelism: int) -> Int64s:
    """Give the key group of each hash.

    Shapes: uint64 [n] -> int64 [n], 0 <= group < max_parallelism.
    """
    return (hashes % np.uint64(max_parallelism)).astype(np.int64)


def subtask_of(groups: Int64s, parallelism: int, max_parallelism: int) -> Int64s:
    """Give the index of the subtask that owns each key group.

    Shapes: int64 [n] -> int64 [n], 0 <= index < parallelism.
    """
    assert parallelism <= max_parallelism, "a subtask owns at least one key group"
    return groups * parallelism // max_parallelism


def key_group_range(index: int, parallelism: int, max_parallelism: int) -> range:
    """Give the key groups of a subtask: those that ``subtask_of`` sends to it."""
    assert 0 <= index < parallelism <= max_parallelism, "a subtask owns at least one key group"
    start = -(-index * max_parallelism // parallelism)
    stop = -(-(index + 1) * max_parallelism // parallelism)
    return range(start, stop)
