"""Mergeable aggregates on columns: rows become partials, partials become fewer, then results.

An aggregate is made of parts (a mean of a float sum and a count); parts that several aggregates
share are kept once. A partial table has the key columns, the bucket (a pane or a window) and the
columns of all parts; merging partials in order of arrival gives what grouping all rows would have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.errors import RestoreRefused, UserError
from raystream.flow.batch import Int64s
from raystream.flow.ordering import stable_order
from raystream.keyed.measures_function import Functions, Own
from raystream.keyed.measures_grouping import Request, Values, group
from raystream.keyed.measures_numeric import Count
from raystream.keyed.measures_parts import Liftable, Part, Result, one_zero
from raystream.keyed.measures_rules import by_arrival, parts_of
from raystream.keyed.snapshot import BUCKET
from raystream.keyed.totals import Reduction, reductions_of

_LARGE_BUCKET_ROWS = 1024
"""Buckets of this many rows on average are worth a call of their own."""


class Measures:
    """All aggregates of one operator: the shape of its partial tables, and how they come about.

    ``row_count`` adds a part that counts rows whatever the aggregates are. ``arrival``: partials of
    one key come from several panes, not in order of arrival; rows then need a column ``ARRIVAL``.
    ``mixed``: nor do those of rows of one time.
    Raises: PlanError where an aggregate is not defined for the type of its column.
    """

    def __init__(
        self,
        keys: Sequence[pa.Field],
        aggregates: Sequence[Bound],
        functions: Functions | None = None,
        *,
        row_count: bool = False,
        arrival: bool = False,
        mixed: bool = False,
    ) -> None:
        self.key_names = [field.name for field in keys]
        self.parts: list[Part] = []
        self._results: list[tuple[Result, list[int]]] = []
        self._names: list[str] = []
        if row_count:
            self._index_of(Count(None))
        for bound in aggregates:
            given = by_arrival(bound) if mixed else bound
            parts, result = parts_of(given, functions, arrival=arrival)
            self._results.append((result, [self._index_of(part) for part in parts]))
            self._names.append(f"{bound.name}.{bound.kind}")
        self._starts = np.cumsum([0, *(len(part.types) for part in self.parts)]).tolist()
        types = [type for part in self.parts for type in part.types]
        self.schema = pa.schema(
            [
                *keys,
                pa.field(BUCKET, pa.int64(), nullable=False),
                *(pa.field(f"__p{i}", type) for i, type in enumerate(types)),
            ]
        )

    @property
    def holds_objects(self) -> bool:
        """Whether partials stand for Python objects, which must be copied and let go of."""
        return any(isinstance(part, Own) for part in self.parts)

    def fold(self, rows: pa.RecordBatch, buckets: Int64s | int) -> pa.RecordBatch:
        """Group rows by key and bucket.

        Shapes: rows [n], buckets int64 [n] or one for all -> partials [g], sorted by bucket.
        """
        keys = [one_zero(rows.column(name)) for name in self.key_names]
        requests = [part.fold(rows) for part in self.parts]
        return self._grouped(keys, buckets, requests, rows.num_rows)

    @property
    def needs_arrival(self) -> bool:
        """Whether rows need a column ``ARRIVAL``."""
        return any(getattr(part, "arrival", False) for part in self.parts)

    @property
    def reductions(self) -> list[Reduction] | None:
        """How the columns of all parts are reduced, where sums and extremes say it all."""
        return reductions_of(self.parts)

    @property
    def liftable(self) -> bool:
        """Whether a row can be a partial of its own at little cost."""
        return all(isinstance(part, Liftable) for part in self.parts)

    def lift(self, rows: pa.RecordBatch, buckets: Int64s | int) -> pa.RecordBatch:
        """Make each row a partial of its own; columns may be those of the rows.

        Shapes: rows [n], buckets int64 [n] or one for all -> partials [n], in order of arrival.
        """
        if isinstance(buckets, int):
            buckets = np.full(rows.num_rows, buckets)
        keys = [one_zero(rows.column(name)) for name in self.key_names]
        flat: list[pa.Array] = []
        for part in self.parts:
            assert isinstance(part, Liftable), f"{part} has no cheap form for one row"
            flat += self._settle(part, part.lift(rows))
        return pa.RecordBatch.from_arrays([*keys, pa.array(buckets), *flat], schema=self.schema)

    def merge(self, partials: list[pa.RecordBatch]) -> pa.RecordBatch:
        """Merge partials of the same key and bucket; the batches are in order of arrival.

        Shapes: partials, together [n] -> partials [g], sorted by bucket.
        """
        # Keys alone are grouped in half the time of keys and buckets, so large buckets go singly.
        pieces = large_buckets(partials) if self.key_names else None
        if pieces is None:
            return self._merged(partials, None)
        merged = [self._merged(some, bucket) for bucket, some in pieces.items()]
        return merged[0] if len(merged) == 1 else pa.concat_batches(merged)

    def merge_into(self, partials: list[pa.RecordBatch], bucket: int) -> pa.RecordBatch:
        """Merge partials of the same key, whatever their buckets, into one bucket.

        Shapes: partials, together [n] -> partials [g].
        """
        return self._merged(partials, bucket)

    def spread(self, partials: pa.RecordBatch, rows: Int64s, buckets: Int64s) -> pa.RecordBatch:
        """Copy the partials at ``rows`` into other buckets.

        Shapes: partials [n], rows int64 [m], buckets int64 [m] -> partials [m].
        """
        taken = partials.take(pa.array(rows))
        columns = list(taken.columns)
        columns[len(self.key_names)] = pa.array(buckets)
        for index, part in enumerate(self.parts):
            if isinstance(part, Own):
                place = self._place(index)
                columns[place] = part.copies(columns[place])
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def results(self, partials: pa.RecordBatch) -> list[pa.Array]:
        """Give the value of each aggregate.

        Shapes: partials [n] -> arrays, each [n].
        """
        return [
            result([column for i in indices for column in self._columns(partials, i)])
            for result, indices in self._results
        ]

    def release(self, partials: pa.RecordBatch) -> None:
        """Let go of the objects that partials stand for."""
        for index, part in enumerate(self.parts):
            if isinstance(part, Own):
                part.release(partials.column(self._place(index)))

    def pack(self, partials: pa.Table) -> pa.Table:
        """Give partials that can be kept: with objects themselves in place of their numbers.

        Columns are named after aggregates: which parts there are, and in which order, also hangs on
        how the operator was planned. A row count that no aggregate asks for is left out.
        """
        columns = {name: partials.column(name) for name in [*self.key_names, BUCKET]}
        for index, part in enumerate(self.parts):
            names = self._kept_names(index)
            found = self._columns(partials, index)
            if isinstance(part, Own):
                found = [part.packed(found[0])]
            columns |= dict(zip(names[0], found, strict=True)) if names else {}
        return pa.table(columns)

    def unpack(self, partials: pa.Table) -> pa.Table:
        """Give partials that were kept as partials of this subtask.

        Raises: RestoreRefused where they are of other aggregates.
        """
        columns = [partials.column(name) for name in [*self.key_names, BUCKET]]
        for index, part in enumerate(self.parts):
            known = [n for n in self._kept_names(index) if set(n) <= set(partials.column_names)]
            if known:
                found = [partials.column(name) for name in known[0]]
                columns += [part.unpacked(found[0])] if isinstance(part, Own) else found
            elif not self._kept_names(index):
                # Rows are counted for the metric of late ones; what is kept was not late.
                columns.append(pa.array(np.zeros(partials.num_rows, np.int64)))
            else:
                raise self._others(partials, index)
        for column, field in zip(columns, self.schema, strict=True):
            if column.type != field.type:
                raise self._others(partials, None)
        return pa.table(columns, schema=self.schema)

    def _kept_names(self, index: int) -> list[list[str]]:
        """Name the columns of a part as they are kept, after each aggregate that it is part of."""
        names = []
        for name, (_, indices) in zip(self._names, self._results, strict=True):
            if index in indices:
                widths = [len(self.parts[one].types) for one in indices]
                first = sum(widths[: indices.index(index)])
                names.append([f"{name}.{first + i}" for i in range(len(self.parts[index].types))])
        return names

    def _others(self, partials: pa.Table, index: int | None) -> RestoreRefused:
        kept = ", ".join(f"{field.name}: {field.type}" for field in partials.schema)
        new = "" if index is None else f'; "{self._kept_names(index)[0][0]}" is not there'
        return RestoreRefused(
            f"aggregates were kept as ({kept}), which are not those of now{new}",
            hint="aggregate as before, or give the operator another uid",
        )

    def _merged(self, partials: list[pa.RecordBatch], bucket: int | None) -> pa.RecordBatch:
        table = pa.Table.from_batches(partials, self.schema)
        keys = [table.column(name) for name in self.key_names]
        requests = [
            part.merge(self._columns(table, index)) for index, part in enumerate(self.parts)
        ]
        buckets = table.column(BUCKET) if bucket is None else bucket
        return self._grouped(keys, buckets, requests, table.num_rows)

    def _index_of(self, part: Part) -> int:
        if part not in self.parts:
            self.parts.append(part)
        return self.parts.index(part)

    def _place(self, index: int) -> int:
        return len(self.key_names) + 1 + int(self._starts[index])

    def _columns(self, partials: pa.Table | pa.RecordBatch, index: int) -> list[Values]:
        place = self._place(index)
        return [partials.column(place + i) for i in range(len(self.parts[index].types))]

    def _grouped(
        self,
        keys: list[Values],
        buckets: Int64s | int | Values,
        requests: list[Request],
        row_count: int,
    ) -> pa.RecordBatch:
        # Where all rows are of one bucket, the keys alone are grouped: half the work.
        alone = isinstance(buckets, int) and bool(keys)
        if isinstance(buckets, int) and not alone:
            buckets = pa.array(np.full(row_count, buckets))
        by = keys if alone else [*keys, buckets]
        grouped = group(by, requests, row_count)
        columns = list(grouped.keys)
        if alone:
            columns.append(pa.array(np.full(len(columns[0]), buckets)))
        for part, some in zip(self.parts, grouped.columns, strict=True):
            columns += self._settle(part, some)
        partials = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return partials if alone else sorted_by_bucket(partials, len(keys))

    def _settle(self, part: Part, columns: list[pa.Array]) -> list[pa.Array]:
        try:
            return [
                column if column.type == type else column.cast(type)
                for column, type in zip(columns, part.types, strict=True)
            ]
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{part} overflows {part.types[0]}",
                hint="cast the column to float64 or to a decimal first",
            ) from error


def buckets_of(partials: pa.RecordBatch) -> Int64s:
    """Give the bucket of each row.

    Shapes: partials [n] -> int64 [n].
    """
    buckets: Int64s = partials.column(BUCKET).to_numpy()
    return buckets


def large_buckets(partials: list[pa.RecordBatch]) -> dict[int, list[pa.RecordBatch]] | None:
    """Cut records into views of each bucket's rows; None where that would make many small ones."""
    cuts = []
    for record in partials:
        buckets = buckets_of(record)
        begins = np.flatnonzero(buckets[1:] != buckets[:-1]) + 1
        cuts.append((record, buckets, np.concatenate(([0], begins))))
    if sum(len(begins) for _, _, begins in cuts) * _LARGE_BUCKET_ROWS > sum(
        record.num_rows for record in partials
    ):
        return None
    pieces: dict[int, list[pa.RecordBatch]] = {}
    for record, buckets, begins in cuts:
        for start, end in zip(begins.tolist(), [*begins[1:].tolist(), len(buckets)], strict=True):
            pieces.setdefault(int(buckets[start]), []).append(record.slice(start, end - start))
    return dict(sorted(pieces.items()))


def sorted_by_bucket(partials: pa.RecordBatch, bucket_column: int) -> pa.RecordBatch:
    """Sort by bucket, stable; what is sorted already is not copied."""
    buckets = partials.column(bucket_column).to_numpy()
    if len(buckets) < 2 or bool(np.all(buckets[1:] >= buckets[:-1])):
        return partials
    return partials.take(pa.array(stable_order(buckets)))
