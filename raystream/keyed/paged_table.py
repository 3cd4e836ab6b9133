"""A partial table with pages: where keys come again, partials are added and not merged later.

A page is turned into runs when the first of its buckets is wanted; from there on it is as if its
partials had been merged all along. Pages are for parts whose order of arrival does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
import pyarrow as pa

from raystream.flow.ordering import stable_order
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.measures import buckets_of
from raystream.keyed.pages import SHIFT_MAX, Page, Place, indexable
from raystream.keyed.partials import Merge, PartialTable, Run
from raystream.keyed.pieces import Piece
from raystream.keyed.totals import Reduction, Totals, addends_of

_SLICES_MAX = 8
"""A batch is cut into no more pages: each costs some microseconds, however few its rows are."""

_INDEX_KEYS_MIN = 65_536
_INDEX_WASTE = 3
"""An index of fewer keys, or of less than so many times those of the last page, is used again."""


class PagedTable(PartialTable):
    """Partials by bucket, in pages and in runs; ``reductions`` are those of the parts."""

    def __init__(
        self,
        merge: Merge,
        keys: Sequence[str],
        schema: pa.Schema,
        reductions: Sequence[Reduction] | None,
    ) -> None:
        super().__init__(merge, keys)
        self._schema = schema
        self._reductions = reductions or []
        types = [schema.field(name).type for name in keys]
        self.pages_able = bool(types) and reductions is not None and all(map(indexable, types))
        self._types = types
        self._pages: dict[Place, Page] = {}
        self._opening: tuple[Place, Iterator[pa.RecordBatch], Piece] | None = None
        self._origins = 0
        if self.pages_able:
            self._index = KeyIndex(types)
        # What the last page held: of all, and of those for as many buckets.
        self._page_keys = 0
        self._expected: dict[int, int] = {}

    @property
    def row_count(self) -> int:
        return super().row_count + sum(page.row_count for page in self._pages.values())

    @property
    def nbytes(self) -> int:
        return super().nbytes + sum(page.nbytes for page in self._pages.values())

    def first_bucket(self) -> int | None:
        firsts = (super().first_bucket(), self.next_page())
        return min((bucket for bucket in firsts if bucket is not None), default=None)

    def held(self) -> Iterator[pa.RecordBatch]:
        """Give all rows, each time sorted by bucket; in order of arrival where it matters."""
        for run in self.runs():
            yield run.live
        for page in self._pages.values():
            yield from page.partials()

    def add_up(self, partials: pa.RecordBatch) -> None:
        """Add partials in no order to pages, or to the runs where a sum might overflow."""
        buckets = buckets_of(partials)
        low, high = int(buckets.min()), int(buckets.max())
        shift = 0
        while (high >> shift) - (low >> shift) >= _SLICES_MAX:
            shift += 1
        if shift > SHIFT_MAX:
            self._add_run(partials)
            return
        index = self._index_for(Place(shift, high >> shift))
        keys, _ = index.lookup(partials.columns[: len(self._types)])
        addends = addends_of(self._reductions, partials.columns[len(self._types) + 1 :])
        first, order, ends = low >> shift, None, [len(buckets)]
        if first != high >> shift:
            numbers = ((buckets >> shift) - first).astype(np.uint8)
            ends = np.bincount(numbers).cumsum().tolist()
            if (numbers[1:] < numbers[:-1]).any():
                order = np.argsort(numbers, kind="stable")
                keys, buckets = keys[order], buckets[order]
                addends = [some.taken(order) for some in addends]
        for number, (start, end) in enumerate(pairwise([0, *ends])):
            if start == end:
                continue
            rows, place = slice(start, end), Place(shift, first + number)
            page = self._page(place, index)
            if page.index is index and page.add(
                keys[rows], buckets[rows], [some.part(rows) for some in addends]
            ):
                continue
            some = partials.slice(start, end - start)
            if order is not None:
                some = partials.take(pa.array(order[rows]))
            if page.index is index or not page.add_partials(some):
                self._close(place, list(page.partials()))
                self._add_run(some)

    def settle(self) -> Iterator[None]:
        """Merge levels that are full and make room in indexes, in bounded steps."""
        yield from super().settle()
        for index in {id(page.index): page.index for page in self._pages.values()}.values():
            yield from index.grow()
        for page in self._pages.values():
            yield from page.settle()

    def next_page(self) -> int | None:
        """Give the first bucket that is in a page."""
        return min((page.first_bucket for page in self._pages.values()), default=None)

    def open_page(self) -> bool:
        """Turn the page with the first bucket into runs, a bounded step a call; True: it is done.

        Nothing may be added until it is.
        """
        if self._opening is None:
            place = min(self._pages, key=lambda place: self._pages[place].first_bucket)
            self._absorb(place)
            self._opening = place, self._pages[place].partials(), []
        place, partials, records = self._opening
        records += islice(partials, 1)
        if sum(record.num_rows for record in records) < self._pages[place].row_count:
            return False
        self._opening = None
        self._close(place, records)
        return True

    def apart(self, bucket: int) -> bool:
        """Tell whether no key comes twice in a bucket, in whatever runs it lies."""
        runs = [run for run in self.runs() if run.place(bucket) < run.place(bucket + 1)]
        origins = {run.origin for run in runs}
        return len(origins) == 1 and None not in origins

    def _add_run(self, partials: pa.RecordBatch) -> None:
        order = stable_order(buckets_of(partials))
        self.add(partials.take(pa.array(order)), merged=False)

    def _index_for(self, place: Place) -> KeyIndex:
        """Give the index of keys, a new one for a new page where most keys do not come any more."""
        keys_max = max(_INDEX_KEYS_MIN, _INDEX_WASTE * self._page_keys)
        if place not in self._pages and self._index.count > keys_max:
            self._index = KeyIndex(self._types)
        return self._index

    def _page(self, place: Place, index: KeyIndex) -> Page:
        page = self._pages.get(place)
        if page is None:
            expected = self._expected.get(place.shift, 0)
            page = Page(self._schema, index, Totals(self._reductions), place, expected)
            self._pages[place] = page
        return page

    def _close(self, place: Place, records: list[pa.RecordBatch]) -> None:
        """Put runs in the place of a page."""
        page = self._pages.pop(place)
        self._expected[place.shift] = page.row_count
        if page.index is self._index:
            self._page_keys = page.row_count
        self._origins += 1
        for record in records:
            self._push(0, Run(record, merged=True, origin=self._origins))

    def _absorb(self, place: Place) -> None:
        """Add to a page what lies in runs of its one bucket, so that they need not be merged."""
        bucket = place.number
        first = super().first_bucket()
        if place.shift or first is None or first < bucket:
            return
        views = self.between(bucket, bucket + 1)
        whole = pa.concat_batches(views) if views else None
        if whole is not None and self._pages[place].add_partials(whole):
            self.drop_below(bucket + 1)
