"""How operators find the rows that fail, and go on without them where the policy says so.

As long as nothing fails a batch goes through whole, in one call. Functions of a row go on behind
the row that failed, so that each row is called once; what computes without a trace (columns, values
that become columns) is tried again by halves, which finds k rows among n in k log n steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from raystream.contracts.rejects import Rejects
from raystream.errors import ExternalError, RaystreamError, UserError
from raystream.flow.batch import NO_TIME, Batch, Columns, Int64s, Objects
from raystream.operators.guard import attempt, failed, rows_made
from raystream.operators.pyrows import to_columns, to_rows

Result = TypeVar("Result")


def call_rows(
    function: Callable[[Any], Any],
    rows: list[Any],
    times: Int64s | None,
    rejects: Rejects,
    *,
    operator: str,
    where: str,
    of: list[Any] | None = None,
) -> tuple[list[Any], Int64s | None]:
    """Call user code with each row, once; give the results, and which rows have one.

    ``of`` are the rows as the user sees them, where the function is called with something else.
    Shapes: rows [n], times [n] -> results [m], indices int64 [m], None where m = n.
    Raises: UserFunctionError, where the job is to fail of it.
    """
    results: list[Any] = []
    lost: list[int] = []
    left = iter(rows)
    while True:
        outcome = attempt(lambda: results.extend(map(function, left)))
        place = len(results) + len(lost)
        if not isinstance(outcome, Exception):
            if place == len(rows):
                break
            # ``map`` had taken a StopIteration of the function for its own end.
            outcome = StopIteration()
        row = (rows if of is None else of)[place]
        error = failed(outcome, operator=operator, where=where, row=row)
        rejects.reject(error, row, time_of(times, place))
        lost.append(place)
    return results, without(len(rows), lost)


def expand_rows(
    function: Callable[[Any], Any],
    rows: list[Any],
    times: Int64s | None,
    limit: int,
    rejects: Rejects,
    *,
    operator: str,
    where: str,
) -> Iterator[tuple[list[Any], Int64s]]:
    """Call user code with each row for several rows, and give them with the index of their row.

    A row's results come together, so that what a failing call had yielded can be dropped: unlike
    ``guard.expand`` it keeps all that one call gives in memory.
    """
    values: list[Any] = []
    counts = np.zeros(len(rows), np.int64)
    left = enumerate(rows)
    place, start = -1, 0

    def loop() -> bool:
        nonlocal place, start
        # A loop over rows: the function is the user's, and says how many rows it makes.
        for place, row in left:
            start = len(values)
            made = function(row)
            if made is not None:
                values.extend(rows_made(made))
                counts[place] = len(values) - start
            if len(values) >= limit:
                return True
        return False

    more = True
    while more:
        outcome = attempt(loop)
        if isinstance(outcome, Exception):
            del values[start:]
            error = failed(outcome, operator=operator, where=where, row=rows[place])
            rejects.reject(error, rows[place], time_of(times, place))
            continue
        more = outcome
        if values:
            yield values, np.repeat(np.arange(len(rows)), counts)
        values = []
        counts[:] = 0


def columns_of(
    values: list[Any],
    output: pa.Schema,
    rows: list[Any],
    times: Int64s | None,
    rejects: Rejects,
    *,
    operator: str,
    where: str,
    origins: Int64s | None = None,
) -> tuple[Columns | None, Int64s | None]:
    """Turn what a function made of rows into columns; a row whose values do not fit is given up.

    ``origins`` tells the row that each value comes from, the one of its place where it is None.
    Shapes: values [n], origins [n], rows and times [m] -> columns [k], indices int64 [k] of the
    values that are in them, None where k = n.
    Raises: UserFunctionError, where the job is to fail of it.
    """
    at = None if times is None or origins is None else times[origins]
    whole = attempt(
        lambda: to_columns(
            values, output, times if origins is None else at, operator=operator, where=where
        )
    )
    if not isinstance(whole, Exception):
        return whole, None
    if not rejects.tolerant:
        raise whole

    def some(start: int, count: int) -> None:
        no_times = np.zeros(count, np.int64)
        part = values[start : start + count]
        to_columns(part, output, no_times, operator=operator, where=where)

    parents = np.arange(len(values)) if origins is None else origins
    errors: dict[int, RaystreamError] = {}
    for place, error in by_halves(len(values), some)[1]:
        errors.setdefault(int(parents[place]), error)
    for parent, error in errors.items():
        rejects.reject(error, rows[parent], time_of(times, parent))
    kept = np.flatnonzero(~np.isin(parents, list(errors)))
    if not len(kept):
        return None, kept
    fitting = [values[place] for place in kept.tolist()]
    given = None if times is None else times[parents[kept]]
    return to_columns(fitting, output, given, operator=operator, where=where), kept


def compute_batch(
    batch: Batch, compute: Callable[[Batch], Result], rejects: Rejects
) -> list[Result]:
    """Compute something of a batch; of its parts, without the rows that fail, where it fails whole.

    ``compute`` must leave no trace: it is called again with parts of what it had failed with.
    """
    if not rejects.tolerant:
        return [compute(batch)]
    results, failures = by_halves(
        batch.num_rows, lambda start, count: compute(batch.slice(start, count))
    )
    for place, error in failures:
        reject_row(rejects, error, batch, place)
    return results


def one_by_one(batch: Batch, do: Callable[[Batch], Result], rejects: Rejects) -> list[Result]:
    """Do something with a batch; where that fails, with each of its rows alone.

    For what leaves a trace: each row is done twice at most.
    """
    whole = attempt(lambda: do(batch))
    if not isinstance(whole, Exception):
        return [whole]
    if not rejects.tolerant or not isinstance(whole, UserError | ExternalError):
        raise whole
    results = []
    for place in range(batch.num_rows):
        outcome = attempt(lambda place=place: do(batch.slice(place, 1)))  # type: ignore[misc]
        if not isinstance(outcome, Exception):
            results.append(outcome)
        elif isinstance(outcome, UserError | ExternalError):
            reject_row(rejects, outcome, batch, place)
        else:
            raise outcome
    return results


def by_halves(
    count: int, compute: Callable[[int, int], Result]
) -> tuple[list[Result], list[tuple[int, RaystreamError]]]:
    """Compute something of n rows by (start, count): whole, else its halves, down to one row.

    Gives the results in order, and each row that failed with its error.
    """
    results: list[Result] = []
    failures: list[tuple[int, RaystreamError]] = []
    waiting = [(0, count)]
    while waiting:
        start, size = waiting.pop()
        outcome = attempt(lambda start=start, size=size: compute(start, size))  # type: ignore[misc]
        if not isinstance(outcome, Exception):
            results.append(outcome)
        elif not isinstance(outcome, UserError | ExternalError):
            raise outcome  # a bug of ours is no property of a row
        elif size <= 1:
            failures.append((start, outcome))
        else:
            half = size // 2
            waiting += [(start + half, size - half), (start, half)]
    return results, failures


def reject_row(rejects: Rejects, error: RaystreamError, batch: Batch, place: int) -> None:
    """Give up the row at a place of a batch."""
    one = batch.slice(place, 1)
    rejects.reject(error, row_of(one), time_of(one.timestamps, 0))


def row_of(one: Batch) -> Any:
    """Give the only row of a batch as users see it: a dict, where it has columns."""
    if isinstance(one, Objects):
        return one.values[0]
    rows = attempt(lambda: to_rows(one.record))
    if not isinstance(rows, Exception):
        return rows[0]
    # A point in time that Python has no datetime for.
    visible = one.visible
    return {name: str(visible.column(name)[0]) for name in visible.schema.names}


def rows_kept(batch: Batch, rejects: Rejects) -> tuple[list[Any], Batch]:
    """Give a batch's rows as row functions see them, and the batch of just these rows.

    Dicts on a columnar stream: a point in time that Python has no datetime for gives its row up.
    """
    if isinstance(batch, Objects):
        return batch.values, batch
    record = batch.record
    rows = attempt(lambda: to_rows(record))
    if not isinstance(rows, Exception):
        return rows, batch
    if not rejects.tolerant:
        raise rows
    parts, failures = by_halves(record.num_rows, lambda s, n: to_rows(record.slice(s, n)))
    for place, error in failures:
        reject_row(rejects, error, batch, place)
    kept = without(record.num_rows, [place for place, _ in failures])
    return [row for part in parts for row in part], picked(batch, kept)


def readable(batch: Batch, rejects: Rejects) -> Batch:
    """Give the rows of a batch that Python can hold, where the job is not to fail of others."""
    return rows_kept(batch, rejects)[1] if rejects.tolerant else batch


def picked(batch: Batch, kept: Int64s | None) -> Batch:
    """Give the rows that are kept; all of them where ``kept`` is None."""
    return batch if kept is None else batch.take(kept)


def picked_times(times: Int64s | None, kept: Int64s | None) -> Int64s | None:
    """Give the event times of the rows that are kept; all of them where ``kept`` is None."""
    return times if times is None or kept is None else times[kept]


def without(count: int, lost: list[int]) -> Int64s | None:
    """Give the indices of n rows but those that are lost; None where none is.

    Shapes: lost [k] -> int64 [n - k].
    """
    return np.delete(np.arange(count), lost) if lost else None


def time_of(times: Int64s | None, place: int) -> int | None:
    """Give the event time of one row, None where it has none."""
    if times is None:
        return None
    time_us = int(times[place])
    return None if time_us == NO_TIME else time_us
