"""Bind aggregates to a stream: plain columns for the operators, computed before rows are exchanged.

An expression, and what ``where`` asks for, becomes a hidden column that is null where the row does
not count. So operators know neither expressions nor conditions, and only the columns that are
needed travel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import narwhals.stable.v2 as nw
import pyarrow as pa

from raystream.api.columns import StreamColumns, check_name, is_expression
from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound, result_type
from raystream.errors import PlanError
from raystream.graph.logical import Prepared, StreamType
from raystream.operators.columns import ColumnsSpec, Select

_HIDDEN = "__a"
_ORDERED = ("min", "max", "count_distinct", "approx_count_distinct")
"""Aggregates that compare values, which nested ones cannot be."""

_SINGLE = ("first", "last", "min_by", "max_by", "collect")
"""Aggregates that keep the values of single rows, in an order of the rows."""


@dataclass
class HiddenColumns:
    """What a keyed operator needs of its input: some of its columns, and some computed ones."""

    columns: StreamColumns
    plain: set[str] = field(default_factory=set)
    computed: dict[str, nw.Expr] = field(default_factory=dict)
    types: dict[str, pa.DataType] = field(default_factory=dict)
    _made: dict[tuple[object, int], str] = field(default_factory=dict)
    _conditions: dict[int, nw.Expr] = field(default_factory=dict)
    _alive: list[Any] = field(default_factory=list)

    def take(self, value: Any, condition: Any = None) -> tuple[str, pa.DataType]:
        """Give the column that holds a value, null where the condition is false, and its type."""
        if isinstance(value, str) and condition is None:
            self.plain.add(self.columns.check(value))
            return value, self.columns.type_of(value)
        # Expressions have no equality; the same object asked for twice is computed once.
        known = (value if isinstance(value, str) else id(value), id(condition))
        if known in self._made:
            return self._made[known], self.types[self._made[known]]
        self._alive.extend((value, condition))
        expr = self.columns.expression(value)
        if condition is not None:
            expr = nw.when(self._predicate(condition)).then(expr)
        name = self._made[known] = self._free()
        self.types.update(self.columns.types({name: expr}))
        self.computed[name] = expr
        return name, self.types[name]

    def condition(self, condition: Any) -> str:
        """Give the boolean column that holds a condition."""
        if isinstance(condition, str):
            self._predicate(condition)
        name, kind = self.take(condition)
        if not pa.types.is_boolean(kind):
            raise self._not_boolean(kind)
        return name

    def prepared(self, keys: tuple[str, ...]) -> Prepared | None:
        """Give the step before the exchange; None where the input is what is needed."""
        schema = self.columns.schema
        kept = [name for name in schema.names if name in self.plain or name in keys]
        if not kept and not self.computed:
            kept = schema.names[:1]  # a record without columns does not know how many rows it has
        if not self.computed and len(kept) == len(schema.names):
            return None
        fields = [schema.field(name) for name in kept]
        fields += [pa.field(name, self.types[name]) for name in self.computed]
        names = tuple(field.name for field in fields)
        changelog = None if self.columns.type.changelog is None else names
        made = StreamType(pa.schema(fields), self.columns.type.timed, changelog)
        chosen = [(name, None) for name in kept]
        step = Select((*chosen, *self.computed.items()), self.columns.where)
        return Prepared(ColumnsSpec("select", (step,), made.wire), made)

    def _predicate(self, condition: Any) -> nw.Expr:
        if id(condition) not in self._conditions:
            expr = self.columns.expression(condition)
            (kind,) = self.columns.types({"condition": expr}).values()
            if not pa.types.is_boolean(kind):
                raise self._not_boolean(kind)
            self._conditions[id(condition)] = expr
        return self._conditions[id(condition)]

    def _not_boolean(self, kind: pa.DataType) -> PlanError:
        return self.columns.error(
            f"where() takes a condition, got an expression of {kind}",
            hint='compare something: where(rs.col("delay") > 15)',
        )

    def _free(self) -> str:
        number = len(self.computed)
        names = {*self.columns.schema.names, *self.computed}
        while f"{_HIDDEN}{number}" in names:
            number += 1
        return f"{_HIDDEN}{number}"


def read_aggregates(
    given: Mapping[str, Any], taken: Mapping[str, str], verb: str, where: str
) -> dict[str, Aggregate]:
    """Check the aggregates of a call; ``taken`` says of other output columns what they are.

    Raises: PlanError if there are none, one is none, or a name is taken.
    """
    if not given:
        raise PlanError(
            f"{verb}() has no aggregates", where=where, hint="name them: aggregate(n=rs.count())"
        )
    return {name: _read(name, value, taken, verb, where) for name, value in given.items()}


def _read(name: str, value: Any, taken: Mapping[str, str], verb: str, where: str) -> Aggregate:
    check_name(name, verb, where)
    if name in taken:
        raise PlanError(
            f'{verb}(): the name "{name}" is taken by {taken[name]}',
            where=where,
            hint="call the aggregate something else",
        )
    if isinstance(value, type) and issubclass(value, AggregateFunction):
        value = value()
    if isinstance(value, AggregateFunction):
        if not isinstance(getattr(value, "type", None), pa.DataType):
            raise PlanError(
                f"{verb}({name}=): {type(value).__name__} has no type",
                where=where,
                hint="give the class an attribute type, the Arrow type of its result",
            )
        return Aggregate("function", function=value)
    if not isinstance(value, Aggregate):
        raise PlanError(
            f"{verb}({name}=) takes an aggregate, got {type(value).__name__} {value!r:.60}",
            where=where,
            hint='rs.count(), rs.sum("price"), …',
        )
    return value


def bind(
    hidden: HiddenColumns, aggregates: Mapping[str, Aggregate], *, signed: bool = False
) -> tuple[Bound, ...]:
    """Bind aggregates to a columnar stream; what they need is gathered in ``hidden``.

    With ``signed`` rows take others back, and what keeps single rows must know which ones.
    Raises: PlanError for an unknown column, a function of rows, or a type that does not fit.
    """
    if signed and any(aggregate.kind in _SINGLE for aggregate in aggregates.values()):
        hidden.plain.update(hidden.columns.schema.names)
    return tuple(_bind(hidden, name, aggregate) for name, aggregate in aggregates.items())


def _bind(hidden: HiddenColumns, name: str, aggregate: Aggregate) -> Bound:
    columns = hidden.columns
    for part in (aggregate.column, aggregate.by, aggregate.condition):
        if callable(part) and not is_expression(part):
            raise columns.error(
                f"{name}: a function of the row aggregates objects; this stream has columns",
                hint='name a column, or compute it: rs.sum(rs.col("a") * 2)',
            )
    if aggregate.kind == "function":
        return _bind_function(hidden, name, aggregate)
    value, kind = None, None
    if aggregate.column is not None:
        value, kind = hidden.take(aggregate.column, aggregate.condition)
    elif aggregate.condition is not None:
        value, kind = hidden.take(_ONE, aggregate.condition)
    by, by_type = None, None
    if aggregate.by is not None:
        by, by_type = hidden.take(aggregate.by, aggregate.condition)
    compared = by_type if aggregate.by is not None else kind if aggregate.kind in _ORDERED else None
    if compared is not None and pa.types.is_nested(compared):
        raise columns.error(
            f"{name}: {aggregate.kind}() compares values, and {compared} has no order"
        )
    output = _located(columns, name, lambda: result_type(aggregate, kind))
    return Bound(name, aggregate.kind, output, value, kind, by=by, by_type=by_type, q=aggregate.q)


_ONE = nw.lit(1)


def _bind_function(hidden: HiddenColumns, name: str, aggregate: Aggregate) -> Bound:
    hidden.plain.update(hidden.columns.schema.names)
    condition = None
    if aggregate.condition is not None:
        condition = hidden.condition(aggregate.condition)
    return Bound(
        name,
        "function",
        result_type(aggregate, None),
        function=aggregate.function,
        row_columns=tuple(hidden.columns.schema.names),
        condition=condition,
    )


def check_object_aggregates(columns: StreamColumns, aggregates: Mapping[str, Aggregate]) -> None:
    """Refuse expressions where rows are objects.

    Raises: PlanError naming the aggregate.
    """
    for name, aggregate in aggregates.items():
        for part in (aggregate.column, aggregate.by, aggregate.condition):
            if is_expression(part):
                raise columns.error(
                    f'{name}: stream "{columns.stream}" carries objects, which expressions '
                    "do not read",
                    hint="give a function of the row, or call with_schema(schema) before",
                )


def _located(columns: StreamColumns, name: str, check: Callable[[], pa.DataType]) -> pa.DataType:
    try:
        return check()
    except PlanError as error:
        raise columns.error(f"{name}: {error.message}", hint=error.hint) from error
