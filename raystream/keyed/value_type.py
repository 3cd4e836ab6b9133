"""What a state may hold, and how that stands in a snapshot: an Arrow type, or anything, pickled."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import pyarrow as pa

from raystream.errors import UserError
from raystream.keyed.key_form import pickled

_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError)

_Fit: TypeAlias = Callable[[Any], Any]
"""Gives a value as a snapshot gives it back, or raises one of ``_REFUSALS``."""


class ValueType:
    """Checks values as they are written, and turns them into columns and back.

    ``kinds`` are Python types whose values need no look; None where anything goes.
    """

    __slots__ = ("_fitted", "kinds", "operator", "state", "type")

    def __init__(self, type: pa.DataType | None, state: str, operator: str = "") -> None:
        self.type = type
        self.state = state
        self.operator = operator
        self.kinds: frozenset[Any] | None = None if type is None else _kinds(type)
        self._fitted: _Fit = _as_it_is if type is None else _fit(type)

    @property
    def arrow(self) -> pa.DataType:
        """The type of the column in snapshots."""
        return pa.large_binary() if self.type is None else self.type

    def fit(self, value: Any) -> Any:
        """Give the value as its type has it; called for what is of none of ``kinds``.

        Raises: UserError naming state, operator and value.
        """
        try:
            return self._fitted(value)
        except _REFUSALS as error:
            raise self._misfit(value) from error

    def write(self, values: Sequence[Any]) -> pa.Array:
        """Turn values into a column; later changes to the values do not reach it.

        Shapes: values [n] -> array [n].
        Raises: UserError for a value that does not fit.
        """
        if self.type is None:
            return pa.array(pickled(values), pa.large_binary())
        try:
            return pa.array(values, self.type)
        except _REFUSALS as error:
            # One by one, because Arrow does not say which.
            raise self._misfit(next(filter(self._is_misfit, values), values)) from error

    def read(self, column: pa.ChunkedArray | pa.Array, *, plain: bool) -> list[Any]:
        """Turn a column into values; pickled ones unless they are ``plain``."""
        values: list[Any] = column.to_pylist()
        if plain:
            return values
        return [pickle.loads(value) for value in values]

    def _is_misfit(self, value: Any) -> bool:
        try:
            pa.array([value], self.type)
        except _REFUSALS:
            return True
        return False

    def _misfit(self, value: Any) -> UserError:
        of = f" of {self.operator}" if self.operator else ""
        name = type(value).__name__
        return UserError(
            f'state "{self.state}"{of} is of type {self.type}, and {value!r:.80} '
            f"({'an' if name[0] in 'aeiou' else 'a'} {name}) does not fit",
            hint="give the state another type, or none: values are then pickled",
        )


def only_added(before: pa.DataType, now: pa.DataType) -> bool:
    """Tell whether a type is an older one with fields added that can be null, if any.

    >>> only_added(pa.struct({"a": pa.int64()}), pa.struct({"a": pa.int64(), "b": pa.string()}))
    True
    """
    if pa.types.is_struct(before) and pa.types.is_struct(now):
        old = {field.name: field.type for field in before}
        new = {field.name: field for field in now}
        return old.keys() <= new.keys() and all(
            only_added(old[name], field.type) if name in old else field.nullable
            for name, field in new.items()
        )
    if pa.types.is_list(before) and pa.types.is_list(now):
        return only_added(before.value_type, now.value_type)
    return bool(before == now)


def _fit(of: pa.DataType) -> _Fit:
    """Make what checks the values of a type, and all parts of those that are nested.

    Arrow cuts 1.5 to 1 and drops what is no field of a struct, both without a word: the state would
    be another one after a restore.
    """
    if pa.types.is_struct(of):
        return _fit_struct(of)
    if pa.types.is_list(of) or pa.types.is_large_list(of):
        return _fit_list(of)
    kinds = _kinds(of) | {_NOTHING}
    whole = not pa.types.is_floating(of)

    def fit(value: Any) -> Any:
        if type(value) in kinds:
            return value
        fitted = pa.scalar(value, of).as_py()
        if whole and isinstance(value, float) and fitted != value:
            raise ValueError(f"{value!r} is not whole")
        return fitted

    return fit


def _fit_struct(of: pa.StructType) -> _Fit:
    fits = {field.name: _fit(field.type) for field in of}

    def fit(value: Any) -> Any:
        if not isinstance(value, dict):
            return pa.scalar(value, of).as_py()
        if not value.keys() <= fits.keys():
            raise ValueError(f"only {', '.join(fits)} are fields")
        return {name: fit_field(value.get(name)) for name, fit_field in fits.items()}

    return fit


def _fit_list(of: pa.DataType) -> _Fit:
    kinds = _kinds(of.value_type) | {_NOTHING}
    fit_element = _fit(of.value_type)

    def fit(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return pa.scalar(value, of).as_py()
        if type(value) is list and kinds.issuperset(map(type, value)):
            return value
        return [fit_element(element) for element in value]

    return fit


def _as_it_is(value: Any) -> Any:
    return value


_NOTHING = type(None)


def _kinds(type: pa.DataType) -> frozenset[Any]:
    """Give the Python types that an Arrow type takes as they are, and gives back the same.

    An int that 64 bits do not hold is told when it is written in a snapshot.
    """
    types = pa.types
    found: list[tuple[Any, Any]] = [
        (types.is_int64, int),
        (types.is_float64, float),
        (types.is_boolean, bool),
        (types.is_string, str),
        (types.is_large_string, str),
        (types.is_binary, bytes),
        (types.is_large_binary, bytes),
        (types.is_date32, dt.date),
        (types.is_decimal, Decimal),
    ]
    return frozenset(kind for fits, kind in found if fits(type))
