"""What operators that call a function of a key's state have in common: rows, and keys for a dict.

A key here is what a dict tells apart as keys are told apart: NaN is one key, True is not 1.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from copy import copy, deepcopy
from itertools import islice
from operator import length_hint
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from raystream.contracts.rejects import Rejects
from raystream.errors import UserFunctionError
from raystream.flow.batch import NO_TIME, Batch, Int64s, Objects
from raystream.flow.key import canonical_keys
from raystream.operators.guard import NO_ROW, attempt, failed
from raystream.operators.pyrows import to_rows, to_values
from raystream.operators.rejecting import columns_of, time_of

Keys: TypeAlias = Sequence[Hashable]
Result = TypeVar("Result")

_IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset, type(None))
_SIMPLE = {int, float, complex, str, bytes, bool, type(None)}
"""Types of values that hold nothing that could be changed."""


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
    # Several columns: tuples of canonical values differ where the keys do, the kinds being fixed.
    return to_rows(record), keys[0] if len(keys) == 1 else list(zip(*keys, strict=True))


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
        place = len(rows) - length_hint(left) - 1
        error = failed(outcome, operator=operator, where=where, row=rows[place])
        rejects.reject(error, rows[place], time_of(times, place))
        lost.append(place)
    return lost


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


def maker(initial: Any) -> Callable[[], Any]:
    """Give what makes the first state of each key: ``initial`` itself if it can be called."""
    if callable(initial):
        made: Callable[[], Any] = initial
        return made
    if type(initial) in _SIMPLE:
        return lambda: initial
    return lambda: deepcopy(initial)


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

    def take(self, count: int) -> tuple[list[Hashable], Int64s | None]:
        """Give up to ``count`` keys, and forget them."""
        keys = list(islice(self._latest, count))
        times = list(map(self._latest.pop, keys))
        return keys, np.array(times, np.int64) if self._timed else None


def _column_keys(array: pa.Array) -> Keys:
    return canonical_keys(to_values(array))
