"""A page of a window operator's state: accumulators for the keys of one bucket or a few.

Where many keys come again and again, a row is added where its key stands, and nothing is merged
later. Pages share the index of their keys, so that a key that comes in each of a thousand windows
is entered once. A key's slot and a bucket of the page make a *code*. Where most codes come, the
accumulators of one stand at its number, and nothing is looked up; where few do, codes are hashed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.code_table import CodeTable
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.measures import buckets_of
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.totals import Addends, Totals, addends_of

PAGE_ROWS_MAX: Final = 262_144
"""Copying so many rows out of a page takes a small part of a tenth of a second."""

SHIFT_MAX: Final = 31
"""A page has room for 2**31 buckets: with the slot of a key that makes 62 bits."""

_DENSE: Final = 4
"""Where one in so many codes has come, they are hashed no longer ..."""

_SPARSE: Final = 16
"""... until it is less than one in so many."""


class Place(NamedTuple):
    """Which buckets a page is for: those that are ``number`` without their last ``shift`` bits."""

    shift: int
    number: int


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
    """Accumulators of the partials in the buckets of a place.

    ``index`` gives slots to keys, of this page and of others; about as many accumulators as
    ``expected`` will be needed.
    """

    def __init__(
        self, schema: pa.Schema, index: KeyIndex, totals: Totals, place: Place, expected: int
    ) -> None:
        self.index = index
        self.first_bucket = place.number << place.shift
        self.row_count = 0
        self._schema = schema
        self._key_count = schema.get_field_index(BUCKET)
        self._totals = totals
        self._shift = place.shift
        self._start = place.number << place.shift
        self._expected = expected
        self._hashed: CodeTable | None = CodeTable(1)

    @property
    def nbytes(self) -> int:
        return self._totals.nbytes

    def add(self, keys: Int64s, buckets: Int64s, addends: Sequence[Addends]) -> bool:
        """Add partials of the page's buckets; False, and none is added, where a sum might overflow.

        Shapes: keys, their slots in the index, buckets int64 [n], n > 0; addends, each [n].
        """
        if not self._totals.fits(addends):
            return False
        codes = keys if not self._shift else (keys << self._shift) + (buckets - self._start)
        self._choose(len(codes))
        if self._hashed is None:
            count = self.index.count << self._shift
            fresh = self._totals.fresh(codes, count)
        else:
            before = self._hashed.count
            codes = self._hashed.lookup([codes])
            count = self._hashed.count
            fresh = np.arange(before, count)
        self._totals.add(codes, fresh, count, addends)
        if self._shift:
            first = int(buckets.min())
            self.first_bucket = min(first, self.first_bucket) if self.row_count else first
        self.row_count += len(fresh)
        return True

    def add_partials(self, partials: pa.RecordBatch) -> bool:
        """Look up the keys of partials, and ``add`` these.

        Shapes: partials [n], n > 0.
        """
        keys, _ = self.index.lookup(partials.columns[: self._key_count])
        parts = partials.columns[self._key_count + 1 :]
        return self.add(keys, buckets_of(partials), addends_of(self._totals.reductions, parts))

    def partials(self) -> Iterator[pa.RecordBatch]:
        """Give all partials, sorted by bucket, no key twice in a bucket; each is a bounded step."""
        slots = self._totals.present
        codes = slots if self._hashed is None else self._hashed.codes(slots)[0]
        if self._shift:
            order = stable_order(self._buckets(codes))
            slots, codes = slots[order], codes[order]
        for start in range(0, len(slots), PAGE_ROWS_MAX):
            step = slice(start, start + PAGE_ROWS_MAX)
            yield self._copied(slots[step], codes[step])

    def settle(self) -> Iterator[None]:
        """Make room in the page's own table, in bounded steps."""
        return iter(()) if self._hashed is None else self._hashed.grow()

    def _choose(self, more: int) -> None:
        """Hash codes or not, by how many of those that may come are there, with ``more`` rows."""
        span = self.index.count << self._shift
        cells = max(self.row_count + more, self._expected)
        if self._hashed is not None and span <= _DENSE * cells:
            (codes,) = self._hashed.codes(np.arange(self.row_count))
            self._totals.move(np.arange(self.row_count), codes, span)
            self._hashed = None
        elif self._hashed is None and span > _SPARSE * cells:
            codes = self._totals.present
            self._hashed = CodeTable(1)
            self._totals.move(codes, self._hashed.lookup([codes]), self.row_count)

    def _buckets(self, codes: Int64s) -> Int64s:
        return (codes & ((1 << self._shift) - 1)) + self._start

    def _copied(self, slots: Int64s, codes: Int64s) -> pa.RecordBatch:
        keys = self.index.keys(codes >> self._shift)
        keys.append(pa.array(self._buckets(codes)))
        fields = list(self._schema)[: self._key_count + 1]
        typed = [
            key if key.type == field.type else key.cast(field.type)
            for key, field in zip(keys, fields, strict=True)
        ]
        columns = [*typed, *self._totals.partials(slots)]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
