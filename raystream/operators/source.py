"""The head of a chain that reads: what readers give becomes batches with event time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.batch import Batch as Rows
from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.contracts.source import Source, Split
from raystream.contracts.watermark import Alignment, Strategy
from raystream.errors import SourceError, UserFunctionError
from raystream.flow.batch import (
    Batch,
    Columns,
    Int64s,
    Objects,
    concat,
    visible_schema,
    with_ops,
    with_times,
)
from raystream.flow.changes import OPS
from raystream.flow.element import MIN_TIME, Watermark
from raystream.flow.normal import normal_record
from raystream.operators.operator import Operator
from raystream.operators.pyrows import to_columns
from raystream.operators.rejecting import by_halves, row_of, time_of, without
from raystream.operators.timestamps import TimestampReader, lower_bound
from raystream.operators.watermarks import cut, watermarks_of

_KINDS = {name: code for code, name in enumerate(OPS)}


@dataclass(frozen=True)
class SourceSpec:
    """Read a source; ``schema`` is what leaves: its columns, and event time if ``timed``."""

    source: Source
    schema: pa.Schema | None
    watermark: Strategy | None
    name: str
    where: str
    timed: bool

    @property
    def verb(self) -> str:
        return "source"

    def describe(self) -> str:
        text = self.source.describe()
        if self.watermark is None:
            return text
        return f"{text} {self.watermark.describe()}"

    def build(self) -> SourceOperator:
        return SourceOperator(self)


class SourceOperator(Operator):
    """Turns what a reader gave into a batch, and knows what that says about time."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        strategy, at = spec.watermark, (spec.name, spec.where)
        self._times = None if strategy is None else TimestampReader(strategy, *at)
        self._watermarks = None if strategy is None else watermarks_of(strategy, *at)
        self._visible = None if spec.schema is None else visible_schema(spec.schema)
        self._changes = spec.source.changelog is not None
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        """Open the functions that read time; readers are opened by the shell."""
        self._errors = ctx.errors
        if self._times is not None and self._watermarks is not None:
            self._times.open(ctx)
            self._watermarks.open(ctx)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        raise AssertionError("a source has no input: its rows come from readers")

    def close(self) -> None:
        """Close the functions that read time."""
        if self._times is not None and self._watermarks is not None:
            try:
                self._times.close()
            finally:
                self._watermarks.close()

    @property
    def bounded(self) -> bool:
        return self._spec.source.bounded

    @property
    def in_turns(self) -> bool:
        """Whether splits take turns: where they have no end, or their readers fetch ahead.

        Others are read split by split, so that few are open.
        """
        return not self._spec.source.bounded or self._spec.source.abreast

    @property
    def idleness_us(self) -> int | None:
        watermark = self._spec.watermark
        return None if watermark is None else watermark.idleness_us

    @property
    def alignment(self) -> Alignment | None:
        watermark = self._spec.watermark
        return None if watermark is None else watermark.alignment

    def first_watermark(self, split: Split) -> int:
        """Give the watermark that a split stands at before its first row."""
        if self._spec.watermark is None:
            return MIN_TIME
        bound = lower_bound(self._spec.watermark, dict(split.earliest), self._spec.schema)
        return MIN_TIME if bound is None else bound

    def convert(
        self, polled: Rows | pa.RecordBatch | list[Any], after_us: int = MIN_TIME
    ) -> Iterator[tuple[Batch, int | None]]:
        """Make batches of what a reader gave, each with the watermark that stands behind it.

        Rows are cut where a watermark above ``after_us`` stands between them.
        """
        given: Int64s | None = None
        rows: Any = polled
        ops: Sequence[str] | None = None
        if isinstance(polled, Rows):
            rows, given, ops = polled.rows, polled.timestamps, polled.ops
            for raw, error in polled.unreadable:
                self._errors.reject(error, raw)
        batch, given = self._fitting(rows, given, self._kinds(ops, rows))
        if self._times is not None and batch.num_rows:
            batch, given = self._times.read(batch, self._errors)
        if not self._spec.timed:
            if given is not None:
                raise self._refused(
                    "gave event times, but does not say that it has them",
                    hint=f"set timed = True on {type(self._spec.source).__name__}",
                )
            return iter([(batch, None)])
        times, marks = self._checked(given, batch.num_rows), None
        if self._watermarks is not None:
            batch, times, marks = self._watermarks.marks(batch, times, after_us, self._errors)
        timed: Batch = (
            with_times(batch.record, times)
            if isinstance(batch, Columns)
            else Objects(batch.values, times)
        )
        return iter([(timed, None)]) if marks is None else cut(timed, marks)

    def _checked(self, given: Int64s | None, count: int) -> Int64s:
        if given is None:
            if count:
                raise SourceError(
                    f'source "{self._spec.name}" gave rows without event time',
                    where=self._spec.where,
                    hint="give a watermark strategy, or timestamps with every batch",
                )
            given = np.empty(0, np.int64)
        if len(given) != count:
            raise self._refused(
                f"gave {len(given)} timestamps for {count} rows",
                hint="give a timestamp with each row",
            )
        return given

    def _kinds(self, ops: Sequence[str] | None, rows: Any) -> npt.NDArray[np.int8] | None:
        """Give the kind of each change, None where rows are just rows."""
        if not self._changes:
            if ops is not None:
                raise self._refused(
                    "gave kinds of changes, but does not say that it has them",
                    hint=f"set changelog = (key columns) on {type(self._spec.source).__name__}",
                )
            return None
        if ops is None:
            return np.zeros(len(rows), np.int8)
        if len(ops) != len(rows) or not _KINDS.keys() >= set(ops):
            raise self._refused(
                f"gave {len(ops)} kinds of changes for {len(rows)} rows",
                hint=f"one a row, of {', '.join(OPS)}",
            )
        # A loop over rows: readers tell kinds as texts.
        return np.fromiter(map(_KINDS.__getitem__, ops), np.int8, len(ops))

    def _fitting(
        self, rows: Any, given: Int64s | None, kinds: npt.NDArray[np.int8] | None
    ) -> tuple[Batch, Int64s | None]:
        """Make a batch of rows; those that do not fit the schema are given up."""
        if isinstance(rows, pa.Table):
            rows = _one_record(rows)
        if not isinstance(rows, (list, pa.RecordBatch)):
            raise self._refused(
                f"gave {rows!r:.80}, a {type(rows).__name__}, where rows are expected",
                hint="poll() gives a list of rows, a pa.RecordBatch, a rs.Batch, None or rs.END",
            )
        errors = self._errors
        if not errors.tolerant or not len(rows) or self._lacks(rows):
            return _changing(self._batch(rows), kinds), given
        parts, failures = by_halves(
            len(rows), lambda start, count: self._batch(_slice(rows, start, count))
        )
        lost = [place for place, _ in failures]
        for place, error in failures:
            raw = rows[place] if isinstance(rows, list) else row_of(Columns(rows.slice(place, 1)))
            # Other than one a row, as it may be: then it is refused further down.
            timed = given is not None and len(given) == len(rows)
            errors.reject(error, raw, time_of(given, place) if timed else None)
        kept = without(len(rows), lost)
        if given is not None and kept is not None and len(given) == len(rows):
            given = given[kept]
        if kinds is not None and kept is not None:
            kinds = kinds[kept]
        fitting = concat(parts) if parts else self._batch(_slice(rows, 0, 0))
        return _changing(fitting, kinds), given

    def _lacks(self, rows: list[Any] | pa.RecordBatch) -> bool:
        """Tell whether columns are missing, which is no fault of a row."""
        if self._visible is None or isinstance(rows, list):
            return False
        return not set(self._visible.names) <= set(rows.schema.names)

    def _batch(self, rows: list[Any] | pa.RecordBatch) -> Batch:
        if self._visible is None:
            return Objects(rows if isinstance(rows, list) else rows.to_pylist())
        if isinstance(rows, list):
            return self._columns(rows, self._visible)
        if rows.schema.equals(self._visible):
            return Columns(rows)
        try:
            return Columns(self._fit(rows, self._visible))
        except pa.ArrowException as error:
            raise self._refused(f"gave rows that do not fit its schema: {error}") from error

    def _columns(self, rows: list[Any], schema: pa.Schema) -> Columns:
        try:
            return to_columns(rows, schema, None, operator=self._spec.name, where=self._spec.where)
        except UserFunctionError as error:
            raise self._refused(
                f"gave rows that do not fit its schema: {error.message}", hint=error.hint
            ) from error

    def _refused(self, problem: str, *, hint: str | None = None) -> SourceError:
        return SourceError(
            f'source "{self._spec.name}" {problem}',
            where=self._spec.where,
            hint=hint or "the source's schema and what its readers give must agree",
        )

    def _fit(self, record: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        missing = [name for name in schema.names if name not in record.schema.names]
        if missing:
            raise self._refused(
                f"gave rows without {', '.join(missing)}; "
                f"they have {', '.join(record.schema.names)}"
            )
        return normal_record(record.select(schema.names), schema)


def _changing(batch: Batch, kinds: npt.NDArray[np.int8] | None) -> Batch:
    if kinds is None:
        return batch
    assert isinstance(batch, Columns), "a changelog has columns"
    return with_ops(batch, kinds)


def _slice(rows: Any, start: int, count: int) -> Any:
    return rows[start : start + count] if isinstance(rows, list) else rows.slice(start, count)


def _one_record(table: pa.Table) -> pa.RecordBatch:
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
