"""A page of a window operator's state: accumulators for the keys of one bucket or a few.

Where many keys come again and again, a row is added where its key stands, and nothing is merged
later. Pages of one bucket share the index of their keys, so that a key that comes in each of a
thousand windows is entered once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.ordering import stable_order
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.measures import buckets_of
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.totals import Reduction, Totals

PAGE_ROWS_MAX = 262_144
"""Copying so many rows out of a page takes a small part of a tenth of a second."""


def indexable(type: pa.DataType) -> bool:
    """Tell whether the index of keys gives values back bit by bit, and tells apart what Arrow does.

    It does not for nanoseconds and for decimals, whose keys are equal where their values are.
    """
    types = pa.types
    if types.is_timestamp(type) or types.is_time(type) or types.is_duration(type):
        return getattr(type, "unit", "s") != "ns"
    plain = types.is_integer(type) or types.is_boolean(type) or types.is_date32(type)
    text = types.is_string(type) or types.is_binary(type)
    return bool(plain or text or types.is_float32(type) or types.is_float64(type))


class Page:
    """Accumulators of partials of ``schema``: of one bucket, or of those from one to another.

    ``index`` gives slots to keys, and to keys with their buckets where there are several.
    """

    def __init__(
        self,
        schema: pa.Schema,
        key_count: int,
        reductions: Sequence[Reduction],
        index: KeyIndex,
        bucket: int | None,
    ) -> None:
        self._schema = schema
        self._key_count = key_count
        self._index = index
        self._bucket = bucket
        self._totals = Totals(reductions)
        # Behind each other until rows come.
        self.first_bucket = MAX_TIME if bucket is None else bucket
        self.last_bucket = MIN_TIME if bucket is None else bucket
        self.row_count = 0

    @property
    def index(self) -> KeyIndex:
        return self._index

    @property
    def nbytes(self) -> int:
        return self._totals.nbytes

    def add(self, partials: pa.RecordBatch) -> bool:
        """Add partials of the page's buckets; False, and none is added, where a sum might overflow.

        Shapes: partials [n], n > 0.
        """
        parts = partials.columns[self._key_count + 1 :]
        if not self._totals.fits(parts):
            return False
        keys = partials.columns[: self._key_count + (self._bucket is None)]
        slots, _ = self._index.lookup(keys)
        fresh = self._totals.fresh(slots, self._index.count)
        self._totals.add(slots, fresh, self._index.count, parts)
        self.row_count += len(fresh)
        if self._bucket is None:
            buckets = buckets_of(partials)
            self.first_bucket = min(int(buckets.min()), self.first_bucket)
            self.last_bucket = max(int(buckets.max()), self.last_bucket)
        return True

    def partials(self) -> Iterator[pa.RecordBatch]:
        """Give all partials, sorted by bucket, no key twice in a bucket; each is a bounded step."""
        slots = self._totals.present
        if self._bucket is None:
            buckets: Int64s = self._index.keys(slots)[-1].to_numpy()
            slots = slots[stable_order(buckets)]
        for start in range(0, len(slots), PAGE_ROWS_MAX):
            yield self._copied(slots[start : start + PAGE_ROWS_MAX])

    def _copied(self, slots: Int64s) -> pa.RecordBatch:
        keys = self._index.keys(slots)
        if self._bucket is not None:
            keys.append(pa.array(np.full(len(slots), self._bucket)))
        fields = list(self._schema)[: len(keys)]
        typed = [
            key if key.type == field.type else key.cast(field.type)
            for key, field in zip(keys, fields, strict=True)
        ]
        assert fields[-1].name == BUCKET, "the bucket stands behind the keys"
        columns = [*typed, *self._totals.partials(slots)]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
