"""Call a function with the state of a row's key: ``fn(state, row) -> (state, out)``."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.errors import UserFunctionError
from raystream.flow.batch import Batch, Int64s
from raystream.operators.guard import close_function, open_function, short
from raystream.operators.keyed_rows import (
    Keys,
    each_row,
    make_batch,
    maker,
    own_copy,
    row_in_hand,
    rows_and_keys,
)
from raystream.operators.operator import Operator
from raystream.operators.rejecting import picked_times, without


@dataclass(frozen=True, eq=False)
class MapWithStateSpec:
    """One value, or none, for each row, from the row and the state of its key.

    ``initial`` is the state of a new key, copied for each, or a callable that makes it. A state of
    None is forgotten; out None is no row. ``keys`` are the columns of a columnar stream, None on an
    object stream; ``output`` is the wire schema, or None for an object stream.
    """

    function: Function
    initial: Any
    keys: tuple[str, ...] | None
    output: pa.Schema | None
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "map_with_state"

    def describe(self) -> str:
        return str(self.function)

    def build(self) -> MapWithState:
        return MapWithState(self)


class MapWithState(Operator):
    """The operator of one subtask; its state is a dict by canonical key."""

    def __init__(self, spec: MapWithStateSpec) -> None:
        self._spec = spec
        self._make = maker(spec.initial)
        self._states: dict[Hashable, Any] = {}

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._errors = ctx.errors
        self._step = ctx.limits.batch_rows_max
        self._function = open_function(spec.function, ctx, operator=spec.operator, where=spec.where)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        spec = self._spec
        for start in range(0, batch.num_rows, self._step):
            part = batch.slice(start, self._step)
            times = part.timestamps
            rows, keys = rows_and_keys(part, spec.keys)
            out, kept = self._map(rows, keys, times)
            if kept is not None:
                out = [out[index] for index in kept.tolist()]
                rows = [rows[index] for index in kept.tolist()]
                times = picked_times(times, kept)
            if out:
                made = make_batch(
                    out,
                    spec.output,
                    rows,
                    times,
                    self._errors,
                    operator=spec.operator,
                    where=spec.where,
                )
                if made is not None:
                    yield made

    def close(self) -> None:
        close_function(self._function, operator=self._spec.operator, where=self._spec.where)

    def _map(
        self, rows: list[Any], keys: Keys, times: Int64s | None
    ) -> tuple[list[Any], Int64s | None]:
        """Give what goes out for each row, and for which rows something does; None: for all."""
        left = iter(rows)
        pairs = zip(left, keys, strict=True)
        out: list[Any] = []
        silent: list[int] = []

        def loop() -> None:
            try:
                self._each(rows, left, pairs, out, silent)
            finally:
                # A row that has failed has its place all the same.
                out.extend([None] * (len(rows) - length_hint(left) - len(out)))

        operator, where = self._spec.operator, self._spec.where
        lost = each_row(loop, rows, left, times, self._errors, operator=operator, where=where)
        return out, without(len(out), [*silent, *lost])

    def _each(
        self,
        rows: list[Any],
        left: Iterator[Any],
        pairs: Iterator[tuple[Any, Hashable]],
        out: list[Any],
        silent: list[int],
    ) -> None:
        function, make, states = self._function.call, self._make, self._states
        get = states.get
        append = out.append
        pair: Any = (None, None)
        try:
            # A loop over rows: each calls the user's function, and sees what the one before left.
            for row, key in pairs:
                state = get(key)
                pair = function(make() if state is None else state, row)
                state, value = pair
                if state is None:
                    states.pop(key, None)
                else:
                    states[key] = state
                if value is None:
                    silent.append(len(out))
                elif value is state:
                    value = own_copy(value)  # the state may change later, what went out may not
                append(value)
        except (TypeError, ValueError) as error:
            if isinstance(pair, tuple) and len(pair) == 2:
                raise
            raise self._no_pair(pair, row_in_hand(rows, left)) from error

    def _no_pair(self, given: Any, row: Any) -> UserFunctionError:
        operator = self._spec.operator
        return UserFunctionError(
            f"{operator}: the function gave {short(given)} instead of (state, out)",
            operator=operator,
            row=short(row),
            hint="return a pair: the new state (None forgets the key), and the row that goes "
            "out (None for none)",
            where=self._spec.where or None,
        )
