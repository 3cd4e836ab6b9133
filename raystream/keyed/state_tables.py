"""State as a table that a user looks at or edits, and as the section that an operator restores.

What is kept has key groups, numbers and pickled columns in it; what is shown has the key, then the
value. ``shown`` and ``kept`` are each other's inverse, up to the order of rows.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import UserError
from raystream.keyed.key_form import TAKEN, KeyForm, pickled
from raystream.keyed.plain_pickles import plain_unpickled
from raystream.keyed.snapshot import GONE, KEY_GROUP, Section, Share, keyed_section

KEY, VALUE, MAP_KEY, WRITTEN = "key", "value", "map_key", "written"
PICKLED, PICKLED_MAP_KEY, PICKLED_KEY = "pickled", "pickled_key", "__key"

_IDS = ("__id", "map_id")
"""What tells pickled keys apart: equal ones need not be the same when pickled."""
_SPACES = ("__start", "__end", "__namespace")
_NUMBERS = ("__slot", "__latest")
"""What a running aggregate keeps beside its accumulators."""
_TIME = pa.timestamp("us", "UTC")


def key_names(schema: pa.Schema) -> list[str]:
    """Give the columns of a state's section that are its key."""
    hidden = {KEY_GROUP, GONE, *_IDS, *_SPACES}
    return [name for name in schema.names if name not in TAKEN and name not in hidden]


def is_running(schema: pa.Schema) -> bool:
    """Tell whether a section holds the accumulators of a running aggregate."""
    return _NUMBERS[0] in schema.names


def shown(section: Section, what: str, *, allow_pickle: bool) -> pa.Table:
    """Give a state, or accumulators, as a table in order of keys.

    ``what`` is named in errors. Raises: UserError where something is pickled that is not trusted.
    """
    hidden = (KEY_GROUP, GONE, *_IDS)
    table = section.table.drop_columns([name for name in hidden if _has(section.table, name)])
    if is_running(table.schema):
        return _ordered(_accumulators(table), [n for n in table.column_names if n[:2] != "__"])
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if name == PICKLED_KEY:
            columns |= _shown_keys(column, what, allow_pickle)
        elif name in (PICKLED, PICKLED_MAP_KEY):
            if not allow_pickle:
                raise _untyped(what)
            plain = VALUE if name == PICKLED else MAP_KEY
            columns |= _unpickled(column, plain, name)
        elif name == WRITTEN:
            listed = pa.types.is_list(column.type)
            columns[name] = column.cast(pa.list_(_TIME) if listed else _TIME)
        elif name == "time":
            columns[name] = column.cast(_TIME)
        elif name not in _SPACES or column.null_count < table.num_rows:
            columns[name] = column
    order = [name for name in columns if name not in (VALUE, PICKLED, WRITTEN)]
    made = pa.table(columns) if columns else table.select([])
    return _ordered(made, order) if section.share is Share.KEYED else made


def kept(
    name: str, table: pa.Table, form: KeyForm, before: pa.Schema | None, max_parallelism: int
) -> Section:
    """Give the keyed section of a state that ``table`` shows.

    ``before`` is the section's schema where there was one: a type stays what it was.
    Raises: UserError for columns that are missing, values that do not fit, a key that comes twice.
    """
    what = f'state "{name.partition(":")[2]}"'
    values = _kept_values(table, before, what)
    keys = _kept_keys(table, form, what, set(values))
    ids, _ = form.read(pa.table(keys))
    columns, hashes = form.write(ids)
    if not {MAP_KEY, PICKLED_MAP_KEY} & set(values) and len(set(ids)) < len(ids):
        raise UserError(f"{what}: a key comes twice", hint="give one row for each key")
    return keyed_section(name, pa.table({**columns, **values}), hashes, max_parallelism)


def kept_without_key(name: str, table: pa.Table, share: Share, before: pa.Schema | None) -> Section:
    """Give the section of a state of no key that ``table`` shows."""
    what = f'state "{name.partition(":")[2]}"'
    values = _kept_values(table, before, what)
    unknown = set(table.column_names) - {VALUE, MAP_KEY, PICKLED, PICKLED_MAP_KEY, WRITTEN}
    if unknown:
        raise UserError(f"{what} has no key, and the table has {', '.join(sorted(unknown))}")
    return Section(name, pa.table(values), share)


def _kept_values(table: pa.Table, before: pa.Schema | None, what: str) -> dict[str, Any]:
    if not _has(table, VALUE) and not _has(table, PICKLED):
        raise UserError(
            f"{what}: the table has no column {VALUE}, but {', '.join(table.column_names)}"
        )
    columns: dict[str, Any] = {}
    for name in (MAP_KEY, PICKLED_MAP_KEY, VALUE, PICKLED):
        if not _has(table, name):
            continue
        column = table.column(name)
        if before is not None and name in before.names:
            column = _cast(column, before.field(name).type, f"{what}, column {name}")
        columns[name] = column
    if VALUE in columns and MAP_KEY not in columns and columns[VALUE].null_count:
        raise UserError(
            f"{what}: None is no value, and {columns[VALUE].null_count} rows have it",
            hint="leave the rows of keys out that have no value",
        )
    if _has(table, WRITTEN):
        column = table.column(WRITTEN)
        listed = pa.types.is_list(column.type)
        columns[WRITTEN] = column.cast(pa.list_(pa.int64()) if listed else pa.int64())
    return columns


def _kept_keys(table: pa.Table, form: KeyForm, what: str, values: set[str]) -> dict[str, Any]:
    given = [name for name in table.column_names if name not in values | {WRITTEN}]
    if form.fields is not None:
        wanted = [field.name for field in form.fields]
        if set(wanted) != set(given):
            raise UserError(
                f"{what}: the key is {' and '.join(wanted)}, and beside the value the table has "
                f"{', '.join(given) or 'no column'}"
            )
        return {
            field.name: _cast(table.column(field.name), field.type, f"{what}, key {field.name}")
            for field in form.fields
        }
    if given == [PICKLED_KEY]:
        return {PICKLED_KEY: table.column(PICKLED_KEY)}
    places = [f"{KEY}_{place}" for place in range(len(given))]
    if given not in ([KEY], places):
        raise UserError(
            f"{what}: the key is a Python value, the table has {', '.join(given) or 'no column'}",
            hint=f'give a column "{KEY}", or, for a tuple, "{KEY}_0", "{KEY}_1" and so on',
        )
    if given == [KEY]:
        keys: Sequence[Any] = table.column(KEY).to_pylist()
    else:
        keys = list(zip(*(table.column(name).to_pylist() for name in given), strict=True))
    return {PICKLED_KEY: pa.array(pickled(keys), pa.large_binary())}


def _shown_keys(column: pa.ChunkedArray, what: str, trusted: bool) -> dict[str, Any]:
    """Give the keys of an object stream: they are pickled, and most are plain values."""
    try:
        unpickle = pickle.loads if trusted else plain_unpickled
        keys = [unpickle(raw) for raw in column.to_pylist()]
    except pickle.UnpicklingError as error:
        raise UserError(
            f"the keys of {what} are of classes: {error}",
            hint="allow_pickle=True runs what is pickled: only for snapshots that you trust",
        ) from error
    lengths = {len(key) if type(key) is tuple else 0 for key in keys}
    if len(lengths) == 1 and (count := lengths.pop()):
        parts = [as_arrow([key[place] for key in keys]) for place in range(count)]
        if all(part is not None for part in parts):
            return {f"{KEY}_{place}": part for place, part in enumerate(parts)}
    array = as_arrow(keys)
    return {PICKLED_KEY: column} if array is None else {KEY: array}


def _unpickled(column: pa.ChunkedArray, plain: str, name: str) -> dict[str, Any]:
    if pa.types.is_list(column.type):
        values: list[Any] = [list(map(pickle.loads, each)) for each in column.to_pylist()]
    else:
        values = [pickle.loads(raw) for raw in column.to_pylist()]
    array = as_arrow(values)
    return {name: column} if array is None else {plain: array}


def as_arrow(values: list[Any]) -> pa.Array | None:
    """Give Python values as a column that gives the same ones back; None if there is none."""
    try:
        array = pa.array(values)
        back = array.to_pylist()
        same = all(type(a) is type(b) and a == b for a, b in zip(values, back, strict=True))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    return array if same or repr(values) == repr(back) else None


def _accumulators(table: pa.Table) -> pa.Table:
    """Show what a running aggregate keeps, by the names that its user gave."""
    table = table.drop_columns([name for name in _NUMBERS if _has(table, name)])
    names = []
    for name in table.column_names:
        stem, kind, place = [*name[2:].rsplit(".", 2), "", ""][:3]
        alone = f"__{stem}.{kind}.1" not in table.column_names
        names.append(name if name[:2] != "__" else stem if alone else f"{stem}_{place}")
    return table.rename_columns(names)


def _ordered(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Sort by columns, where Arrow knows an order of their types."""
    try:
        return table.take(pc.sort_indices(table, [(name, "ascending") for name in names]))
    except (pa.ArrowException, TypeError, ValueError):
        return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise UserError(f"{what} is of type {kind}, the table's of {column.type}") from error


def _has(table: pa.Table, name: str) -> bool:
    return name in table.column_names


def _untyped(what: str) -> UserError:
    return UserError(
        f"{what} has no type, so its values are pickled",
        hint="allow_pickle=True reads them, and runs what is pickled: only for snapshots that you "
        "trust; a state with type=… is read by anybody",
    )
