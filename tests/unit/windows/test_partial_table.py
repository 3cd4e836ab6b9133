"""The table of partials: merged seldom, freed at once, and never a slice of something larger."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raystream.keyed.partials import PartialTable
from raystream.keyed.snapshot import BUCKET

SCHEMA = pa.schema([("k", pa.int64()), (BUCKET, pa.int64())])


def record(keys, buckets):
    order = np.argsort(buckets, kind="stable")
    arrays = [pa.array(np.asarray(keys)[order]), pa.array(np.asarray(buckets)[order])]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


class Merging:
    """A merge that forgets nothing, and counts the rows it is given."""

    def __init__(self):
        self.row_count = 0

    def __call__(self, partials):
        joined = pa.concat_batches(partials)
        self.row_count += joined.num_rows
        return record(joined.column(0).to_numpy(), joined.column(1).to_numpy())


def rows_of(views):
    return sorted((row["k"], row[BUCKET]) for view in views for row in view.to_pylist())


def test_a_row_is_merged_once_a_level_however_many_batches_follow():
    merging = Merging()
    table = PartialTable(merging)
    for i in range(8**3):
        table.append(record([i], [i % 5]))
    assert table.row_count == 512
    # All rows are alike to this merge, so that the first level widens from 8 to 32 runs.
    assert merging.row_count <= 3 * 512
    assert len(table.runs()) <= 3 * 32


def test_runs_stay_in_order_of_arrival():
    table = PartialTable(Merging())
    for i in range(100):
        table.append(record([i], [0]))
    keys = [row["k"] for view in table.between(0, 1) for row in view.to_pylist()]
    assert keys == list(range(100))


def test_rows_that_came_before_all_others_are_put_before_them():
    table = PartialTable(Merging())
    for i in range(2, 20):
        table.append(record([i], [0]))
    table.prepend(record([1], [0]))
    table.prepend(record([0], [0]))
    for i in range(20, 90):
        table.append(record([i], [0]))
    keys = [row["k"] for view in table.between(0, 1) for row in view.to_pylist()]
    assert keys == list(range(90))


def test_buckets_are_counted_viewed_and_dropped():
    table = PartialTable(Merging())
    table.append(record([1, 2, 3], [5, 7, 5]))
    table.append(record([4, 5], [7, 9]))
    assert table.first_bucket() == 5
    buckets, counts = table.row_counts(9)
    assert (buckets.tolist(), counts.tolist()) == ([5, 7], [2, 2])
    assert rows_of(table.between(6, 8)) == [(2, 7), (4, 7)]
    assert rows_of(table.drop_below(7)) == [(1, 5), (3, 5)]
    assert table.first_bucket() == 7
    assert rows_of(table.drop_below(2**70)) == [(2, 7), (4, 7), (5, 9)]
    assert (table.row_count, table.nbytes, table.first_bucket()) == (0, 0, None)


def test_what_is_held_is_at_most_twice_what_lives():
    table = PartialTable(Merging())
    table.append(record(np.arange(1000), np.arange(1000)))
    for bucket in range(0, 1000, 10):
        table.drop_below(bucket)
        assert table.row_count == 1000 - bucket
        assert table.nbytes <= 2 * 16 * table.row_count + 64


def test_a_firing_costs_what_it_takes_not_what_stays():
    merging = Merging()
    table = PartialTable(merging)
    table.append(record(np.arange(4096), np.arange(4096)))
    copied = 0
    for bucket in range(4096):
        before = table.runs()[0].record
        assert len(rows_of(table.between(bucket, bucket + 1))) == 1
        table.drop_below(bucket + 1)
        runs = table.runs()
        copied += runs[0].record.num_rows if runs and runs[0].record is not before else 0
    assert merging.row_count == 0
    assert copied <= 4096
