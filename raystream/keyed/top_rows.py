"""Whole rows that a top-k may still need: the best of each key and bucket, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.measures import buckets_of, sorted_by_bucket
from raystream.keyed.measures_grouping import Groups, group, whole
from raystream.keyed.measures_parts import ARRIVAL, one_zero
from raystream.keyed.measures_pick import least_rows
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.sort_codes import sorting


class TopRows:
    """The rule of one top-k: ``k`` rows by ``by``, a sequence of (column, descending).

    Nulls and NaN come last either way. Of equal rows the one that came first is better; ``ties``
    keeps all that equal the k-th. Rows are records of ``schema``, which ends with the bucket, and
    before it has ``ARRIVAL`` where rows of one key do not come in order of arrival.
    """

    def __init__(
        self,
        keys: Sequence[str],
        k: int,
        by: Sequence[tuple[str, bool]],
        *,
        ties: bool,
        schema: pa.Schema,
    ) -> None:
        self.key_names = keys
        self._k = k
        self._by = by
        self._ties = ties
        self.schema = schema

    @property
    def holds_objects(self) -> bool:
        """Rows are columns."""
        return False

    @property
    def reductions(self) -> None:
        """Rows do not add up."""
        return None

    def best(self, rows: pa.RecordBatch, buckets: Int64s | int) -> pa.RecordBatch:
        """Keep the rows that are among the best of their key and bucket.

        Shapes: rows [n] of the schema without bucket, buckets int64 [n] or one for all
        -> rows [m] of the schema, sorted by bucket, in order of arrival.
        """
        kept = self._kept(rows, buckets)
        if isinstance(buckets, int):
            buckets = np.full(rows.num_rows, buckets)
        taken = [column.take(pa.array(kept)) for column in rows.columns]
        record = pa.RecordBatch.from_arrays([*taken, pa.array(buckets[kept])], schema=self.schema)
        return sorted_by_bucket(record, len(taken))

    def ranked(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Int64s]:
        """Sort rows by bucket, key and rank, and give the ranks, from 1.

        Shapes: rows [n] of the schema -> rows [m], int64 [m].
        """
        order, ranks = self._ranked(rows, self._groups(rows, buckets_of(rows)))
        by_bucket = stable_order(buckets_of(rows)[order])
        return rows.take(pa.array(order[by_bucket])), ranks[by_bucket]

    def merge(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        """Merge rows that came in this order; sorted by bucket."""
        table = _joined(partials)
        return self.best(table.drop_columns([BUCKET]), buckets_of(table))

    def merge_into(self, partials: list[pa.RecordBatch], bucket: int) -> pa.RecordBatch:
        """Merge rows that came in this order, whatever their buckets, into one bucket."""
        return self.best(_joined(partials).drop_columns([BUCKET]), bucket)

    def spread(self, partials: pa.RecordBatch, rows: Int64s, buckets: Int64s) -> pa.RecordBatch:
        """Copy rows into other buckets."""
        taken = partials.take(pa.array(rows)).columns[:-1]
        return pa.RecordBatch.from_arrays([*taken, pa.array(buckets)], schema=self.schema)

    def release(self, partials: pa.RecordBatch) -> None:
        """Rows hold nothing outside of themselves."""

    def _kept(self, rows: pa.RecordBatch, buckets: Int64s | int) -> Int64s:
        """Give the rows that are among the best of their group, in order of arrival."""
        groups = self._groups(rows, buckets)
        sizes = np.diff(groups.starts)
        large = sizes > self._k
        if large.all():
            return np.sort(self._ranked(rows, groups)[0])
        # Groups of at most k rows lose none, so only the others are worth sorting.
        chosen = np.repeat(large, sizes)
        starts = np.concatenate(([0], np.cumsum(sizes[large])))
        best, _ = self._ranked(rows, Groups(groups.order[chosen], starts))
        return np.sort(np.concatenate((groups.order[~chosen], best)))

    def _ranked(self, rows: pa.RecordBatch, groups: Groups) -> tuple[Int64s, Int64s]:
        """Give the rows that are among the best, by group and rank, and their ranks.

        Shapes: rows [n], groups of some of them -> rows int64 [m], ranks int64 [m].
        """
        if not groups.count:
            return groups.order, groups.order
        columns = [whole(rows.column(name)) for name, _ in self._by]
        keys = [
            sorting(column, descending=descending)
            for column, (_, descending) in zip(columns, self._by, strict=True)
        ]
        places, ids = self._hopeful(groups, *keys[0])
        # The last of these sorts first; what comes before only breaks its ties.
        by: list[npt.NDArray[Any]] = []
        if ARRIVAL in self.schema.names:
            by.append(rows.column(ARRIVAL).to_numpy()[places])
        for values, missing in reversed(keys):
            by.append(values[places])
            if missing is not None:
                by.append(missing[places])
        order = _packed_order(ids, by[0]) if len(by) == 1 else None
        if order is None:
            order = np.lexsort([*by, ids])
        places, ids = places[order], ids[order]
        starts = np.flatnonzero(np.diff(ids, prepend=-1))
        ranks = np.arange(len(ids)) - np.repeat(starts, np.diff(starts, append=len(ids)))
        if self._ties:
            ranks = _shared(ranks, places, ids, keys)
        kept = ranks < self._k
        return places[kept], ranks[kept] + 1

    def _groups(self, rows: pa.RecordBatch, buckets: Int64s | int) -> Groups:
        if not self.key_names:
            return _by_bucket(rows.num_rows, buckets)
        by = [one_zero(rows.column(name)) for name in self.key_names]
        if not isinstance(buckets, int):
            by.append(pa.array(buckets))
        seen: list[Groups] = []

        def see(groups: Groups) -> list[pa.Array]:
            seen.append(groups)
            return []

        group(by, [see], rows.num_rows)
        return seen[0]

    def _hopeful(
        self, groups: Groups, values: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None
    ) -> tuple[Int64s, Int64s]:
        """Leave out rows that the first column alone rules out; sorting is what costs.

        Shapes: values [n] -> rows int64 [m], ids int64 [m], group by group.
        """
        rows, ids = groups.order, groups.ids
        if missing is not None or len(rows) <= self._k:
            return rows, ids
        if groups.count == 1:
            values = values[rows]
            kth = np.partition(values, self._k - 1)[self._k - 1]
            rows = rows[values <= kth]
            return rows, np.zeros(len(rows), np.int64)
        return least_rows(values, rows, ids) if self._k == 1 else (rows, ids)


def _by_bucket(count: int, buckets: Int64s | int) -> Groups:
    """Group rows by nothing but their buckets: sorting is quick where time mostly goes forward."""
    if isinstance(buckets, int):
        return Groups(np.arange(count, dtype=np.int64), np.array([0, count]))
    order: Int64s = stable_order(buckets)
    changes = np.flatnonzero(np.diff(buckets[order])) + 1
    return Groups(order, np.concatenate(([0], changes, [count])) if count else np.array([0]))


def _packed_order(ids: Int64s, values: npt.NDArray[Any]) -> Int64s | None:
    """Sort by id, value and place as one integer; None where they do not fit into 63 bits.

    Sorting plain integers takes a tenth of what sorting places by two columns does.
    Shapes: ids, values [n] -> places int64 [n].
    """
    if values.dtype != np.int64 or not len(values):
        return None
    least = int(values.min())
    place_bits = len(ids).bit_length()
    value_bits = (int(values.max()) - least).bit_length()
    if int(ids.max()).bit_length() + value_bits + place_bits > 63:
        return None
    packed = (ids << value_bits | values - least) << place_bits
    packed |= np.arange(len(ids))
    packed.sort()
    order: Int64s = packed & ((1 << place_bits) - 1)
    return order


def _shared(
    ranks: Int64s,
    places: Int64s,
    ids: Int64s,
    keys: list[tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]],
) -> Int64s:
    """Give equal rows the rank of the first of them."""
    new = np.diff(ids, prepend=-1) != 0
    for values, missing in keys:
        for some in (values, missing):
            if some is not None:
                here = some[places]
                new[1:] |= here[1:] != here[:-1]
    starts = np.flatnonzero(new)
    return np.repeat(ranks[starts], np.diff(starts, append=len(ranks)))


def _joined(partials: list[pa.RecordBatch]) -> pa.RecordBatch:
    return partials[0] if len(partials) == 1 else pa.concat_batches(partials)
