"""Changes in rounds: what a plain loop over rows does, each round does at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.rounds import sign_rounds

ROWS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40)


def by_hand(rows: list[tuple[int, bool]]) -> list[list[int]]:
    """Count, for each row, how often the sign of its slot has changed before."""
    last: dict[int, tuple[bool, int]] = {}
    rounds: dict[int, list[int]] = {}
    for place, (slot, removes) in enumerate(rows):
        sign, turn = last.get(slot, (removes, 0))
        last[slot] = (removes, turn + (sign != removes))
        rounds.setdefault(last[slot][1], []).append(place)
    return [rounds[turn] for turn in sorted(rounds)]


@given(ROWS)
def test_rounds_are_those_of_a_loop(rows):
    slots = np.array([slot for slot, _ in rows], np.int64)
    removes = np.array([removes for _, removes in rows], np.bool_)
    assert [one.tolist() for one in sign_rounds(slots, removes)] == by_hand(rows)


def test_one_round_where_nothing_is_taken_back():
    (only,) = sign_rounds(np.array([3, 1, 3]), np.zeros(3, np.bool_))
    assert only.tolist() == [0, 1, 2]
