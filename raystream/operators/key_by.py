"""Give the rows of an object stream their keys, which later find the subtask and the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.contracts.rejects import Rejects
from raystream.flow.batch import Batch, Objects
from raystream.flow.element import Watermark
from raystream.flow.key import are_plain, canonical
from raystream.operators import guard
from raystream.operators.operator import Operator
from raystream.operators.rejecting import call_rows, picked, picked_times, rows_kept


@dataclass(frozen=True, slots=True, eq=False)
class KeyByFunctionSpec:
    """Keys are what a function of the row gives; ``columnar`` says that dicts are made for it."""

    function: Function
    operator: str
    where: str
    columnar: bool = False

    @property
    def verb(self) -> str:
        return "key_by"

    def describe(self) -> str:
        return self.function.name

    def build(self) -> KeyByFunction:
        return KeyByFunction(self)


@dataclass(frozen=True, slots=True, eq=False)
class KeyByFieldsSpec:
    """Keys are fields of dict rows: the value of one, the tuple of several."""

    columns: tuple[str, ...]
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "key_by"

    def describe(self) -> str:
        return ", ".join(self.columns)

    def build(self) -> KeyByFields:
        return KeyByFields(self)


class KeyByFunction(Operator):
    """Calls the function with each row; what comes out are objects with keys."""

    def __init__(self, spec: KeyByFunctionSpec) -> None:
        self._spec = spec
        self._opened: OpenFunction | None = None
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._errors = ctx.errors
        self._opened = guard.open_function(
            spec.function, ctx, operator=spec.operator, where=spec.where
        )

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert self._opened is not None, "opened before the first batch"
        yield from _keyed(self._opened.call, batch, self._spec, self._errors)

    def close(self) -> None:
        if self._opened is not None:
            guard.close_function(self._opened, operator=self._spec.operator, where=self._spec.where)
            self._opened = None


class KeyByFields(Operator):
    """Reads the key of each row out of the row."""

    def __init__(self, spec: KeyByFieldsSpec) -> None:
        self._spec = spec
        self._read: Any = itemgetter(*spec.columns)
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        yield from _keyed(self._read, batch, self._spec, self._errors)


def _keyed(
    read: Callable[[Any], Any],
    batch: Batch,
    spec: KeyByFunctionSpec | KeyByFieldsSpec,
    rejects: Rejects,
) -> Iterator[Batch]:
    """Give rows the keys that a function reads; a row whose key is none fails."""
    operator, where = spec.operator, spec.where
    rows, batch = rows_kept(batch, rejects)
    times = batch.timestamps
    keys, kept = call_rows(read, rows, times, rejects, operator=operator, where=where)
    if kept is not None:
        rows, times = [rows[place] for place in kept.tolist()], picked_times(times, kept)
    if not rows:
        return
    if not are_plain(keys):
        # One by one, so that the row is known whose key is none: these are of odd types.
        good = call_rows(canonical, keys, times, rejects, operator=operator, where=where, of=rows)
        batch = picked(Objects(rows, times, keys), good[1])
        if batch.num_rows:
            yield batch
        return
    yield Objects(rows, times, keys)
