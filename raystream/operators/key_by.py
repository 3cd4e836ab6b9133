"""Give the rows of an object stream their keys, which later find the subtask and the state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.flow.batch import Batch, Objects
from raystream.flow.element import Watermark
from raystream.operators import guard
from raystream.operators.operator import Operator
from raystream.operators.row_functions import rows_of


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

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._opened = guard.open_function(
            spec.function, ctx, operator=spec.operator, where=spec.where
        )

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert self._opened is not None, "opened before the first batch"
        rows = rows_of(batch)
        keys = guard.call_each(
            self._opened.call, rows, operator=self._spec.operator, where=self._spec.where
        )
        if rows:
            yield Objects(rows, batch.timestamps, keys)

    def close(self) -> None:
        if self._opened is not None:
            guard.close_function(self._opened, operator=self._spec.operator, where=self._spec.where)
            self._opened = None


class KeyByFields(Operator):
    """Reads the key of each row out of the row."""

    def __init__(self, spec: KeyByFieldsSpec) -> None:
        self._spec = spec
        self._read: Any = itemgetter(*spec.columns)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        rows = rows_of(batch)
        keys = guard.call_each(
            self._read, rows, operator=self._spec.operator, where=self._spec.where
        )
        if rows:
            yield Objects(rows, batch.timestamps, keys)
