"""Column expressions: narwhals', evaluated on Arrow, and checked while the job is built.

Only what looks at one row at a time is allowed, because where a batch ends is nobody's business.
Each expression is tried on small tables (probing.py): all rows together must give what the rows
give one by one.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
from narwhals.exceptions import ColumnNotFoundError, MultiOutputExpressionError, ShapeError

from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import EVENT_TIME, NO_TIME, visible_names, wire_schema
from raystream.flow.normal import normal_array, normal_type
from raystream.operators import expression_tree
from raystream.operators.guard import attempt, short
from raystream.operators.probing import Probe, probe_record

Expr: TypeAlias = nw.Expr

_ROWS_THAT_TELL: Final = 3
"""Fewer probe rows than this say nothing about whether rows are looked at together."""


def event_time() -> Expr:
    """Give the event time of each row as a ``timestamp[us, UTC]``; null where a row has none."""
    return nw.col(EVENT_TIME).cast(nw.Datetime("us", "UTC"))


def to_expr(value: object) -> Expr:
    """Read what stands where a column is expected: a name, an expression, or else a literal."""
    if isinstance(value, nw.Expr):
        return value
    literal = cast("Any", value)  # narwhals says in its own words what is no literal
    return nw.col(literal) if isinstance(value, str) else nw.lit(literal)


class Evaluator:
    """Computes expressions over records, again and again; their names are prepared once.

    The hidden event time is in reach only if one of them names it, so that ``nw.all()`` means what
    users see.
    """

    def __init__(self, exprs: Mapping[str, Expr]) -> None:
        self.exprs = exprs
        self._aliased = [expr.alias(name) for name, expr in exprs.items()]
        self._timed = any(map(reads_event_time, exprs.values()))

    def evaluate(self, record: pa.RecordBatch) -> list[pa.Array]:
        """Give one array for each expression, also for a literal, in normal types.

        Shapes: record [n] -> arrays [n].
        Raises: whatever narwhals and Arrow raise.
        """
        frame = nw.from_native(pa.Table.from_batches([self.within_reach(record)]), eager_only=True)
        # Not ``select``: literals alone would give one row, whatever the number of rows.
        computed = frame.with_columns(self._aliased).to_native()
        arrays = [_one_chunk(computed.column(name)) for name in self.exprs]
        return [normal_array(array, normal_type(array.type)) for array in arrays]

    def within_reach(self, record: pa.RecordBatch) -> pa.RecordBatch:
        """Give the record as the expressions may see it."""
        names, shown = record.schema.names, visible_names(record.schema)
        if len(shown) == len(names):
            return record
        if self._timed and names[-1] == EVENT_TIME:
            shown.append(EVENT_TIME)
            return _nullable_time(record if shown == names else record.select(shown))
        return record.select(shown)


def failure(
    error: Exception,
    record: pa.RecordBatch,
    evaluator: Evaluator,
    *,
    operator: str,
    where: str,
) -> UserFunctionError:
    """Say which of the expressions failed at run time, and on which row."""
    exprs = evaluator.exprs
    rows = evaluator.within_reach(record)
    name, expr = next(
        ((n, e) for n, e in exprs.items() if isinstance(_try(rows, e), Exception)),
        next(iter(exprs.items())),
    )
    while rows.num_rows > 1:
        half = rows.num_rows // 2
        first, second = rows.slice(0, half), rows.slice(half)
        rows = first if isinstance(_try(first, expr), Exception) else second
    alone = _try(rows, expr)
    shown = [column for column in rows.schema.names if column != EVENT_TIME]
    row = short(rows.select(shown).to_pylist()[0]) if isinstance(alone, Exception) else None
    failed = UserFunctionError(
        f'{operator}: "{name}" = {expression_tree.text(expr)} failed: {_message(error)}'
        + (f"\n  row: {row}" if row else ""),
        operator=operator,
        row=row,
        hint=_hint(_message(error)),
        where=where or None,
    )
    failed.__cause__ = error
    return failed


def infer_types(
    schema: pa.Schema, timed: bool, exprs: Mapping[str, Expr], where: str, stream: str
) -> dict[str, pa.DataType]:
    """Give the types of expressions over a stream with these visible columns.

    Raises: PlanError for a column that is not there, an expression that is not row-wise, several
    columns in one expression, or types that do not go together.
    """
    types: dict[str, pa.DataType] = {}
    for name, expr in exprs.items():
        checked = _Checked(expr, schema, timed, where, stream)
        types[name] = checked.infer()
    return types


def columns_used(expr: Expr, schema: pa.Schema, timed: bool) -> set[str]:
    """Name the columns that an expression reads, ``__ts`` among them if it reads event time.

    Where that cannot be told (``nw.all()``, a selector) it is all visible columns.
    """
    time = {EVENT_TIME} if timed and reads_event_time(expr) else set()
    wire = wire_schema(schema, timed=bool(time))
    calm = _calm_record(expr, wire)
    if calm is None or expression_tree.names_all(expr):
        return time | set(schema.names)
    return _missed(expr, calm)


def quick_types(
    schema: pa.Schema, timed: bool, exprs: Mapping[str, Expr]
) -> dict[str, pa.DataType]:
    """Give the types of expressions that ``infer_types`` has passed, without the checks.

    One that reads a column which is not there any more, because nobody wants what it makes, has
    the type null.
    """
    types = {}
    for name, expr in exprs.items():
        wire = wire_schema(schema, timed=timed and reads_event_time(expr))
        calm = _calm_record(expr, wire)
        types[name] = pa.null() if calm is None else _try(calm, expr).type
    return types


def reads_event_time(expr: Expr) -> bool:
    """Tell whether an expression reads the hidden event time."""
    return EVENT_TIME in repr(expr)


def output_name(expr: Expr, schema: pa.Schema, timed: bool, where: str, stream: str) -> str:
    """Name the column that an expression without a keyword makes.

    Raises: PlanError if it makes several, or reads a column that is not there.
    """
    checked = _Checked(expr, schema, timed, where, stream)
    record = probe_record(wire_schema(schema, timed=timed and reads_event_time(expr)), Probe.NULLS)
    frame = nw.from_native(pa.Table.from_batches([record]), eager_only=True)
    table = attempt(lambda: frame.select(expr).to_native())
    if isinstance(table, Exception):
        raise checked.refused(table)
    if table.num_columns != 1:
        raise checked.several()
    name: str = table.column_names[0]
    return name


@dataclass(frozen=True, slots=True)
class _Checked:
    """One expression on its way through the checks, with what its errors need."""

    expr: Expr
    schema: pa.Schema
    timed: bool
    where: str
    stream: str

    def infer(self) -> pa.DataType:
        culprit = expression_tree.not_row_wise(self.expr)
        if culprit is not None:
            raise self.not_row_wise(f"{culprit} looks at other rows")
        wire = wire_schema(self.schema, timed=self.timed)
        error: Exception | None = None
        # Not the empty one: over no rows much passes that fails over any.
        for probe in (Probe.ORDINARY, Probe.TAME, Probe.DATES, Probe.TIMES, Probe.NULLS):
            result = self.try_probe(probe_record(wire, probe), probe)
            if not isinstance(result, Exception):
                return result
            error = result
        assert error is not None, "there are probes"
        raise self.refused(error)

    def try_probe(self, record: pa.RecordBatch, probe: Probe) -> pa.DataType | Exception:
        """Evaluate row by row and together: a type, or why too few rows have one."""
        alone = [_try(record.slice(row, 1), self.expr) for row in range(record.num_rows)]
        errors = [result for result in alone if isinstance(result, Exception)]
        for error in errors:
            self.stop_if_definite(error)
        enough = record.num_rows if probe is Probe.NULLS else _ROWS_THAT_TELL
        if record.num_rows - len(errors) < enough:
            return errors[0]
        passed = [row for row, one in enumerate(alone) if not isinstance(one, Exception)]
        rows = record.take(pa.array(passed, pa.int64()))
        together = _try(rows, self.expr)
        if isinstance(together, Exception):
            self.stop_if_definite(together)
            reason = f"over several rows it fails: {_message(together)}"
            raise self.not_row_wise(reason) from together
        self.compare(together, [alone[row] for row in passed], rows)
        return together.type

    def compare(self, together: pa.Array, singles: list[Any], record: pa.RecordBatch) -> None:
        for row, (whole, single) in enumerate(zip(together, singles, strict=True)):
            if together.type != single.type or not _same(whole.as_py(), single[0].as_py()):
                alone, among = single[0].as_py(), whole.as_py()
                raise self.not_row_wise(
                    f"for the row {short(record.slice(row, 1).to_pylist()[0])} it gives {alone!r} "
                    f"alone and {among!r} among others"
                )

    def stop_if_definite(self, error: Exception) -> None:
        """Raise what no other value can cure."""
        if isinstance(error, ShapeError):
            raise self.not_row_wise(f"it changes the number of rows: {_message(error)}")
        text = str(error).lower()
        if isinstance(error, (ColumnNotFoundError, MultiOutputExpressionError)) or (
            "regular expression" in text or "regex" in text
        ):
            raise self.refused(error)

    def refused(self, error: Exception) -> PlanError:
        if isinstance(error, ColumnNotFoundError):
            named = re.search(r"\[['\"](.*?)['\"]", str(error))
            return unknown_column(
                named.group(1) if named else "?", self.schema, self.where, self.stream
            )
        if isinstance(error, MultiOutputExpressionError):
            return self.several()
        return PlanError(
            f"{expression_tree.text(self.expr)} cannot be computed over stream "
            f'"{self.stream}": {_message(error)}',
            hint=self.types_of_columns(),
            where=self.where or None,
        )

    def types_of_columns(self) -> str | None:
        used = _missed(self.expr, probe_record(self.schema, Probe.EMPTY))
        named = [f'"{field.name}" is {field.type}' for field in self.schema if field.name in used]
        return ", ".join(named) or None

    def several(self) -> PlanError:
        return PlanError(
            f"{expression_tree.text(self.expr)} makes several columns where one is expected",
            hint="write one expression for each",
            where=self.where or None,
        )

    def not_row_wise(self, reason: str) -> PlanError:
        return PlanError(
            f"{expression_tree.text(self.expr)} is not row-wise: {reason}",
            hint="expressions see one row at a time, because batches may end anywhere; use "
            "key_by().aggregate() or a window for what spans rows",
            where=self.where or None,
        )


def unknown_column(name: str, schema: pa.Schema, where: str, stream: str) -> PlanError:
    """Say that a column is not there, what is, and what may have been meant."""
    if name == EVENT_TIME:
        return PlanError(
            f'stream "{stream}" has no event time',
            hint="give its source a watermark strategy, or call assign_timestamps()",
            where=where or None,
        )
    names = list(schema.names)
    close = difflib.get_close_matches(name, names, 1)
    meant = f' Did you mean "{close[0]}"?' if close else ""
    return PlanError(
        f'column "{name}" not found in stream "{stream}". Available: {", ".join(names)}.{meant}',
        where=where or None,
    )


def _calm_record(expr: Expr, wire: pa.Schema) -> pa.RecordBatch | None:
    """Find a small record over which a valid expression does not fail."""
    for probe in (Probe.EMPTY, Probe.NULLS, Probe.TAME, Probe.ORDINARY):
        record = probe_record(wire, probe)
        for rows in (record, record.slice(0, 1)):
            if not isinstance(_try(rows, expr), Exception):
                return rows
    return None


def _try(record: pa.RecordBatch, expr: Expr) -> Any:
    """Give the array of an expression over a record, or the exception it raises."""
    return attempt(lambda: Evaluator({"value": expr}).evaluate(record)[0])


def _missed(expr: Expr, record: pa.RecordBatch) -> set[str]:
    # Leave out one column at a time: what misses it says so.
    names = record.schema.names
    others = {name: [other for other in names if other != name] for name in names}
    return {
        name
        for name, rest in others.items()
        if isinstance(_try(record.select(rest), expr), ColumnNotFoundError)
    }


def _nullable_time(record: pa.RecordBatch) -> pa.RecordBatch:
    times = record.column(record.num_columns - 1).to_numpy(zero_copy_only=False)
    if not len(times) or times.min() != NO_TIME:
        return record
    nulled = pa.array(times, pa.int64(), mask=times == NO_TIME)
    columns = [*record.columns[:-1], nulled]
    return pa.RecordBatch.from_arrays(columns, names=record.schema.names)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _hint(message: str) -> str | None:
    if str(2**53) in message:
        return "beside a float an integer must be within 2**53 of 0; x / 1 is a float of any int64"
    return None


def _message(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(np.all(a == b))
