"""The partial table of a window operator: partials of open buckets, merged geometrically.

Each batch appends a run of partials, sorted by bucket. Eight runs of one level are merged into one
of the next, so that a partial is merged once a level and not once a batch. Taking buckets out
moves the start of each run; a run is copied together when half of it has been taken, so that
what is held is at most twice what lives, and a firing costs what it takes, however much stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.keyed.pieces import PIECE_ROWS_MAX, Piece, by_key
from raystream.keyed.snapshot import BUCKET

FAN_IN = 8
"""Runs of a level that are merged into one of the next."""

FAN_IN_WIDE = 32
"""The same for runs of one batch, where the last merge found few equal keys: then merging early
costs as much as merging late, and late is often never, because a firing comes first. Deeper levels
stay narrow: their merges are long already."""

_FEW_EQUAL = 0.7

Merge = Callable[[list[pa.RecordBatch]], pa.RecordBatch]
"""Merges partials of the same key and bucket, in order of arrival, sorted by bucket."""


class Run:
    """Partials sorted by bucket, of which the first ``start`` have been taken.

    ``merged``: no key comes twice in a bucket. Runs of one ``origin`` share no key in a bucket.
    """

    __slots__ = ("begins", "buckets", "first_bucket", "merged", "origin", "record", "start")

    def __init__(self, record: pa.RecordBatch, *, merged: bool, origin: int | None = None) -> None:
        self.merged = merged
        self.origin = origin
        self._index(record)

    def _index(self, record: pa.RecordBatch) -> None:
        column: Int64s = record.column(BUCKET).to_numpy()
        changes = np.flatnonzero(column[1:] != column[:-1]) + 1
        self.record = record
        self.start = 0
        # The different buckets, and where each begins; a last entry says where all end.
        self.begins: Int64s = np.concatenate(([0], changes, [len(column)]))
        self.buckets: Int64s = column[self.begins[:-1]]
        self.first_bucket = int(self.buckets[0])

    @property
    def row_count(self) -> int:
        return int(self.begins[-1]) - self.start

    @property
    def live(self) -> pa.RecordBatch:
        """What has not been taken, as a view."""
        return self.record.slice(self.start) if self.start else self.record

    def place(self, bucket: int) -> int:
        """Give the place of the first row of ``bucket`` or a later one; any int will do."""
        if bucket > MAX_TIME:
            return int(self.begins[-1])
        at = np.searchsorted(self.buckets, bucket) if bucket > MIN_TIME else 0
        return max(self.start, int(self.begins[at]))

    def row_counts(self, stop: int) -> tuple[Int64s, Int64s]:
        """Count the rows of each bucket up to a place where a bucket begins."""
        first, end = np.searchsorted(self.begins, (self.start, stop))
        return self.buckets[first:end], np.diff(self.begins[first : end + 1])

    def drop_below(self, bucket: int) -> pa.RecordBatch:
        """Forget the rows of earlier buckets; give them back as a view."""
        place = self.place(bucket)
        dropped = self.record.slice(self.start, place - self.start)
        if place == self.begins[-1]:
            self.start = place
        elif 2 * place > self.begins[-1]:
            # A slice would keep the whole run alive; taking its rows copies them.
            self._index(self.record.take(pa.array(np.arange(place, self.begins[-1]))))
        elif place > self.start:
            self.start = place
            self.first_bucket = int(self.buckets[np.searchsorted(self.begins, place)])
        return dropped


class PartialTable:
    """Partials by bucket, in runs; ``merge`` makes one run of several.

    ``keys`` are the columns that tell what is merged with what, by which a bucket can be cut.
    """

    def __init__(self, merge: Merge, keys: Sequence[str] = ()) -> None:
        self._merge = merge
        self._keys = keys
        # The deepest level holds the oldest rows; within a level runs are in order of arrival.
        self._levels: list[list[Run]] = []
        self._fan_in: list[int] = []

    @property
    def row_count(self) -> int:
        return sum(run.row_count for run in self.runs())

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that are held, taken rows that are not yet copied away included."""
        return sum(int(run.record.get_total_buffer_size()) for run in self.runs())

    def runs(self) -> list[Run]:
        """Give all runs in order of arrival."""
        return [run for level in reversed(self._levels) for run in level]

    @property
    def merged(self) -> bool:
        """Whether no run has a key twice in a bucket."""
        return all(run.merged for run in self.runs())

    def append(self, partials: pa.RecordBatch, *, merged: bool = True) -> None:
        """Add partials that came after all others, and merge what is to be merged."""
        self.add(partials, merged=merged)
        for _ in self.settle():
            pass

    def add(self, partials: pa.RecordBatch, *, merged: bool = True) -> None:
        """Add partials that came after all others; sorted by bucket, and owned by the table.

        ``merged``: no key comes twice in a bucket. ``settle`` is to be called behind it.
        """
        if partials.num_rows:
            self._push(0, Run(partials, merged=merged))

    def settle(self) -> Iterator[None]:
        """Merge the levels that are full, in bounded steps: each yield is a place to pause."""
        level = 0
        while level < len(self._levels):
            runs = self._levels[level]
            if len(runs) >= self._fan_in[level]:
                row_count = sum(run.row_count for run in runs)
                pieces = []
                for piece in self._pieces(runs):
                    if piece is not None:
                        pieces.append(self._merge(piece))
                    yield
                run = Run(_joined(pieces), merged=True)
                few_equal = run.row_count > _FEW_EQUAL * row_count
                self._fan_in[level] = FAN_IN_WIDE if few_equal and level == 0 else FAN_IN
                runs.clear()
                self._push(level + 1, run)
            level += 1

    def _push(self, level: int, run: Run) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._fan_in.append(FAN_IN)
        self._levels[level].append(run)

    def _pieces(self, runs: list[Run]) -> Iterator[Piece | None]:
        """Cut runs into pieces, bucket by bucket; None is a place to pause."""
        buckets, counts = _counts(runs, MAX_TIME + 1)
        start = 0
        while start < len(buckets):
            sums = np.cumsum(counts[start:])
            fits = max(1, int(np.searchsorted(sums, PIECE_ROWS_MAX, side="right")))
            first, last = int(buckets[start]), int(buckets[start + fits - 1])
            views = _between(runs, first, last + 1)
            if fits == 1 and counts[start] > PIECE_ROWS_MAX:
                yield from by_key(views, self._keys, PIECE_ROWS_MAX)
            else:
                yield views
            start += fits

    def prepend(self, partials: pa.RecordBatch) -> None:
        """Add partials that came before all others; sorted by bucket, and owned by the table."""
        if partials.num_rows:
            self._levels.append([Run(partials, merged=False)])
            self._fan_in.append(FAN_IN)

    def first_bucket(self) -> int | None:
        """Give the first bucket that has rows."""
        return min((run.first_bucket for run in self.runs()), default=None)

    def row_counts(self, below: int) -> tuple[Int64s, Int64s]:
        """Count the rows of each bucket below ``below``.

        Shapes: -> buckets int64 [n], ascending; row counts int64 [n].
        """
        return _counts(self.runs(), below)

    def count_below(self, bucket: int) -> int:
        """Count the rows of earlier buckets; any int will do."""
        return sum(run.place(bucket) - run.start for run in self.runs())

    def between(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """View the rows of buckets from ``start`` up to ``stop``, in order of arrival."""
        return _between(self.runs(), start, stop)

    def drop_below(self, bucket: int) -> list[pa.RecordBatch]:
        """Forget the rows of earlier buckets; give them back as views."""
        dropped = []
        for level in self._levels:
            dropped += [run.drop_below(bucket) for run in level]
            level[:] = [run for run in level if run.row_count]
        while self._levels and not self._levels[-1]:
            self._levels.pop()
            self._fan_in.pop()
        return [view for view in dropped if view.num_rows]


def _counts(runs: list[Run], below: int) -> tuple[Int64s, Int64s]:
    seen = [run.row_counts(run.place(below)) for run in runs]
    if len(seen) == 1:
        return seen[0]
    buckets = np.concatenate([np.zeros(0, np.int64), *(some for some, _ in seen)])
    counts = np.concatenate([np.zeros(0, np.int64), *(some for _, some in seen)])
    unique, owners = np.unique(buckets, return_inverse=True)
    return unique, np.bincount(owners, counts, len(unique)).astype(np.int64)


def _between(runs: list[Run], start: int, stop: int) -> list[pa.RecordBatch]:
    views = []
    for run in runs:
        first, end = run.place(start), run.place(stop)
        if first < end:
            views.append(run.record.slice(first, end - first))
    return views


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
