"""Users' AggregateFunctions over columns: the loops over rows, guarded a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.errors import UserFunctionError
from raystream.operators.guard import NO_ROW, attempt, failed, short
from raystream.operators.keyed_rows import row_in_hand
from raystream.operators.pyrows import to_rows


class GuardedAggregate:
    """An AggregateFunction whose exceptions become UserFunctionErrors that tell the row."""

    def __init__(self, bound: Bound, operator: str, where: str) -> None:
        assert bound.function is not None, f"{bound.name} is a user's aggregate"
        self._function = bound.function
        self._name = bound.name
        self._type = bound.output
        self._operator = operator
        self._where = where

    def fold(self, record: pa.RecordBatch, owners: list[int], count: int) -> list[Any]:
        """Make ``count`` accumulators; add each row to its owner's, in order."""
        rows = to_rows(record)
        left = iter(rows)

        def loop() -> list[Any]:
            add = self._function.add
            accs = [self._function.create() for _ in range(count)]
            # One call of the user's function a row: there is no column form of it.
            for owner, row in zip(owners, left, strict=True):
                accs[owner] = add(accs[owner], row)
            return accs

        accs: list[Any] = self._guarded(loop, "add", lambda: row_in_hand(rows, left))
        return accs

    def merge(self, accs: list[Any], owners: list[int], count: int) -> list[Any]:
        """Merge accumulators that have the same owner, in order; each owner has one at least."""

        def loop() -> list[Any]:
            merged: list[Any] = [None] * count
            merge, last = self._function.merge, -1
            # One call of the user's function an accumulator.
            for owner, acc in zip(owners, accs, strict=True):
                merged[owner] = merge(merged[owner], acc) if owner == last else acc
                last = owner
            return merged

        merged: list[Any] = self._guarded(loop, "merge")
        return merged

    def results(self, accs: list[Any]) -> pa.Array:
        """Give the values that go out, as a column of the aggregate's type."""
        values = self._guarded(lambda: list(map(self._function.result, accs)), "result")
        array = attempt(partial(pa.array, values, self._type))
        if isinstance(array, Exception):
            raise UserFunctionError(
                f'{self._operator}: a result of "{self._name}" does not fit {self._type}: {array}\n'
                f"  the first result: {short(values[0])}",
                operator=self._operator,
                hint="result() gives values of the aggregate's class attribute type",
                where=self._where or None,
            ) from array
        return array

    def _guarded(
        self, loop: Callable[[], Any], method: str, row: Callable[[], Any] = lambda: NO_ROW
    ) -> Any:
        outcome = attempt(loop)
        if not isinstance(outcome, Exception):
            return outcome
        doing = f"{type(self._function).__name__}.{method}"
        raise failed(
            outcome, operator=self._operator, where=self._where, row=row(), doing=doing
        ) from outcome
