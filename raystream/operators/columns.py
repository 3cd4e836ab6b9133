"""select, with_columns, filter, drop and rename: one operator for a run of these.

An expression costs about 100 microseconds a batch whatever the size of the batch, so that a run of
steps is worth being one operator. Expressions go through narwhals; which columns stay, under which
names, is Arrow's business and costs nothing. A filter takes only the columns that later steps of
the run still need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.errors import PlanError
from raystream.flow.batch import EVENT_TIME, Batch, Columns, visible_schema
from raystream.flow.changes import OP, OP_FIELD, kept_ops
from raystream.flow.element import Watermark
from raystream.flow.normal import normal_array
from raystream.operators.expression_tree import text
from raystream.operators.expressions import (
    Evaluator,
    Expr,
    columns_used,
    failure,
    infer_types,
    quick_types,
    unknown_column,
)
from raystream.operators.guard import attempt
from raystream.operators.operator import Operator
from raystream.operators.rejecting import compute_batch


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """Exactly these columns: by name, or computed (an expression beside the name)."""

    columns: tuple[tuple[str, Expr | None], ...]
    where: str = ""

    def __str__(self) -> str:
        return ", ".join(_assigned(name, expr) for name, expr in self.columns)


@dataclass(frozen=True, slots=True, eq=False)
class WithColumns:
    """All columns, and these besides; one of a name that is taken replaces it in place."""

    exprs: tuple[tuple[str, Expr], ...]
    where: str = ""

    def __str__(self) -> str:
        return ", ".join(_assigned(name, expr) for name, expr in self.exprs)


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """The rows for which the predicate is true; not those for which it is null.

    Of an update in a changelog that passes in part, what passes is an insert or a delete.
    """

    predicate: Expr
    where: str = ""

    def __str__(self) -> str:
        return text(self.predicate)


@dataclass(frozen=True, slots=True, eq=False)
class Drop:
    """All columns but these."""

    names: tuple[str, ...]
    where: str = ""

    def __str__(self) -> str:
        return ", ".join(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Rename:
    """All columns, some under new names: pairs of old and new."""

    names: tuple[tuple[str, str], ...]
    where: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{old} as {new}" for old, new in self.names)


Step: TypeAlias = Select | WithColumns | Filter | Drop | Rename

_VERBS = {
    Select: "select",
    WithColumns: "with_columns",
    Filter: "filter",
    Drop: "drop",
    Rename: "rename",
}


@dataclass(frozen=True, slots=True, eq=False)
class ColumnsSpec:
    """A run of steps; ``output`` is the schema of the wire behind the last one."""

    verb: str
    steps: tuple[Step, ...]
    output: pa.Schema

    def describe(self) -> str:
        first, *others = self.steps
        later = (f" \u2192 {_VERBS[type(step)]} {step}" for step in others)
        return str(first) + "".join(later)

    def build(self) -> ColumnsOperator:
        return ColumnsOperator(self)


def fuse(first: ColumnsSpec, second: ColumnsSpec) -> ColumnsSpec:
    """Make one operator of two that follow each other."""
    return ColumnsSpec(first.verb, first.steps + second.steps, second.output)


def output_schema(schema: pa.Schema, timed: bool, step: Step, where: str, stream: str) -> pa.Schema:
    """Give the visible columns behind a step, and check the step on the way.

    Raises: PlanError for an unknown, doubled or hidden column, for an expression that cannot be
    computed or is not row-wise, for a predicate that is not boolean.
    """
    for name in _names_read(step):
        if name not in schema.names or name in (EVENT_TIME, OP):
            raise unknown_column(name, schema, where, stream)
    exprs = _exprs(step)
    types = infer_types(schema, timed, exprs, where, stream)
    if isinstance(step, Filter):
        kind = types["predicate"]
        if not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise PlanError(
                f"filter() takes a boolean expression; {text(step.predicate)} is {kind}",
                where=where or None,
            )
        return schema
    behind = _schema_behind(schema, step, types)
    _check_names(behind.names, where)
    return behind


def required_columns(
    steps: Sequence[Step], input_schema: pa.Schema, timed: bool, needed: set[str] | None
) -> set[str]:
    """Name the visible input columns that a run of steps reads to give ``needed`` (None: all).

    ``__op`` and ``__ts`` are never among them: they always travel.
    """
    return set(_plan_needs(steps, input_schema, timed, needed)[0])


def names_behind(step: Step, names: Sequence[str]) -> tuple[str, ...] | None:
    """Give the names that columns have behind a step; None where one is lost, or made anew."""
    match step:
        case Filter():
            return tuple(names)
        case Rename(pairs):
            new_of = dict(pairs)
            return tuple(new_of.get(name, name) for name in names)
        case Select(columns):
            kept = {name for name, expr in columns if expr is None}.issuperset(names)
        case Drop(dropped):
            kept = not set(dropped) & set(names)
        case WithColumns(exprs):
            kept = not {name for name, _ in exprs} & set(names)
    return tuple(names) if kept else None


class ColumnsOperator(Operator):
    """Runs the steps over each batch; a batch that loses all its rows ends there."""

    def __init__(self, spec: ColumnsSpec) -> None:
        self._spec = spec
        self._operator = spec.verb
        self._where = ""
        self._errors = Rejects()
        self._input: pa.Schema | None = None
        self._program: list[tuple[Step, Evaluator, list[str]]] = []

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors
        self._operator, self._where = ctx.operator, ctx.where

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Columns), "columns in, columns out"
        record = batch.record
        if self._input is None or not record.schema.equals(self._input):
            self._prepare(record.schema)
        made = compute_batch(batch, self._through, self._errors)
        parts = [part for part in made if part is not None]
        if parts:
            yield Columns(parts[0] if len(parts) == 1 else pa.concat_batches(parts))

    def _through(self, batch: Batch) -> pa.RecordBatch | None:
        """Take rows through all steps; None where none is left."""
        assert isinstance(batch, Columns), "columns in, columns out"
        record = batch.record
        for step, evaluator, needed in self._program:
            # An empty batch never meets an expression: over no rows some behave otherwise.
            if record.num_rows == 0:
                return None
            record = self._run(step, evaluator, record, needed)
        return _conform(record, self._spec.output) if record.num_rows else None

    def _prepare(self, schema: pa.Schema) -> None:
        """Find out which columns each step must give, once for a schema."""
        names = schema.names
        timed = bool(names) and names[-1] == EVENT_TIME
        visible = visible_schema(schema)
        hidden = names[len(visible) :]
        needs = _plan_needs(self._spec.steps, visible, timed, None)[1:]
        self._program = []
        for step, need in zip(self._spec.steps, needs, strict=True):
            exprs = _exprs(step)
            if not isinstance(step, Filter):
                exprs = {name: expr for name, expr in exprs.items() if name in need}
            self._program.append((step, Evaluator(exprs), need + hidden))
        self._input = schema

    def _run(
        self, step: Step, evaluator: Evaluator, record: pa.RecordBatch, needed: list[str]
    ) -> pa.RecordBatch:
        if isinstance(step, Rename):
            old_of = {new: old for old, new in step.names}
            arrays = [record.column(old_of.get(name, name)) for name in needed]
            return pa.RecordBatch.from_arrays(arrays, names=needed)
        if not evaluator.exprs:
            return record.select(needed)
        results = attempt(lambda: evaluator.evaluate(record))
        if isinstance(results, Exception):
            where = step.where or self._where
            raise failure(results, record, evaluator, operator=self._operator, where=where)
        if isinstance(step, Filter):
            mask = results[0]
            mask = mask if pa.types.is_boolean(mask.type) else mask.cast(pa.bool_())
            kept = record.select(needed)
            return (_settled(kept, mask) if OP in needed else kept).filter(mask)
        computed = dict(zip(evaluator.exprs, results, strict=True))
        arrays = [computed[name] if name in computed else record.column(name) for name in needed]
        return pa.RecordBatch.from_arrays(arrays, names=needed)


def _settled(record: pa.RecordBatch, mask: pa.Array) -> pa.RecordBatch:
    """Let no update be half told by the rows that a filter leaves."""
    place = record.schema.get_field_index(OP)
    ops = record.column(place).to_numpy()
    kept = kept_ops(ops, mask.fill_null(False).to_numpy(zero_copy_only=False))
    return record if kept is ops else record.set_column(place, OP_FIELD, pa.array(kept))


def _assigned(name: str, expr: Expr | None) -> str:
    written = name if expr is None else text(expr)
    return written if written == name else f"{name}={written}"


def _exprs(step: Step) -> dict[str, Expr]:
    if isinstance(step, Select):
        return {name: expr for name, expr in step.columns if expr is not None}
    if isinstance(step, WithColumns):
        return dict(step.exprs)
    return {"predicate": step.predicate} if isinstance(step, Filter) else {}


def _names_read(step: Step) -> list[str]:
    """Name the columns that a step calls by name."""
    if isinstance(step, Select):
        return [name for name, expr in step.columns if expr is None]
    if isinstance(step, Rename):
        return [old for old, _ in step.names]
    return list(step.names) if isinstance(step, Drop) else []


def _schema_behind(schema: pa.Schema, step: Step, types: Mapping[str, pa.DataType]) -> pa.Schema:
    if isinstance(step, Select):
        return pa.schema(
            [
                schema.field(name) if expr is None else pa.field(name, types[name])
                for name, expr in step.columns
                if expr is not None or name in schema.names
            ]
        )
    if isinstance(step, WithColumns):
        fields = {field.name: field for field in schema}
        fields.update({name: pa.field(name, types[name]) for name, _ in step.exprs})
        return pa.schema(list(fields.values()))
    if isinstance(step, Drop):
        return pa.schema([field for field in schema if field.name not in step.names])
    if isinstance(step, Rename):
        new_of = dict(step.names)
        return pa.schema([field.with_name(new_of.get(field.name, field.name)) for field in schema])
    return schema


def _check_names(names: list[str], where: str) -> None:
    for hidden, what in ((EVENT_TIME, "event time"), (OP, "row kind")):
        if hidden in names:
            raise PlanError(
                f'"{hidden}" is the name of the hidden {what}; no column may have it',
                where=where or None,
            )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise PlanError(f'column "{twice[0]}" comes twice', where=where or None)
    if not names:
        raise PlanError("no column is left", where=where or None)


def _plan_needs(
    steps: Sequence[Step], schema: pa.Schema, timed: bool, needed: set[str] | None
) -> list[list[str]]:
    """Give what the input must have, then what each step must give; hidden columns left out.

    Shapes: one list of names more than there are steps, each in the order of its schema.
    """
    schemas = [schema]
    for step in steps:
        types = quick_types(schemas[-1], timed, _exprs(step))
        schemas.append(_schema_behind(schemas[-1], step, types))
    wanted = set(schemas[-1].names) if needed is None else needed
    needs = [_ordered(wanted, schemas[-1])]
    for step, before in zip(reversed(steps), reversed(schemas[:-1]), strict=True):
        wanted = _read_for(step, set(needs[-1]), before, timed)
        needs.append(_ordered(wanted, before))
    needs.reverse()
    return needs


def _ordered(wanted: set[str], schema: pa.Schema) -> list[str]:
    # One column at least: a record without columns does not know how many rows it has.
    return [name for name in schema.names if name in wanted] or schema.names[:1]


def _read_for(step: Step, wanted: set[str], before: pa.Schema, timed: bool) -> set[str]:
    """Name the columns that a step reads to give those ``wanted`` of it."""
    if isinstance(step, Rename):
        old_of = {new: old for old, new in step.names}
        return {old_of.get(name, name) for name in wanted}
    read = _exprs(step)
    if isinstance(step, Filter):
        return wanted | columns_used(step.predicate, before, timed)
    used = [columns_used(expr, before, timed) for name, expr in read.items() if name in wanted]
    return (wanted - set(read)).union(*used)


def _conform(record: pa.RecordBatch, output: pa.Schema) -> pa.RecordBatch:
    """Give the record the declared schema: a computed column may differ in its type.

    One that replaces a column that the source need not read stands at another place, too.
    """
    assert record.num_columns == len(output), "every column that was declared, and no other"
    arrays = [normal_array(record.column(field.name), field.type) for field in output]
    return pa.RecordBatch.from_arrays(arrays, schema=output)
