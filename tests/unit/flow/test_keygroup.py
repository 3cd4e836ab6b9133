"""Key groups: every key in one, every group at one subtask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.hashing import hash_objects
from raystream.flow.keygroup import key_group_range, key_groups, subtask_of


@given(st.integers(1, 300), st.data())
def test_the_ranges_of_all_subtasks_partition_the_groups(max_parallelism, data):
    parallelism = data.draw(st.integers(1, max_parallelism))
    groups = np.arange(max_parallelism)
    owners = subtask_of(groups, parallelism, max_parallelism).tolist()
    ranges = [key_group_range(i, parallelism, max_parallelism) for i in range(parallelism)]
    assert [group for each in ranges for group in each] == groups.tolist()
    assert all(group in ranges[owner] for group, owner in enumerate(owners))
    assert all(len(each) > 0 for each in ranges)


def test_the_group_of_a_key_is_its_hash_modulo_their_number():
    hashes = np.array([0, 127, 128, 2**64 - 1], np.uint64)
    assert key_groups(hashes, 128).tolist() == [0, 127, 0, 127]
    assert key_groups(hashes, 100).tolist() == [0, 27, 28, (2**64 - 1) % 100]


def test_keys_spread_over_subtasks_about_evenly():
    groups = key_groups(hash_objects(list(range(10_000))), 128)
    counts = np.bincount(subtask_of(groups, 4, 128))
    assert counts.min() > 2_200
    assert counts.max() < 2_800


def test_more_subtasks_than_groups_are_refused():
    with pytest.raises(AssertionError, match="at least one key group"):
        key_group_range(0, 5, 4)
