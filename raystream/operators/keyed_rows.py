"""What operators that call a function of a key's state have in common: rows, and keys for a dict.

A key here is what a dict tells apart as keys are told apart: NaN is one key, True is not 1.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from itertools import islice, repeat
from operator import itemgetter, length_hint
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from raystream.contracts.rejects import Rejects
from raystream.errors import RaystreamError, UserError, UserFunctionError
from raystream.flow.batch import NO_TIME, Batch, Columns, Int64s, Objects
from raystream.flow.changes import op_names
from raystream.flow.key import canonical_keys
from raystream.operators.guard import NO_ROW, attempt, failed
from raystream.operators.pyrows import to_rows, to_values
from raystream.operators.rejecting import columns_of, time_of, without

Keys: TypeAlias = Sequence[Hashable]
Result = TypeVar("Result")

_IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset, type(None))


def rows_and_keys(batch: Batch, columns: tuple[str, ...] | None) -> tuple[list[Any], Keys]:
    """Give the rows of a batch as Python values, and the key of each in canonical form.

    ``columns`` are the key columns of a columnar batch; an object batch carries its keys.
    """
    if isinstance(batch, Objects):
        assert batch.keys is not None, "a keyed object stream carries its keys"
        return batch.values, canonical_keys(batch.keys)
    assert columns, "a keyed columnar stream has key columns"
    record = batch.record
    keys = [_column_keys(record.column(name)) for name in columns]
    # Several columns are one key that is a tuple: this is its canonical form.
    return to_rows(record), keys[0] if len(keys) == 1 else list(zip(repeat(tuple), *keys))


def rows_with_keys(batch: Batch, columns: tuple[str, ...]) -> tuple[list[Any], Sequence[Any], Keys]:
    """Give the rows of a batch as Python values, the key of each, and its canonical form.

    ``columns`` are the key columns of a columnar batch; an object batch carries its keys. The key
    of several columns is a tuple.
    """
    if isinstance(batch, Objects):
        assert batch.keys is not None, "a keyed object stream carries its keys"
        return batch.values, batch.keys, canonical_keys(batch.keys)
    assert columns, "a keyed columnar stream has key columns"
    rows = to_rows(batch.record)
    parts = [list(map(itemgetter(name), rows)) for name in columns]
    ids = list(map(canonical_keys, parts))
    if len(parts) == 1:
        return rows, parts[0], ids[0]
    return rows, list(zip(*parts, strict=True)), list(zip(repeat(tuple), *ids, strict=False))


def listed_times(batch: Batch) -> Iterable[int | None]:
    """Give the event time of each row; None where there is none."""
    times = batch.timestamps
    if times is None:
        return repeat(None)
    listed: list[int | None] = times.tolist()
    if (times == NO_TIME).any():
        return [None if time == NO_TIME else time for time in listed]
    return listed


def listed_ops(batch: Batch) -> Iterable[str | None]:
    """Give the kind of each row of a changelog; None where rows are just rows."""
    ops = batch.ops if isinstance(batch, Columns) else None
    return repeat(None) if ops is None else op_names(ops)


def make_batch(
    values: list[Any],
    output: pa.Schema | None,
    rows: list[Any],
    timestamps: Int64s | None,
    rejects: Rejects,
    *,
    operator: str,
    where: str,
) -> Batch | None:
    """Make a batch of what was made of rows: columns where there is a wire schema, else objects.

    None where no value fits the schema: their rows are given up.
    """
    if output is None:
        return Objects(values, timestamps)
    return columns_of(values, output, rows, timestamps, rejects, operator=operator, where=where)[0]


def row_in_hand(rows: Sequence[Any], left: object) -> Any:
    """Give the row that was taken last from an iterator over ``rows``."""
    place = len(rows) - length_hint(left) - 1
    return rows[place] if place >= 0 else NO_ROW


def each_row(
    loop: Callable[[], None],
    rows: Sequence[Any],
    left: object,
    times: Int64s | None,
    rejects: Rejects,
    *,
    operator: str,
    where: str,
) -> list[int]:
    """Run a loop over rows that calls user code, on behind each row that fails; give their places.

    ``left`` is the iterator over ``rows`` that the loop takes from, and goes on with.
    Shapes: rows [n], times [n].
    Raises: UserFunctionError, where the job is to fail of it.
    """
    lost: list[int] = []
    while isinstance(outcome := attempt(loop), Exception):
        lost.append(reject_in_hand(outcome, rows, left, times, rejects, operator, where))
    return lost


def some_rows(
    loop: Callable[[], Result],
    rows: Sequence[Any],
    left: object,
    times: Int64s | None,
    rejects: Rejects,
    *,
    operator: str,
    where: str,
) -> Result:
    """Run a loop as ``each_row`` does, until it stops by itself with a result."""
    while isinstance(outcome := attempt(loop), Exception):
        reject_in_hand(outcome, rows, left, times, rejects, operator, where)
    return outcome


def is_users(error: Exception) -> bool:
    """Tell whether an error is of user code: a broken disk is no property of a row."""
    return isinstance(error, UserError) or not isinstance(error, RaystreamError)


def reject_in_hand(  # noqa: PLR0917  as each_row has them
    error: Exception,
    rows: Sequence[Any],
    left: object,
    times: Int64s | None,
    rejects: Rejects,
    operator: str,
    where: str,
) -> int:
    """Give up the row that was taken last from an iterator over ``rows``; give its place."""
    place = len(rows) - length_hint(left) - 1
    if place < 0 or not is_users(error):
        raise failed(error, operator=operator, where=where) from error
    rejects.reject(
        failed(error, operator=operator, where=where, row=rows[place]),
        rows[place],
        time_of(times, place),
    )
    return place


def each_result(
    make: Callable[[Any], Any],
    states: Sequence[Any],
    told: Callable[[Any], tuple[Any, int | None]],
    rejects: Rejects,
    *,
    operator: str,
    where: str,
) -> tuple[list[Any], Int64s | None]:
    """Let user code make a row of each state; where it fails, that result is given up.

    ``told`` says what to give up for a state, and its event time.
    Shapes: states [n] -> rows [m], indices int64 [m] of their states, None where m = n.
    Raises: UserFunctionError, where the job is to fail of it.
    """
    made: list[Any] = []
    lost: list[int] = []
    left = iter(states)

    def loop() -> None:
        # A loop over states: what they hold is the user's.
        for state in left:
            made.append(make(state))  # noqa: PERF401  kept where a later one fails

    while isinstance(outcome := attempt(loop), Exception):
        place = len(states) - length_hint(left) - 1
        error = failed(outcome, operator=operator, where=where)
        if not is_users(outcome):
            raise error from outcome
        rejects.reject(error, *told(states[place]))
        lost.append(place)
    return made, without(len(states), lost)


def over_rows(loop: Callable[[], Result], *, operator: str, where: str) -> Result:
    """Run a loop that calls user code, of no row in particular."""
    outcome = attempt(loop)
    if not isinstance(outcome, Exception):
        return outcome
    if isinstance(outcome, UserFunctionError) and outcome.operator:
        raise outcome
    raise failed(outcome, operator=operator, where=where) from outcome


def own_copy(value: Any) -> Any:
    """Give a value that does not change when the function that made it changes it later."""
    if type(value) is dict:
        return value.copy()
    return value if isinstance(value, _IMMUTABLE) else copy(value)


class Touched:
    """Keys that have a new value to give, in order of first touch, with their latest event time."""

    def __init__(self) -> None:
        self._latest: dict[Hashable, int] = {}
        self._timed = False

    def __bool__(self) -> bool:
        return bool(self._latest)

    def note(self, keys: Keys, timestamps: Int64s | None) -> None:
        """Touch keys, one a row."""
        latest = self._latest
        if timestamps is None:
            latest.update(dict.fromkeys(keys, NO_TIME))
            return
        self._timed = True
        get = latest.get
        # A loop over rows, because keys are Python objects.
        for key, time_us in zip(keys, timestamps.tolist(), strict=True):
            before = get(key)
            if before is None or time_us > before:
                latest[key] = time_us

    def times(self) -> dict[Hashable, int]:
        """Give the keys in order of first touch, with their latest event times; a copy."""
        return dict(self._latest)

    def restore(self, times: dict[Hashable, int]) -> None:
        """Take up what ``times`` gave."""
        self._latest.update(times)
        self._timed = any(time_us != NO_TIME for time_us in times.values())

    def take(self, count: int) -> tuple[list[Hashable], Int64s | None]:
        """Give up to ``count`` keys, and forget them."""
        keys = list(islice(self._latest, count))
        times = list(map(self._latest.pop, keys))
        return keys, np.array(times, np.int64) if self._timed else None


def _column_keys(array: pa.Array) -> Keys:
    return canonical_keys(to_values(array))
