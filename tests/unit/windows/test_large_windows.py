"""Windows of more keys than a step may merge: in pieces, and whatever is asked in between."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

import raystream as rs
from raystream.config import Limits
from raystream.contracts.aggregate import Bound
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.keyed import partials, pieces
from raystream.keyed.snapshot import share
from raystream.operators.window_aggregate import WindowAggregateSpec

INPUT = wire_schema(pa.schema([("k", pa.int64()), ("v", pa.int64())]), timed=True)
STAMP = pa.timestamp("us", "UTC")
OUTPUT = wire_schema(
    pa.schema(
        [
            ("k", pa.int64()),
            ("window_start", STAMP),
            ("window_end", STAMP),
            ("n", pa.int64()),
            ("s", pa.int64()),
        ]
    ),
    timed=True,
)
AGGREGATES = (
    Bound("n", "count", pa.int64()),
    Bound("s", "sum", pa.int64(), "v", pa.int64()),
)
STEP = 64


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """Let a hundred rows be many."""
    monkeypatch.setattr(partials, "PIECE_ROWS_MAX", STEP)
    monkeypatch.setattr(pieces, "_CUT_ROWS_MAX", 3 * STEP)


def opened(window):
    spec = WindowAggregateSpec(("k",), window, AGGREGATES, OUTPUT)
    operator = spec.build()
    operator.open(OpenContext("it", limits=Limits(batch_rows_max=50, firing_rows_max=STEP)))
    return operator


def rows(seed, count, keys, span):
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, keys, count),
        rng.integers(-9, 9, count),
        rng.integers(0, span, count),
    ]
    return Columns(pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=INPUT))


def wanted(batches, window):
    found: Counter = Counter()
    sums: Counter = Counter()
    for batch in batches:
        for row, time in zip(batch.visible.to_pylist(), batch.timestamps.tolist(), strict=True):
            for start in range(
                time // window.slide_us * window.slide_us, time - window.size_us, -window.slide_us
            ):
                found[row["k"], start] += 1
                sums[row["k"], start] += row["v"]
    return {key: (n, sums[key]) for key, n in found.items()}


def shown(batch):
    for row in batch.visible.to_pylist():
        yield (row["k"], rs.micros(row["window_start"])), (row["n"], row["s"])


WINDOWS = [rs.Tumbling(100), rs.Tumbling(7), rs.Sliding(100, 50)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("stop_every", [0, 1, 3])
def test_every_key_fires_once_whatever_stops_in_between(window, stop_every):
    given = [rows(seed, 120, 400, 200) for seed in range(12)]
    operator, got, pauses = opened(window), [], 0
    for batch in given:
        pauses += sum(not out.num_rows for out in operator.on_batch(0, batch))
    fired = restored = 0
    while fired < 10_000:
        firing, ended = operator.on_watermark(10_000), True
        for out in firing:
            fired += 1
            pauses += not out.num_rows
            got += shown(out)
            assert out.num_rows <= 50
            if stop_every and fired % stop_every == 0:
                firing.close()
                kept = operator.snapshot()
                ended = False
                if restored < 5:  # another takes it up, and cuts anew what had not fired
                    restored += 1
                    operator = opened(window)
                    operator.restore(share([kept], 0, 1, 128))
                break
        if ended:
            break
    assert pauses, "nothing was too large for a step"
    assert len(got) == len(dict(got)), "a key has fired twice"
    assert dict(got) == wanted(given, window)


def test_pieces_hold_each_key_once_and_its_rows_in_order():
    batches = [rows(seed, 100, 30, 10).record for seed in range(5)]
    parts = [piece for piece in pieces.by_key(batches, ["k"], 60) if piece is not None]
    assert len(parts) > 3
    whole = pa.Table.from_batches(batches)
    owners: dict = {}
    for at, piece in enumerate(parts):
        table = pa.Table.from_batches(piece)
        for key in set(table["k"].to_pylist()):
            assert owners.setdefault(key, at) == at
            mine = table.filter(pa.compute.equal(table["k"], key))["v"].to_pylist()
            assert mine == whole.filter(pa.compute.equal(whole["k"], key))["v"].to_pylist()
    assert sum(len(b) for piece in parts for b in piece) == whole.num_rows


def test_rows_without_a_key_are_one_piece():
    batch = rows(1, 500, 3, 10).record
    assert list(pieces.by_key([batch], [], 10)) == [[batch]]
