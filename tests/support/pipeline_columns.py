"""Random expressions, aggregates and windows, each for us and for Polars.

``made(rs)`` and ``made(pl)`` give the same expression in either's words; what Polars computes is
its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl

import raystream as rs

if TYPE_CHECKING:
    from pipelines import Flow, Pipeline

Made = tuple[Callable[[Any], Any], str]
Names = Callable[..., list[str]]


ROUNDED = "rounded"
"""How columns begin that Polars may have rounded another way: nothing is computed from these."""

_TYPES = {"int": "Int64", "float": "Float64", "str": "String", "bool": "Boolean"}


def kind(dtype: pl.DataType) -> str:
    """Name the kind of a column: int, float, str, bool or time."""
    names = {pl.Int64: "int", pl.Float64: "float", pl.String: "str", pl.Boolean: "bool"}
    return "time" if isinstance(dtype, pl.Datetime) else names.get(type(dtype), "other")


def any_kind(rng: random.Random) -> str:
    return rng.choice(["int", "float", "str", "bool"])


def unique(flow: Flow, name: str) -> bool:
    """Tell whether every row has another value here."""
    if name not in flow.rows.columns:
        return False
    values = flow.rows[name]
    return not values.null_count() and values.n_unique() == len(values)


def expression(rng: random.Random, wanted: str, names: Names, depth: int = 2) -> Made:
    """Give an expression of a kind over the columns that ``names`` gives by kind."""
    columns = names(wanted)
    if depth and rng.random() < 0.75:
        return _compound(rng, wanted, names, depth - 1)
    if columns and rng.random() < 0.85:
        name = rng.choice(columns)
        return (lambda e: e.col(name)), name
    values = {
        "int": rng.randint(-9, 9),
        "float": rng.randint(-9, 9) / 2,
        "str": rng.choice("abz"),
        "bool": rng.random() < 0.5,
    }
    value = values[wanted]
    # A literal alone is one row, and some functions take no literal: it stands beside a column.
    first = names(*_ANY)[0]

    def literal(e: Any) -> Any:
        lit = e.lit(value, getattr(e, _TYPES[wanted]))
        return e.when(e.col(first).is_null()).then(lit).otherwise(lit)

    return literal, repr(value)


def _compound(rng: random.Random, wanted: str, names: Names, depth: int) -> Made:
    def part(of: str) -> Made:
        return expression(rng, of, names, depth)

    made = rng.choice({"int": _int, "float": _float, "str": _str, "bool": _bool}[wanted])
    if rng.random() < 0.15:
        (test, test_text), (yes, yes_text), (no, no_text) = part("bool"), part(wanted), part(wanted)
        return (
            lambda e: e.when(test(e)).then(yes(e)).otherwise(no(e)),
            f"({yes_text} if {test_text} else {no_text})",
        )
    number = rng.randint(1, 9)
    needs, build, text = made
    parts = [part(of) for of in needs]
    return (
        lambda e: build(e, number, *[one(e) for one, _ in parts]),
        text.format(*[said for _, said in parts], n=number),
    )


_int: list[Any] = [
    (("int", "int"), lambda e, n, a, b: a + b, "({} + {})"),
    (("int", "int"), lambda e, n, a, b: a - b, "({} - {})"),
    (("int",), lambda e, n, a: a * 2 - n, "({} * 2 - {n})"),
    (("int",), lambda e, n, a: n - a, "({n} - {})"),
    (("int",), lambda e, n, a: a % n, "({} % {n})"),
    (("int",), lambda e, n, a: a // n, "({} // {n})"),
    (("int",), lambda e, n, a: a.abs(), "abs({})"),
    (("int",), lambda e, n, a: a.fill_null(n), "fill_null({}, {n})"),
    (("int", "int"), lambda e, n, a, b: e.coalesce(a, b), "coalesce({}, {})"),
    (("str",), lambda e, n, a: a.str.len_chars().cast(e.Int64), "len({})"),
    (("bool",), lambda e, n, a: a.cast(e.Int64), "int({})"),
]
_float: list[Any] = [
    (("float", "float"), lambda e, n, a, b: a + b, "({} + {})"),
    (("float", "int"), lambda e, n, a, b: a - b, "({} - {})"),
    (("float",), lambda e, n, a: a * 0.5, "({} * 0.5)"),
    (("int",), lambda e, n, a: a / 4, "({} / 4)"),
    (("float",), lambda e, n, a: -a + n, "(-{} + {n})"),
    (("int",), lambda e, n, a: a.cast(e.Float64), "float({})"),
    (("float",), lambda e, n, a: a.fill_null(0.25), "fill_null({}, 0.25)"),
]
_str: list[Any] = [
    (("str",), lambda e, n, a: a.str.to_uppercase(), "upper({})"),
    (("str", "str"), lambda e, n, a, b: e.concat_str([a, b], separator="-"), "join({}, {})"),
    (("str",), lambda e, n, a: a.fill_null("z"), "fill_null({}, z)"),
    (("str",), lambda e, n, a: a.str.slice(0, 1), "{}[:1]"),
    (("str",), lambda e, n, a: a.str.replace_all("a", "xy", literal=True), "replace({}, a, xy)"),
]
_bool: list[Any] = [
    (("int",), lambda e, n, a: a > n - 5, "({} > {n} - 5)"),
    (("int", "int"), lambda e, n, a, b: a <= b, "({} <= {})"),
    (("float",), lambda e, n, a: a < n, "({} < {n})"),
    (("float", "int"), lambda e, n, a, b: a != b, "({} != {})"),
    (("str",), lambda e, n, a: a == "a", "({} == a)"),
    (("str", "str"), lambda e, n, a, b: a == b, "({} == {})"),
    (("str",), lambda e, n, a: a.is_null(), "is_null({})"),
    (("int",), lambda e, n, a: ~a.is_null(), "not is_null({})"),
    (("int",), lambda e, n, a: a.is_in([n, 0, -n]), "({} in {n}, 0, -{n})"),
    (("int",), lambda e, n, a: a.is_between(-n, n), "({} in -{n}..{n})"),
    (("bool", "bool"), lambda e, n, a, b: a & b, "({} & {})"),
    (("bool", "bool"), lambda e, n, a, b: a | b, "({} | {})"),
    (("bool",), lambda e, n, a: ~a, "not {}"),
    (("str",), lambda e, n, a: a.str.starts_with("c"), "starts_with({}, c)"),
    (("int",), lambda e, n, a: a % 3 > 0, "({} % 3 > 0)"),
]


def row_function(rng: random.Random, flow: Flow) -> Callable[[dict[str, Any]], int]:
    """Give a function of a row, as a user would write it: a number of 0 to 99."""
    name, factor = rng.choice([*flow.of(*_ANY), None]), rng.choice([1, 7])

    def function(row: dict[str, Any]) -> int:
        return sum(str(row.get(name)).encode()) * factor % 100

    return function


# Aggregates ----------------------------------------------------------------------------------

_ANY = ("int", "str", "float", "bool", "time")
_ORDERED = ("int", "str", "float", "time")
_NUMBERS = ("int", "float")
_ROUNDING = ("mean", "stddev", "variance", "p30", "median")


def _sum(c: pl.Expr) -> pl.Expr:
    return pl.when(c.count() > 0).then(c.sum())


_AGGREGATES: list[tuple[tuple[str, ...], Any, Callable[[pl.Expr], pl.Expr], str]] = [
    (_ANY, rs.count, lambda c: c.count().cast(pl.Int64), "count"),
    (_NUMBERS, rs.sum, _sum, "sum"),
    (_NUMBERS, rs.mean, lambda c: c.mean(), "mean"),
    (_ORDERED, rs.min, lambda c: c.min(), "min"),
    (_ORDERED, rs.max, lambda c: c.max(), "max"),
    (_NUMBERS, rs.stddev, lambda c: c.std(), "stddev"),
    (_NUMBERS, rs.variance, lambda c: c.var(), "variance"),
    (_ANY, rs.count_distinct, lambda c: c.drop_nulls().n_unique().cast(pl.Int64), "distinct"),
    (_NUMBERS, lambda c: rs.quantile(c, 0.3), lambda c: c.quantile(0.3, "linear"), "p30"),
    (_NUMBERS, lambda c: rs.quantile(c, 0.5), lambda c: c.median(), "median"),
]


def aggregates(pipeline: Pipeline, flow: Flow) -> dict[str, tuple[Any, pl.Expr]]:
    """Give named aggregates, ours and Polars'."""
    rng, asked = pipeline.rng, {}
    mergeable = rng.random() < 0.6
    for _ in range(rng.randint(1, 4)):
        test = expression(rng, "bool", flow.of) if rng.random() < 0.25 else None
        ours, theirs, text = _aggregate(rng, flow, test, mergeable=mergeable)
        if test is not None:
            ours, text = ours.where(test[0](rs)), f"{text} where {test[1]}"
        name = pipeline.fresh(ROUNDED if text.startswith(_ROUNDING) else "a")
        pipeline.said(f"  {name} = {text}")
        asked[name] = ours, theirs
    return asked


def _aggregate(
    rng: random.Random, flow: Flow, test: Made | None, *, mergeable: bool
) -> tuple[Any, pl.Expr, str]:
    def chosen(column: pl.Expr) -> pl.Expr:
        return column if test is None else column.filter(test[0](pl))

    way = rng.random()
    if way < 0.2:
        rows = pl.len() if test is None else test[0](pl).sum()
        return rs.count(), rows.cast(pl.Int64), "count"
    names = flow.of(*_ANY)
    if way < 0.35 and names and flow.timed and unique(flow, "__t"):
        name, last = rng.choice(names), rng.random() < 0.5
        column = pl.col(name)
        known = column.is_not_null() if test is None else column.is_not_null() & test[0](pl)
        in_order = column.filter(known).sort_by(pl.col("__t").filter(known))
        if last:
            return rs.last(name), in_order.last(), f"last({name})"
        return rs.first(name), in_order.first(), f"first({name})"
    wanted, ours, theirs, text = rng.choice(_AGGREGATES[:6] if mergeable else _AGGREGATES)
    names = flow.of(*wanted)
    if names and rng.random() < 0.7:
        name = rng.choice(names)
        return ours(name), theirs(chosen(pl.col(name))), f"{text}({name})"
    made, said = expression(rng, rng.choice(wanted[:2]), flow.of)
    return ours(made(rs)), theirs(chosen(made(pl))), f"{text}({said})"


# Windows -------------------------------------------------------------------------------------


def window(rng: random.Random) -> rs.Tumbling | rs.Sliding:
    """Give a window of a second to a day; some slide by more than their size."""
    offset = rng.choice([0, 0, "4s", "-1500ms"])
    size = rng.choice(["1s", "7s", "10s", "1d"])
    if size == "1d" or rng.random() < 0.5:
        return rs.Tumbling(size, offset)
    return rs.Sliding(size, rng.choice(["1s", "3s", "5s", "11s"]), offset)


def in_windows(rows: pl.DataFrame, window: rs.Tumbling | rs.Sliding, time: str) -> pl.DataFrame:
    """Repeat each row for each window that it lies in, with the window's start and end."""
    size, slide, offset = window.size_us, window.slide_us, window.offset_us
    starts = []
    for at in rows[time].to_list():
        newest = at - (at - offset) % slide
        starts.append(list(range(newest, at - size, -slide)))
    index = [row for row, each in enumerate(starts) for _ in each]
    flat = pl.Series("window_start", [one for each in starts for one in each], dtype=pl.Int64)
    return rows[index].with_columns(flat, (flat + size).alias("window_end_us"))
