"""Which windows are open, what they hold, and the steps in which a watermark empties them.

It knows nothing of aggregates: what is held is a table of rows with a key and a bucket, and a
``Holding`` that can merge such rows. All windows that a watermark makes due fire together: their
rows are taken, copied to each window they lie in, and merged at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.config import Limits
from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.window import ALONE, Grid, Holds, expand
from raystream.keyed.measures import buckets_of
from raystream.keyed.paged_table import PagedTable
from raystream.keyed.pieces import Piece, by_key
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.totals import Reduction
from raystream.keyed.window_admission import Admitted, admit, panes_of


class Holding(Protocol):
    """What a window operator holds for each key and bucket."""

    @property
    def key_names(self) -> Sequence[str]:
        """The columns of the key."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of rows: the key, the bucket, the rest."""

    @property
    def reductions(self) -> Sequence[Reduction] | None:
        """How the columns behind the bucket are reduced; None where that takes more."""

    @property
    def holds_objects(self) -> bool:
        """Whether rows stand for Python objects: they are always merged, and released."""

    def merge(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        """Merge rows of the same key and bucket, in order of arrival; sorted by bucket."""

    def merge_into(self, partials: list[pa.RecordBatch], bucket: int) -> pa.RecordBatch:
        """Merge rows of the same key, in order of arrival, whatever their buckets, into one."""

    def spread(self, partials: pa.RecordBatch, rows: Int64s, buckets: Int64s) -> pa.RecordBatch:
        """Copy rows into other buckets."""

    def release(self, partials: pa.RecordBatch) -> None:
        """Let go of what the rows stand for."""


_LARGE_WINDOW_ROWS = 1024
"""Windows of this many rows on average are merged one by one; smaller ones all at once."""


class WindowState:
    """The open windows of one operator.

    Windows share panes. Those of more panes than ``pane_copies_max`` that overlap little hold
    copies of rows instead, so that the table does not grow by panes that nobody shares; and so do
    those of users' own accumulators: once apart, they cannot be merged in order of arrival.
    ``by_pane`` keeps to panes whatever they are; what ``watermark_us`` made due is gone.
    """

    def __init__(
        self,
        grid: Grid,
        limits: Limits,
        holding: Holding,
        *,
        by_pane: bool = False,
        watermark_us: int = MIN_TIME,
    ) -> None:
        self.grid = grid
        self.watermark_us = watermark_us
        self._holding = holding
        self._rows_max = limits.firing_rows_max
        self._panes = grid.cover
        # Nested windows join panes, which is done where these are merged rows.
        reductions = None if self._panes.nested else holding.reductions
        self._table = PagedTable(holding.merge, holding.key_names, holding.schema, reductions)
        crowded = holding.holds_objects or grid.panes > limits.pane_copies_max
        few = grid.copies <= limits.pane_copies_max
        self._expanded = crowded and few and not self._panes.alone and not by_pane
        self._cover: Holds = ALONE if self._expanded else self._panes
        self._nothing = pa.RecordBatch.from_pylist([], schema=holding.schema)
        self._fired = grid.due(watermark_us)
        # Rows for which later windows than the state's last have fired already, by that window.
        self._ahead: list[tuple[int, pa.RecordBatch]] = []
        # A window that is fired piece by piece: while it is cut, and what is left of it.
        self._cutting: Iterator[Piece | None] | None = None
        self._pieces: list[Piece] = []
        self._pieces_merged = False

    @property
    def row_count(self) -> int:
        """Rows that are held."""
        ahead = sum(int(rows.num_rows) for _, rows in self._ahead)
        pieces = sum(int(rows.num_rows) for piece in self._pieces for rows in piece)
        return self._table.row_count + ahead + pieces

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        ahead = sum(int(rows.get_total_buffer_size()) for _, rows in self._ahead)
        pieces = sum(int(rows.nbytes) for piece in self._pieces for rows in piece)
        return self._table.nbytes + ahead + pieces

    @property
    def shares_panes(self) -> bool:
        """Whether a bucket is a pane that may lie in several windows, and not a window."""
        return not self._cover.alone

    @property
    def fired(self) -> int:
        """The last window that has fired, or would have if it had rows; any int."""
        return self._fired

    @property
    def fired_us(self) -> int:
        """The end of the last window that has fired: no earlier row is only in later ones."""
        fired = min(max(self._fired, MIN_TIME), MAX_TIME)
        return int(self.grid.ends(np.array([fired]))[0])

    @property
    def live_us(self) -> int:
        """The first time that lies in a window that is not due; any int."""
        return self.grid.live_us(self.watermark_us)

    @property
    def behind(self) -> bool:
        """Whether windows that the watermark has made due may not have fired."""
        begun = self._cutting is not None or bool(self._pieces)
        return begun or self.grid.due(self.watermark_us) > self._fired

    def held(self) -> list[tuple[int, pa.RecordBatch]]:
        """Give all rows in order of arrival, each with the last window that fired for them.

        They are the state's own, by reference; nothing changes them.
        """
        rows = [(self._fired, record) for record in self._table.held()]
        return [*reversed(self._ahead), *rows]

    def restore(
        self,
        held: Sequence[tuple[int | None, pa.RecordBatch]],
        watermark_us: int,
        *,
        shares_panes: bool,
    ) -> None:
        """Take up rows, sorted by bucket, with the last window that fired for them.

        None stands for rows whose buckets are windows: they have not fired. Those for which more
        has fired than for others wait till all have come so far: no window fires twice for a row.
        """
        self.watermark_us = watermark_us
        self._expanded = not shares_panes and not self._panes.alone
        self._cover = ALONE if self._expanded else self._panes
        # Where a bucket is a window, rows of those that have fired are gone: there is no harm in
        # firing the others from the first on.
        fired = [window for window, _ in held if window is not None]
        self._fired = min([self.grid.due(watermark_us if shares_panes else MIN_TIME), *fired])
        for window, rows in held:
            if window is None or window <= self._fired:
                self._table.prepend(rows)
            else:
                self._ahead.append((window, rows))
        self._ahead.sort(key=lambda pair: pair[0])

    def admit(self, times_us: Int64s) -> Admitted:
        """Leave out rows that no window will take any more."""
        return admit(self.grid, times_us, self.watermark_us)

    def fired_windows(self, times_us: Int64s, gone: int) -> tuple[Int64s, Int64s]:
        """Pair rows with those of their windows that have fired, and are behind ``gone``.

        Shapes: times_us int64 [n] -> rows int64 [m], windows int64 [m], by row, windows ascending.
        """
        panes = self.grid.panes_of(times_us)
        first = np.maximum(self._panes.first(panes), max(gone + 1, MIN_TIME))
        last = np.minimum(self._panes.last(panes), min(max(self._fired, MIN_TIME), MAX_TIME))
        return expand(first, last)

    def late_panes(self, panes: Int64s) -> npt.NDArray[np.bool_]:
        """Tell the panes whose windows have all fired."""
        due = min(self.grid.due(self.watermark_us), MAX_TIME)
        late: npt.NDArray[np.bool_] = self._panes.last(panes) <= max(due, MIN_TIME)
        return late

    def assign(
        self, rows: pa.RecordBatch, times_us: Int64s
    ) -> Iterator[tuple[pa.RecordBatch, Int64s | int]]:
        """Give rows with the bucket of each: as they are, or copied to each of their windows.

        Shapes: rows [n], times_us int64 [n], all admitted -> pairs of rows [m], buckets int64 [m].
        """
        if not self._expanded:
            yield rows, panes_of(self.grid, times_us)
            return
        fired = max(self.grid.due(self.watermark_us), self._fired)
        step = max(1, self._rows_max // self.grid.copies)
        # A batch copied to all its windows at once could be as large as the whole state.
        for start in range(0, len(times_us), step):
            panes = self.grid.panes_of(times_us[start : start + step])
            first = np.maximum(self._panes.first(panes), max(fired + 1, MIN_TIME))
            items, windows = expand(first, self._panes.last(panes))
            yield rows.take(pa.array(items + start)), windows

    def add(self, partials: pa.RecordBatch, *, merged: bool = True) -> None:
        """Hold rows by bucket, sorted by bucket; they came after all others.

        ``settle`` is to be called behind it.
        """
        self._table.add(partials, merged=merged)

    @property
    def adds_up(self) -> bool:
        """Whether partials can be added where their keys stand, instead of being merged later."""
        return self._table.pages_able

    def add_up(self, partials: pa.RecordBatch) -> None:
        """Hold partials, in no order; cheaper than ``add`` where keys come in batch after batch."""
        self._table.add_up(partials)

    def settle(self) -> Iterator[None]:
        """Bring what is held in order, in bounded steps: each yield is a place to pause."""
        return self._table.settle()

    def firing(self) -> list[pa.RecordBatch]:
        """Give what is left of a window that has begun to fire, for a snapshot."""
        self._pieces = [[self._piece(piece)] for piece in self._pieces]
        return [piece[0] for piece in self._pieces]

    def next_end_us(self) -> int | None:
        """Give the last instant of the next window that will fire; None: nothing is held."""
        buckets = [int(buckets_of(rows)[0]) for _, rows in self._ahead]
        bucket = self._table.first_bucket()
        buckets += [] if bucket is None else [bucket]
        if not buckets:
            return None
        window = self._first_window(min(buckets))
        return int(self.grid.ends(np.array([min(window, MAX_TIME)]))[0]) - 1

    def take(self, watermark_us: int) -> pa.RecordBatch | None:
        """Take the next windows that a watermark makes due, in one bounded step; None: no more.

        No rows are a place to pause. A window that is too large for a step comes in pieces.
        Shapes: -> rows [n], merged by key and window, sorted by window; a bucket is a window.
        """
        self.watermark_us = max(self.watermark_us, watermark_us)
        due = self.grid.due(watermark_us)
        while self._pieces or due > self._fired:
            if self._pieces:
                return self._piece(self._pieces.pop(0))
            taken = self._next(min([due, *(window for window, _ in self._ahead[:1])]))
            if taken is not None:
                return taken
            self._catch_up()
        return None

    def _catch_up(self) -> None:
        while self._ahead and self._ahead[0][0] <= self._fired:
            # Of the rows of one key, those that are ahead are the oldest.
            self._table.prepend(self._ahead.pop(0)[1])

    def _next(self, due: int) -> pa.RecordBatch | None:
        """Take the next step of windows up to one; None where all have fired."""
        bucket = self._table.first_bucket()
        first = None if bucket is None else self._first_window(bucket)
        if first is None or first > due:
            self._fired = due
            return None
        page = self._table.next_page()
        while page is not None and page < self._cover.stop(first):
            if not self._table.open_page():
                return self._nothing
            page = self._table.next_page()
        if page is not None:
            due = self._last_before(page, first, due)
        last = self._last_of_step(first, due)
        views = self._table.between(self._cover.start(first), self._cover.stop(last))
        if first == last and self._is_large(views):
            return self._cut(views, last)
        taken = self._merged(views, first, last)
        self._leave(last)
        return taken

    def _is_large(self, views: list[pa.RecordBatch]) -> bool:
        """Tell whether one window has to be merged in pieces."""
        if self._cover.alone:
            whole = len(views) == 1 and self._table.merged
        else:
            whole = self._holding.holds_objects  # they are copied for each window
        if whole:
            return False
        return bool(self._holding.key_names) and sum(v.num_rows for v in views) > self._rows_max

    def _cut(self, views: list[pa.RecordBatch], window: int) -> pa.RecordBatch:
        """Cut a large window by key, a step a call; until that is done it has not fired."""
        if self._cutting is None and self._table.apart(window) and self._cover.alone:
            self._cutting = iter([[view] for view in views])
        elif self._cutting is None:
            self._cutting = by_key(views, self._holding.key_names, self._rows_max)
        for piece in self._cutting:
            if piece is None:
                return self._nothing
            if self._holding.holds_objects and not self._cover.alone:
                # Merging lets go of objects that later windows may hold too.
                self._pieces.append([self._copied(view, window) for view in piece])
            else:
                self._pieces.append(piece)
        self._cutting = None
        plain = self._cover.alone and not self._holding.holds_objects
        self._pieces_merged = plain and self._table.merged
        self._leave(window)
        return self._nothing

    def _piece(self, piece: Piece) -> pa.RecordBatch:
        if len(piece) == 1 and self._pieces_merged:
            return piece[0]
        return self._holding.merge_into(piece, self._fired)

    def _copied(self, view: pa.RecordBatch, window: int) -> pa.RecordBatch:
        count = view.num_rows
        return self._holding.spread(view, np.arange(count), np.full(count, window))

    def _leave(self, last: int) -> None:
        """Forget what only windows up to one hold: they have fired."""
        self._fired = last
        gone = self._table.drop_below(self._cover.start(last + 1))
        if self._cover.nested and not self._holding.holds_objects:
            self._join_panes(self._cover.start(last + 1), last)
        if self._holding.holds_objects and not self._cover.alone:
            for some in gone:
                self._holding.release(some)

    def _join_panes(self, first: int, last: int) -> None:
        """Make one pane of those that all later windows hold together, or not at all."""
        views = self._table.between(first, last + 1)
        if sum(view.num_rows for view in views):
            joined = self._holding.merge_into(views, last)
            self._table.drop_below(last + 1)
            self._table.prepend(joined)

    def _first_window(self, bucket: int) -> int:
        return max(int(self._cover.first(np.array([bucket]))[0]), self._fired + 1)

    def _last_of_step(self, first: int, due: int) -> int:
        """Give the last window of a step: as many as fit into its rows, one at least."""
        cover = self._cover
        buckets, counts = self._table.row_counts(cover.stop(due))
        copied = np.cumsum(counts) * cover.copies
        fits = int(np.searchsorted(copied, self._rows_max, side="right"))
        if fits == len(buckets):
            return min(due, int(cover.last(buckets[-1:])[0]))
        before = int(cover.first(buckets[fits : fits + 1])[0]) - 1
        return min(max(before, first), due)

    def _last_before(self, bucket: int, first: int, due: int) -> int:
        """Give the last window up to ``due`` that ends at a bucket or before; ``first`` does."""
        if self._cover.stop(due) <= bucket:
            return due
        while due - first > 1:
            middle = (first + due) // 2
            if self._cover.stop(middle) <= bucket:
                first = middle
            else:
                due = middle
        return first

    def _merged(self, views: list[pa.RecordBatch], first: int, last: int) -> pa.RecordBatch:
        if self._cover.alone:
            if len(views) == 1 and self._table.merged and not self._holding.holds_objects:
                return views[0]
            return self._holding.merge(views)
        rows_each = sum(view.num_rows for view in views) // (last - first + 1)
        if rows_each >= _LARGE_WINDOW_ROWS and not self._holding.holds_objects:
            return pa.concat_batches([self._window(window) for window in range(first, last + 1)])
        copied = []
        for view in views:
            panes = view.column(BUCKET).to_numpy()
            begin = np.maximum(self._cover.first(panes), max(first, MIN_TIME))
            end = np.minimum(self._cover.last(panes), min(last, MAX_TIME))
            rows, windows = expand(begin, end)
            copied.append(self._holding.spread(view, rows, windows))
        return self._holding.merge(copied)

    def _window(self, window: int) -> pa.RecordBatch:
        """Merge what lies in one window; its panes lie side by side, so nothing is copied."""
        views = self._table.between(self._cover.start(window), self._cover.stop(window))
        return self._holding.merge_into(views, window)
