"""Rows under numbers that are joined and taken, against lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.newest_rows import NewestRows
from raystream.keyed.row_chains import RowChains

SCHEMA = pa.schema([("v", pa.int64())])
OWNERS = 6


def rows(values):
    return pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], schema=SCHEMA)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, OWNERS - 1), max_size=8)),
        st.tuples(st.just("take"), st.sets(st.integers(0, OWNERS - 1))),
        st.tuples(st.just("join"), st.permutations(range(OWNERS)), st.integers(1, OWNERS - 1)),
    ),
    max_size=20,
)


@given(STEPS)
def test_every_owner_has_its_rows(steps):
    chains, model, count = RowChains(SCHEMA), [[] for _ in range(OWNERS)], 0
    chains.reserve(OWNERS)
    for step, *what in steps:
        if step == "add":
            values = list(range(count, count + len(what[0])))
            count += len(values)
            chains.add(np.array(what[0], np.int64), rows(values))
            for owner, value in zip(what[0], values, strict=True):
                model[owner].append(value)
        elif step == "take":
            owners = sorted(what[0])
            taken, places = chains.take(np.array(owners, np.int64))
            got = [[] for _ in owners]
            for value, place in zip(taken.column(0).to_pylist(), places.tolist(), strict=True):
                got[place].append(value)
            assert list(map(sorted, got)) == [sorted(model[owner]) for owner in owners]
            for owner in owners:
                model[owner] = []
        else:
            order, cut = what
            owners = order[:cut]
            into = [order[cut + at % (OWNERS - cut)] for at in range(cut)]
            chains.join(np.array(owners), np.array(into))
            for owner, other in zip(owners, into, strict=True):
                model[other] += model[owner]
                model[owner] = []
        assert chains.sizes(np.arange(OWNERS)).tolist() == list(map(len, model))
        assert sorted(chains.held().column(0).to_pylist()) == sorted(
            value for some in model for value in some
        )


def test_rows_that_were_taken_go_and_those_left_are_found_again():
    chains = RowChains(SCHEMA)
    chains.reserve(101)
    for start in range(0, 100_000, 10_000):
        values = np.arange(start, start + 10_000)
        chains.add(np.where(values % 100 == 7, 100, values // 1_000), rows(values))
        chains.take(np.arange(100))
        assert chains.row_count <= 20_000
    taken, _ = chains.take(np.array([100]))
    assert sorted(taken.column(0).to_pylist()) == list(range(7, 100_000, 100))


def test_a_row_of_a_key_takes_the_place_of_the_one_before():
    newest = NewestRows(SCHEMA, [pa.int64()], lambda some: [some.column("v")])
    for time in range(60):
        keys = np.arange(1_000) + time // 10 * 1_000
        slots = newest.slots([pa.array(keys)])
        newest.put(slots, rows(keys), np.full(1_000, time), time - 15)
        assert newest.row_count <= 10_000
    assert newest.find([pa.array([59, 5_059, 9_000])]).tolist()[2] == -1
    held, times = newest.held(45)
    assert sorted(held.column(0).to_pylist()) == list(range(4_000, 6_000))
    assert sorted(set(times.tolist())) == [49, 59]
