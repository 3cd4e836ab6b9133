"""What fits together in a join: keys of the same kind, and columns with names of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa

from raystream.api.checks import is_text
from raystream.api.columns import StreamColumns
from raystream.contracts.window_lengths import LENGTH_US_MAX
from raystream.errors import ConfigError, PlanError
from raystream.flow.batch import wire_schema
from raystream.flow.key import check_key_type, key_kind, plain_type
from raystream.flow.time import micros
from raystream.operators.join_plan import HOWS, JoinPlan


def key_names(
    left: StreamColumns, right: StreamColumns, on: Any, left_on: Any, right_on: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read on= or left_on= and right_on=: the key columns of the left and of the right.

    Raises: PlanError if there are none, too many, or columns that are not there.
    """
    verb = left.verb
    if on is not None:
        if left_on is not None or right_on is not None:
            raise left.error(f"{verb}() takes on=, or left_on= and right_on=, not both")
        left_on = right_on = on
    if left_on is None or right_on is None:
        raise left.error(
            f"{verb}() has no key",
            hint='on="id" where both streams call it so, else left_on="seller", right_on="id"',
        )
    names = _names(left, left_on), _names(right, right_on)
    if len(names[0]) != len(names[1]):
        raise left.error(
            f"{verb}(): left_on= names {len(names[0])} columns, right_on= {len(names[1])}",
            hint="each key column of the left is compared with the one of the right at its place",
        )
    return names


def join_plan(
    left: StreamColumns,
    right: StreamColumns,
    keys: tuple[tuple[str, ...], tuple[str, ...]],
    how: str,
    suffix: Any,
    *,
    timed: bool,
    changes: bool = False,
) -> JoinPlan:
    """Say what a join's rows look like, and whether they have event time and kinds.

    Raises: PlanError for keys of different kinds, and for columns of one name.
    """
    left_keys, right_keys = keys
    types = tuple(
        _shared_type(left, one, right, other)
        for one, other in zip(left_keys, right_keys, strict=True)
    )
    only_left = how in ("semi", "anti")
    kept = () if only_left else _kept(left, right, right_keys, suffix)
    fields = list(left.schema)
    if how in ("right", "full"):
        # The key of a row that only the right has stands under the left's name.
        wide = dict(zip(left_keys, types, strict=True))
        fields = [pa.field(one.name, wide.get(one.name, one.type)) for one in fields]
    for name, output in kept:
        field = right.schema.field(name).with_name(output)
        fields.append(field.with_nullable(True) if how in ("left", "full") else field)
    schema = wire_schema(pa.schema(fields), timed=timed, changes=changes)
    wires = left.type.wire, right.type.wire
    assert wires[0] is not None, "checked: the left has columns"
    assert wires[1] is not None, "checked: the right has columns"
    return JoinPlan(how, wires[0], wires[1], left_keys, right_keys, types, kept, schema)


def check_how(columns: StreamColumns, how: Any, valid: tuple[str, ...] = HOWS) -> str:
    """Refuse a kind of join that there is not.

    Raises: PlanError.
    """
    if how not in valid:
        raise columns.error(f"{columns.verb}(): how is one of {', '.join(valid)}, got {how!r:.60}")
    return str(how)


def check_timed(columns: StreamColumns, way: str) -> None:
    """Refuse a stream without event time where a join goes by it, and changes of a table.

    Raises: PlanError.
    """
    if columns.type.changelog is not None:
        raise columns.error(
            f'{columns.verb}({way}) cannot take "{columns.stream}", a changelog: what it has given '
            "stays, and changes take rows back",
            hint='join(ttl="forever") joins tables as they change; to_rows(op="op") makes each '
            "change a plain row with its kind in a column",
        )
    if not columns.type.timed:
        raise columns.error(
            f'{columns.verb}({way}) goes by event time, and "{columns.stream}" has none',
            hint='job.source(…, watermark=rs.WatermarkStrategy("time")), or assign_timestamps(…); '
            'ttl="1h" keeps rows by the time at which they came',
        )


def interval(columns: StreamColumns, within: Any) -> tuple[int, int]:
    """Read within=: by how much the right's event time may lie before and behind the left's.

    Units: microseconds, the lower one first.
    Raises: PlanError if it is no pair of durations, or they are the wrong way round.
    """
    verb, hint = columns.verb, 'within=("-1h", "10m"): from an hour before to ten minutes behind'
    if not isinstance(within, (tuple, list)) or len(within) != 2:
        raise columns.error(
            f"{verb}(): within is a pair of durations, got {within!r:.60}", hint=hint
        )
    bounds_us: list[int] = []
    for bound in within:
        if not isinstance(bound, (str, timedelta)) and not hasattr(bound, "__index__"):
            raise columns.error(
                f"{verb}(): within is a pair of durations, and {bound!r:.60} is none", hint=hint
            )
        try:
            bound_us = micros(bound)
        except ConfigError as error:
            raise columns.error(f"{verb}(within=): {error.message}", hint=error.hint) from error
        if abs(bound_us) > LENGTH_US_MAX:
            raise columns.error(f"{verb}(within=) is longer than 70,000 years: {bound!r}")
        bounds_us.append(bound_us)
    lower_us, upper_us = bounds_us
    if lower_us > upper_us:
        low, high = within
        raise columns.error(
            f"{verb}(): bounds the wrong way round: within=(lo, hi), got {within!r:.80}",
            hint=f"write within=({high!r}, {low!r}): lo <= right - left <= hi",
        )
    return lower_us, upper_us


def check_key(columns: StreamColumns, name: str) -> None:
    """Refuse a column that cannot be a key.

    Raises: PlanError.
    """
    try:
        check_key_type(columns.type_of(name))
    except PlanError as error:
        raise columns.error(f'key "{name}": {error.message}', hint=error.hint) from error


def _names(columns: StreamColumns, given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not names or not all(map(is_text, names)):
        raise columns.error(
            f"{columns.verb}(): a key is the name of a column, or a list of names, "
            f"got {given!r:.80}",
            hint="with_columns(key=rs.col(…)) makes a column to join on",
        )
    columns.check_all(names)
    if len(set(names)) < len(names):
        raise columns.error(f"{columns.verb}() names a key twice: {', '.join(names)}")
    for name in names:
        check_key(columns, name)
    return tuple(names)


def _shared_type(left: StreamColumns, one: str, right: StreamColumns, other: str) -> pa.DataType:
    """Give the type that holds the keys of both sides.

    Raises: PlanError where no key of one can be a key of the other.
    """
    a, b = plain_type(left.type_of(one)), plain_type(right.type_of(other))
    if a == b:
        return a
    types, kind = pa.types, key_kind(a)
    if kind == key_kind(b):
        wide = types.is_uint64(a) or types.is_uint64(b)
        if kind == "int" and not wide:
            return pa.int64()
        if kind == "float":
            return pa.float64()
        if kind == "timestamp":
            return pa.timestamp("us", "UTC" if a.tz is not None and b.tz is not None else None)
        if kind == "string":
            return pa.string()
    raise left.error(
        f'{left.verb}(): key "{one}" of "{left.stream}" is {a}, "{other}" of "{right.stream}" is '
        f"{b}: no row would meet another",
        hint=f"make them one type: with_columns({other}=rs.col({other!r}).cast(…))",
    )


def _kept(
    left: StreamColumns, right: StreamColumns, right_keys: tuple[str, ...], suffix: Any
) -> tuple[tuple[str, str], ...]:
    """Name the right's columns in the output: a taken name gets the suffix."""
    if not isinstance(suffix, str):
        raise left.error(f"{left.verb}(): suffix is a text, got {suffix!r:.60}")
    taken = set(left.schema.names)
    kept: list[tuple[str, str]] = []
    for name in right.schema.names:
        if name in right_keys:
            continue
        output = name + suffix if name in taken else name
        others = {*right.schema.names} - {name, *right_keys}
        if output in taken or (output != name and output in others):
            raise left.error(
                f'{left.verb}(): both streams have a column "{name}", and "{output}" is taken too',
                hint=f'suffix="_2", or rename({{{name!r}: …}}) on one of them',
            )
        kept.append((name, output))
    return tuple(kept)
