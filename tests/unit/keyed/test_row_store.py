"""Rows by number: whatever is appended, dropped and kept, reading gives what was written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.event_rows import EventRows
from raystream.keyed.row_store import RowStore

SCHEMA = pa.schema([("n", pa.int64())])


def rows(values: list[int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], schema=SCHEMA)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 9)),
        st.tuples(st.just("drop"), st.integers(0, 40)),
        st.tuples(st.just("keep"), st.integers(1, 3)),
    ),
    max_size=30,
)


@given(ACTS)
def test_reading_gives_what_was_written(acts):
    store, model, first, written = RowStore(SCHEMA), {}, 0, 0
    for act, count in acts:
        if act == "append":
            assert store.append(rows(list(range(written, written + count)))) == store.stop - count
            stop = store.stop - count
            model |= {stop + at: written + at for at in range(count)}
            written += count
        elif act == "drop":
            store.drop_below(count)
            first = store.first
            model = {number: value for number, value in model.items() if number >= first}
        else:
            kept = sorted(model)[::count]
            store.keep(np.array(kept, np.int64))
            model = {at: model[number] for at, number in enumerate(kept)}
        numbers = sorted(model, key=lambda n: (n % 3, n))
        got = store.take(np.array(numbers, np.int64)).column("n").to_pylist()
        assert got == [model[number] for number in numbers]
        assert store.row_count == len(model)


def test_chunks_stay_few():
    store = RowStore(SCHEMA)
    for n in range(1_000):
        store.append(rows([n]))
    assert store.chunk_count <= 12
    assert store.take(np.array([999, 0, 500])).column("n").to_pylist() == [999, 0, 500]


def test_chunks_stop_growing_once_they_are_large():
    store, count = RowStore(SCHEMA), 1 << 20
    whole = rows(range(count))  # 8 MiB
    for _ in range(12):
        store.append(whole)
    assert [chunk.nbytes >> 20 for chunk in store._chunks] == [32, 32, 32]
    numbers = np.array([12 * count - 1, 0, 5 * count])
    assert store.take(numbers).column("n").to_pylist() == [count - 1, 0, 0]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8), max_size=8),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_walking_back_meets_the_rows_of_the_key(batches, most, reach):
    held, story, time = EventRows(SCHEMA), [], 0
    for batch in batches:
        taken = []
        for slot, step in batch:
            time += step
            taken.append((time, slot))
        times = np.array([t for t, _ in taken], np.int64)
        slots = np.array([s for _, s in taken], np.int64)
        numbers = held.append(rows(list(range(len(story), len(story) + len(taken)))), times, slots)
        story += taken
        for limit, bound in ((most, None), (None, times - reach)):
            seen = {place: [] for place in range(len(taken))}
            for places, found in held.walk(numbers, bound, limit):
                values = held.store.take(found).column("n").to_pylist()
                for place, value in zip(places.tolist(), values, strict=True):
                    seen[place].append(value)
            for place, (at, slot) in enumerate(taken):
                me = len(story) - len(taken) + place
                mine = [n for n in range(me + 1) if story[n][1] == slot]
                wanted = mine[-most:] if limit else [n for n in mine if story[n][0] > at - reach]
                assert seen[place][::-1] == wanted
        held.drop_until(time - max(reach, 100))


def test_rows_out_of_reach_are_forgotten():
    held = EventRows(SCHEMA)
    for n in range(40):
        ids = np.arange(1_000)
        held.append(rows([n] * 1_000), ids * 0 + n, ids % 10)
        held.drop_beyond(5)
    assert held.row_count <= 10_000
    timed = EventRows(SCHEMA)
    for n in range(40):
        timed.append(rows([n] * 1_000), np.full(1_000, n), np.arange(1_000))
        timed.drop_until(n - 2)
    assert timed.row_count == 2_000
