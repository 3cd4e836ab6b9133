"""Read the columns that a call names or computes, and check them against the stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals.stable.v2 as nw
import pyarrow as pa

from raystream.api.checks import is_text
from raystream.errors import PlanError
from raystream.flow.batch import EVENT_TIME
from raystream.flow.changes import OP
from raystream.flow.normal import normal_schema
from raystream.graph.logical import LogicalNode, StreamType, label
from raystream.operators.expressions import (
    infer_types,
    output_name,
    reads_event_time,
    to_expr,
    unknown_column,
)


class StreamColumns:
    """The columns of one stream, for the checks of one call at one line of the script."""

    def __init__(self, node: LogicalNode, verb: str, where: str) -> None:
        self.type = node.type
        self.verb = verb
        self.where = where
        self.stream = label(node)

    @property
    def schema(self) -> pa.Schema:
        """The schema of a columnar stream.

        Raises: PlanError on an object stream.
        """
        if self.type.schema is None:
            raise self.error(
                f'{self.verb}() needs columns, and stream "{self.stream}" carries objects',
                hint="give schema= where the objects are made, or call with_schema(schema) before",
            )
        return self.type.schema

    def error(self, message: str, hint: str | None = None) -> PlanError:
        return PlanError(message, where=self.where, hint=hint)

    def check(self, name: str) -> str:
        """Refuse a column that the stream has not.

        Raises: PlanError with the columns there are, and the one that was probably meant.
        """
        if name not in self.schema.names:
            raise unknown_column(name, self.schema, self.where, self.stream)
        return name

    def check_all(self, names: Iterable[str]) -> None:
        for name in names:
            if not isinstance(name, str):
                raise self.error(f"{self.verb}() takes names of columns, got {name!r:.80}")
            self.check(name)

    def types(self, exprs: Mapping[str, nw.Expr]) -> dict[str, pa.DataType]:
        """Give the types of computed columns; each is tried on a probe first."""
        if not exprs:
            return {}
        return infer_types(self.schema, self.type.timed, dict(exprs), self.where, self.stream)

    def type_of(self, name: str) -> pa.DataType:
        return self.schema.field(name).type

    def named(
        self, columns: Sequence[Any], exprs: Mapping[str, Any]
    ) -> tuple[tuple[str, nw.Expr | None], ...]:
        """Read ``(*columns, **exprs)``: names with the expressions that make them; None: as it is.

        Raises: PlanError for an unknown column, or a name that comes twice.
        """
        chosen: dict[str, nw.Expr | None] = {}
        for column in columns:
            for name, expr in self._positional(column):
                self._take(chosen, name, expr)
        for name, value in exprs.items():
            self._take(chosen, name, self.expression(value))
        return tuple(chosen.items())

    def expression(self, value: Any) -> nw.Expr:
        """Read a value that stands for a column: a name, an expression, or a literal."""
        if isinstance(value, str):
            self.check(value)
        elif callable(value) and not is_expression(value):
            raise self.error(
                f"{self.verb}() takes columns and expressions, not the function "
                f"{getattr(value, '__name__', value)!r}",
                hint="map() and filter() call functions of a row",
            )
        elif type(value).__name__ in {"Expr", "Expression"} and not is_expression(value):
            raise self.error(
                f"{self.verb}() takes expressions of rs.col and narwhals.stable.v2, got one of "
                f"{type(value).__module__}",
                hint="import narwhals.stable.v2 as nw, or use rs.col, rs.lit, rs.when",
            )
        return self._of_rows(to_expr(value))

    def _of_rows(self, expr: nw.Expr) -> nw.Expr:
        """Refuse an expression that would tell changes apart by the time at which they came.

        Raises: PlanError.
        """
        if self.type.changelog is not None and reads_event_time(expr):
            raise self.error(
                f'{self.verb}(): event_time() in "{self.stream}", a changelog, is the time of each '
                "change: what takes a row back comes later than the row, and would not equal it",
                hint="make event time a column before the rows become a table, take "
                'rs.last(rs.event_time()) in the aggregate, or make rows of it: to_rows(op="op")',
            )
        return expr

    def _positional(self, column: Any) -> list[tuple[str, nw.Expr | None]]:
        if isinstance(column, str):
            return [(self.check(column), None)]
        if not is_expression(column):
            raise self.error(
                f"{self.verb}() takes names and expressions, got {column!r:.80}",
                hint="a computed column is named: name=expression",
            )
        self._of_rows(column)
        return [
            (output_name(column, self.schema, self.type.timed, self.where, self.stream), column)
        ]

    def _take(self, chosen: dict[str, nw.Expr | None], name: str, expr: nw.Expr | None) -> None:
        check_name(name, self.verb, self.where)
        if name in chosen:
            raise self.error(f'{self.verb}() makes column "{name}" twice')
        chosen[name] = expr


def is_expression(value: Any) -> bool:
    """Tell a column expression from a function, a name or a literal."""
    return isinstance(value, nw.Expr)


def check_name(name: str, verb: str, where: str) -> None:
    """Refuse a column name that the engine keeps for itself."""
    if not is_text(name):
        raise PlanError(f"{verb}(): a column name is a text, got {name!r}", where=where)
    if name in (EVENT_TIME, OP):
        what = "event time" if name == EVENT_TIME else "row kind"
        raise PlanError(f'{verb}(): "{name}" is the name of the hidden {what}', where=where)


def check_schema(schema: Any, verb: str, where: str) -> pa.Schema:
    """Read ``schema=``: a ``pa.Schema``, or names with types.

    Raises: PlanError if it is neither.
    """
    try:
        given = schema if isinstance(schema, pa.Schema) else pa.schema(schema)
    except (TypeError, ValueError, AttributeError) as error:
        raise PlanError(
            f"{verb}(): schema= takes a pa.Schema, got {schema!r:.80}", where=where
        ) from error
    for name in given.names:
        check_name(name, verb, where)
    try:
        return normal_schema(given)
    except PlanError as error:
        raise PlanError(f"{verb}(): {error.message}", where=where, hint=error.hint) from error


def same_type(left: StreamType, right: StreamType) -> str | None:
    """Say how two streams differ; None if they can be one."""
    if (left.schema is None) != (right.schema is None):
        return "one has columns, the other carries objects"
    if left.timed != right.timed:
        return "one has event time, the other has none"
    if left.schema is None or right.schema is None or left.schema.equals(right.schema):
        return None
    ours = {field.name: field for field in left.schema}
    theirs = {field.name: field for field in right.schema}
    for name in [*ours, *theirs]:
        if name not in theirs or name not in ours:
            return f'only one has column "{name}"'
        if not ours[name].equals(theirs[name]):
            return (
                f'column "{name}" is {ours[name].type} in one and {theirs[name].type} in the other'
            )
    return f"their columns stand in another order: {', '.join(ours)} and {', '.join(theirs)}"
