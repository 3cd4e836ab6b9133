"""Laws of readers: any position gives the remaining rows, any batch size gives the same rows."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from raystream.connectors.files import FileSource
from raystream.connectors.generator import DataGenSource
from raystream.connectors.items import ItemsSource
from raystream.connectors.nexmark import NexmarkSource
from raystream.contracts.batch import Batch
from raystream.contracts.source import END

ROWS = 257


@functools.cache
def folder():
    """One file of each format, of 257 rows; kept until the process ends."""
    holder = tempfile.TemporaryDirectory()
    root = Path(holder.name)
    data = pa.table(
        {
            "n": pa.array(range(ROWS)),
            "text": pa.array([None if i % 7 == 0 else "x" * (i % 5) for i in range(ROWS)]),
            "at": pa.array([i * 1_000_003 for i in range(ROWS)], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(data, root / "a.parquet", row_group_size=50)
    with pa.ipc.new_file(str(root / "a.arrow"), data.schema) as writer:
        writer.write_table(data, max_chunksize=40)
    pa.csv.write_csv(data, root / "a.csv")
    lines = [f'{{"n": {i}, "at": "2020-01-01 00:00:00"}}\n' for i in range(ROWS)]
    (root / "a.json").write_text("".join(lines))
    (root / "a.txt").write_text("\n".join("y" * (i % 3) for i in range(ROWS)) + "\n")
    return root, holder


@functools.cache
def sources():
    root, _ = folder()
    files = [FileSource(root / f"a.{e}") for e in ("parquet", "arrow", "csv", "json", "txt")]
    schema = pa.schema([("n", pa.int64()), ("text", pa.string()), ("x", pa.float64())])
    items = pa.table({"n": range(100), "text": [str(i) for i in range(100)]})
    return [
        *files,
        *(NexmarkSource(9_137, seed=2, kind=kind) for kind in (None, "person", "auction", "bid")),
        NexmarkSource(140_003, seed=3, kind="person"),
        DataGenSource(schema, rows=5_000),
        DataGenSource(lambda i: {"i": i}, rows=5_000),
        ItemsSource(items, timestamps=range(100)),
        ItemsSource(list("abcdefg")),
    ]


def rows_of(polled):
    if isinstance(polled, Batch):
        times = polled.timestamps.tolist() if polled.timestamps is not None else None
        rows = polled.to_pylist()
        return list(zip(rows, times, strict=True)) if times else rows
    return polled if isinstance(polled, list) else polled.to_pylist()


@functools.cache
def expected(index):
    source = sources()[index]
    return [read(source, split, None, [10**6])[0] for split in source.splits()]


def read(source, split, position, sizes):
    """Rows from a position on, polled by ``sizes`` in turn; and the position after each poll."""
    reader = source.open(split, position)
    rows, positions, turn = [], [], 0
    while (polled := reader.poll(size := sizes[turn % len(sizes)])) is not END:
        found = rows_of(polled)
        assert 0 < len(found) <= size
        rows += found
        positions.append((reader.position(), len(rows)))
        turn += 1
    reader.close()
    return rows, positions


INDICES = st.integers(0, 13)


def pick(data, index):
    source = sources()[index]
    splits = source.splits()
    number = data.draw(st.integers(0, len(splits) - 1))
    return source, splits[number], expected(index)[number]


@given(INDICES, st.data())
def test_any_batch_size_gives_the_same_rows(index, data):
    source, split, whole = pick(data, index)
    least = 1 if len(whole) < 300 else len(whole) // 50
    sizes = data.draw(st.lists(st.integers(least, 2 * len(whole) + 2), min_size=1, max_size=4))
    assert read(source, split, None, sizes)[0] == whole


@given(INDICES, st.data())
def test_reading_from_any_position_gives_the_remaining_rows(index, data):
    source, split, whole = pick(data, index)
    least = 1 if len(whole) < 300 else len(whole) // 20
    size = data.draw(st.integers(least, len(whole) + 2))
    _, positions = read(source, split, None, [size])
    position, given_rows = data.draw(st.sampled_from(positions))
    assert read(source, split, position, [10**6])[0] == whole[given_rows:]


@given(INDICES, st.data())
def test_projection_gives_the_same_values(index, data):
    source, split, whole = pick(data, index)
    if source.schema is None or isinstance(source, ItemsSource):
        assert source.project(["n"]) is source
        return
    names = data.draw(st.sets(st.sampled_from(source.schema.names), min_size=1))
    kept = [name for name in source.schema.names if name in names]
    narrow = source.project(sorted(names))
    assert narrow.schema.names == kept
    rows, _ = read(narrow, split, None, [1_000])
    assert rows == [{name: row[name] for name in kept} for row in whole]
