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
from raystream.keyed.pages import Page, indexable
from raystream.keyed.partials import Merge, PartialTable, Run
from raystream.keyed.pieces import Piece
from raystream.keyed.totals import Reduction

_SLICES_MAX = 8
"""A batch is cut into no more pages: each costs some microseconds, however few its rows are."""

_SHARING_MAX = 4
"""So many pages share an index: each has room for all of its keys, whether they came or not."""

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
        # By the bits of a bucket that do not matter, and those that do.
        self._pages: dict[tuple[int, int], Page] = {}
        self._opening: tuple[tuple[int, int], Iterator[pa.RecordBatch], Piece] | None = None
        self._origins = 0
        self._shared: KeyIndex | None = None
        self._shared_keys = 0

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
        if low == high:
            self._add_page(0, low, partials)
            return
        shift = 0
        while (high >> shift) - (low >> shift) >= _SLICES_MAX:
            shift += 1
        places = buckets >> shift
        if bool(np.any(places[1:] < places[:-1])):
            order = np.argsort((places - places.min()).astype(np.uint8), kind="stable")
            places, partials = places[order], partials.take(pa.array(order))
        begins = [0, *(np.flatnonzero(places[1:] != places[:-1]) + 1).tolist(), len(places)]
        for start, end in pairwise(begins):
            self._add_page(shift, int(places[start]), partials.slice(start, end - start))

    def settle(self) -> Iterator[None]:
        """Merge levels that are full and make room in indexes, in bounded steps."""
        yield from super().settle()
        for index in {id(page.index): page.index for page in self._pages.values()}.values():
            yield from index.grow()

    def next_page(self) -> int | None:
        """Give the first bucket that is in a page."""
        return min((page.first_bucket for page in self._pages.values()), default=None)

    def open_page(self) -> bool:
        """Turn the page with the first bucket into runs, a bounded step a call; True: it is done.

        Nothing may be added until it is.
        """
        if self._opening is None:
            place = min(self._pages, key=lambda place: self._pages[place].first_bucket)
            self._absorb(self._pages[place])
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

    def _add_page(self, shift: int, place: int, partials: pa.RecordBatch) -> None:
        page = self._pages.get((shift, place))
        if page is None:
            page = self._pages[shift, place] = self._new_page(shift, place)
        if not page.add(partials):
            self._close((shift, place), list(page.partials()))
            order = stable_order(buckets_of(partials))
            self.add(partials.take(pa.array(order)), merged=False)

    def _new_page(self, shift: int, place: int) -> Page:
        key_count = len(self._types)
        if shift:
            index = KeyIndex([*self._types, pa.int64()])
            return Page(self._schema, key_count, self._reductions, index, None)
        shared = self._shared
        if shared is None or shared.count > max(_INDEX_KEYS_MIN, _INDEX_WASTE * self._shared_keys):
            shared = KeyIndex(self._types)
            self._shared, self._shared_keys = shared, _INDEX_KEYS_MIN
        sharing = sum(page.index is shared for page in self._pages.values())
        index = shared if sharing < _SHARING_MAX else KeyIndex(self._types)
        return Page(self._schema, key_count, self._reductions, index, place)

    def _close(self, place: tuple[int, int], records: list[pa.RecordBatch]) -> None:
        """Put runs in the place of a page."""
        page = self._pages.pop(place)
        if page.index is self._shared:
            self._shared_keys = page.row_count
        self._origins += 1
        for record in records:
            self._push(0, Run(record, merged=True, origin=self._origins))

    def _absorb(self, page: Page) -> None:
        """Add to a page what lies in runs of its one bucket, so that they need not be merged."""
        bucket = page.first_bucket
        if bucket != page.last_bucket:
            return
        first = super().first_bucket()
        if first is None or first < bucket:
            return
        views = self.between(bucket, bucket + 1)
        whole = pa.concat_batches(views) if views else None
        if whole is not None and page.add(whole):
            self.drop_below(bucket + 1)
