"""Users' AggregateFunctions over columns: the loops over rows, guarded a batch at a time."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from raystream.contracts.aggregate import Bound
from raystream.errors import UserFunctionError
from raystream.operators.guard import NO_ROW, failed, short
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
        add, row = self._function.add, NO_ROW
        rows = to_rows(record)
        try:
            accs = [self._function.create() for _ in range(count)]
            # One call of the user's function a row: there is no column form of it.
            for owner, row in zip(owners, rows, strict=True):
                accs[owner] = add(accs[owner], row)
        except Exception as error:
            raise self._failed(error, row, "add") from error
        return accs

    def merge(self, accs: list[Any], owners: list[int], count: int) -> list[Any]:
        """Merge accumulators that have the same owner, in order; each owner has one at least."""
        merged: list[Any] = [None] * count
        merge, last = self._function.merge, -1
        try:
            # One call of the user's function an accumulator.
            for owner, acc in zip(owners, accs, strict=True):
                merged[owner] = merge(merged[owner], acc) if owner == last else acc
                last = owner
        except Exception as error:
            raise self._failed(error, NO_ROW, "merge") from error
        return merged

    def results(self, accs: list[Any]) -> pa.Array:
        """Give the values that go out, as a column of the aggregate's type."""
        try:
            values = list(map(self._function.result, accs))
        except Exception as error:
            raise self._failed(error, NO_ROW, "result") from error
        try:
            return pa.array(values, self._type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UserFunctionError(
                f'{self._operator}: a result of "{self._name}" does not fit {self._type}: '
                f"{short(values[0])}",
                operator=self._operator,
                hint="result() gives values of the aggregate's class attribute type",
                where=self._where or None,
            ) from error

    def _failed(self, error: Exception, row: object, method: str) -> UserFunctionError:
        doing = f"{type(self._function).__name__}.{method}"
        return failed(error, operator=self._operator, where=self._where, row=row, doing=doing)
