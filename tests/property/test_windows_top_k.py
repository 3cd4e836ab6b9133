"""Window top-k against a model that sorts every window's rows."""

from __future__ import annotations

import math
from itertools import islice

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import EVENT_TIME_FIELD, Columns
from raystream.operators.window_top_k import WindowTopKSpec

INPUT = pa.schema(
    [
        ("k", pa.string()),
        ("p", pa.int64()),
        ("q", pa.float64()),
        ("n", pa.int64()),
        EVENT_TIME_FIELD,
    ]
)
ROW = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.none() | st.integers(-2, 2),
    st.none() | st.sampled_from([-0.5, 1.0, float("nan"), float("-inf")]),
    st.integers(-25, 25),
)
EVENTS = st.lists(st.lists(ROW, min_size=1, max_size=10) | st.integers(-30, 40), max_size=15)
WINDOWS = st.one_of(
    st.builds(Tumbling, st.integers(1, 20), st.integers(-9, 9)),
    st.builds(Sliding, st.integers(1, 20), st.integers(1, 20), st.integers(-9, 9)),
)
ORDER = st.sampled_from(
    [(("p", True),), (("p", False), ("q", True)), (("q", True),), (("q", False), ("p", True))]
)


def order_key(row, by):
    """What Python's sort compares: nulls last, NaN before them, then the value."""
    key = []
    for name, descending in by:
        value = row[name]
        if value is None:
            key.append((2, 0))
        elif math.isnan(value):
            key.append((1, 0))
        else:
            key.append((0, -value if descending else value))
    return tuple(key)


def model_best(rows, k, by, ties):
    """The rows of one key and window with their ranks; rows are in order of arrival."""
    ordered = sorted(rows, key=lambda row: order_key(row, by))
    keys = [order_key(row, by) for row in ordered]
    ranks = [keys.index(key) + 1 if ties else i + 1 for i, key in enumerate(keys)]
    return [(row["n"], rank) for row, rank in zip(ordered, ranks, strict=True) if rank <= k]


def run_model(events, window, k, by, *, ties, keyed):
    windows, output, watermark, number = {}, [], -(10**9), 0
    for event in events:
        if isinstance(event, int):
            watermark = max(watermark, event)
            for start in sorted(s for s in windows if s + window.size_us - 1 <= watermark):
                for rows in windows.pop(start).values():
                    end = start + window.size_us
                    output += [(end - 1, *best) for best in model_best(rows, k, by, ties)]
            continue
        for key, p, q, ts in event:
            row = {"p": p, "q": q, "n": number}
            number += 1
            for start in range(ts - window.size_us + 1, ts + 1):
                fits = (start - window.offset_us) % window.slide_us == 0
                if fits and start + window.size_us - 1 > watermark:
                    keys = windows.setdefault(start, {})
                    keys.setdefault(key if keyed else None, []).append(row)
    return output


@given(
    EVENTS,
    WINDOWS,
    st.tuples(st.integers(1, 4), ORDER),
    st.fixed_dictionaries({"ties": st.booleans(), "keyed": st.booleans()}),
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 3), max_size=10)),
)
def test_top_k_of_windows_equals_the_model(events, window, best, how, firing):
    (k, by), (ties, keyed), (step, stops) = best, how.values(), firing
    events = [*events, 2**63 - 1]
    output = pa.schema([*list(INPUT)[:-1], ("rank", pa.int64()), EVENT_TIME_FIELD])
    keys = ("k",) if keyed else ()
    operator = WindowTopKSpec(keys, window, k, by, ties, "rank", output).build()
    limits = Limits(batch_rows_max=2, firing_rows_max=step, pane_copies_max=step)
    operator.open(OpenContext(limits=limits))
    got, number = [], 0
    for event in events:
        if not isinstance(event, int):
            columns = [list(column) for column in zip(*event, strict=True)]
            columns.insert(3, list(range(number, number + len(event))))
            number += len(event)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, INPUT, strict=True)]
            record = pa.RecordBatch.from_arrays(arrays, schema=INPUT)
            assert not list(operator.on_batch(0, Columns(record)))
            continue
        for stop in [*stops, None]:
            firing = operator.on_watermark(event)
            batches = list(islice(firing, stop))
            firing.close()
            for batch in batches:
                assert batch.record.schema.equals(output)
                assert 0 < batch.num_rows <= 2
                got += [(r["__ts"], r["n"], r["rank"]) for r in batch.record.to_pylist()]
    expected = run_model(events, window, k, by, ties=ties, keyed=keyed)
    if keyed:
        # Which key comes first within a window is nobody's promise.
        assert [ts for ts, _, _ in got] == sorted(ts for ts, _, _ in got)
        got.sort()
        expected.sort()
    assert got == expected
    assert operator._state is None or operator._state.nbytes == 0
