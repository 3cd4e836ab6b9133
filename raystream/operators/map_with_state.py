"""Call a function with the state of a row's key: ``fn(state, row) -> (state, out)``."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import Any, Final

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.state import ValueState
from raystream.errors import UserFunctionError
from raystream.flow.batch import Batch, Int64s
from raystream.keyed.cells import maker
from raystream.keyed.handles import ValueHandle
from raystream.keyed.key_form import KeyForm
from raystream.keyed.snapshot import Snapshot
from raystream.keyed.store import KeyedStore
from raystream.operators.guard import close_function, open_function, short
from raystream.operators.keyed_rows import (
    Keys,
    each_row,
    make_batch,
    own_copy,
    row_in_hand,
    rows_and_keys,
)
from raystream.operators.operator import Operator
from raystream.operators.rejecting import picked_times, readable, without

PLAIN: Final = ValueState("state")
"""State of no type that lives until it is forgotten."""

OBJECT_KEYS: Final = KeyForm.objects()


@dataclass(frozen=True, eq=False)
class MapWithStateSpec:
    """One value, or none, for each row, from the row and the state of its key.

    ``initial`` is the state of a new key, copied for each, or a callable that makes it. A state of
    None is forgotten; out None is no row. ``keys`` are the columns of a columnar stream, None on an
    object stream; ``output`` is the wire schema, or None for an object stream. ``state`` says of
    which type the state is and how long it lives, ``key_form`` how keys are kept.
    """

    function: Function
    initial: Any
    keys: tuple[str, ...] | None
    output: pa.Schema | None
    operator: str
    where: str
    state: ValueState = PLAIN
    key_form: KeyForm = OBJECT_KEYS

    @property
    def verb(self) -> str:
        return "map_with_state"

    def describe(self) -> str:
        return str(self.function)

    def build(self) -> MapWithState:
        return MapWithState(self)


class MapWithState(Operator):
    """The operator of one subtask; plain state is written in the store's dict, not by its handle.

    That costs a third of what the handle costs.
    """

    def __init__(self, spec: MapWithStateSpec) -> None:
        self._spec = spec
        self._make = maker(spec.initial)
        self._states: dict[Hashable, Any] | None = None
        self._store: KeyedStore | None = None

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._ctx = ctx
        self._errors = ctx.errors
        self._step = ctx.limits.row_batch_rows_max
        plain = spec.state.type is None and spec.state.ttl is None
        self._store = KeyedStore.of(spec.key_form, ctx)
        self._handle: ValueHandle = self._store.register(spec.state)
        if plain and ctx.limits.state_backend == "memory":
            self._states = self._store.plain_cells(spec.state)
        self._function = open_function(spec.function, ctx, operator=spec.operator, where=spec.where)

    def restore(self, snapshot: Snapshot) -> None:
        assert self._store is not None, "an operator is opened first"
        self._store.restore(snapshot)

    def snapshot(self) -> Snapshot:
        assert self._store is not None, "an operator is opened first"
        return tuple(self._store.snapshot())

    def changes(self) -> Snapshot:
        assert self._store is not None, "an operator is opened first"
        return tuple(self._store.changes())

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        spec = self._spec
        for start in range(0, batch.num_rows, self._step):
            part = readable(batch.slice(start, self._step), self._errors)
            times = part.timestamps
            rows, keys = rows_and_keys(part, spec.keys)
            out, kept = self._map(rows, keys, times)
            if self._states is not None:
                self._handle.touch(keys)
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
        if self._store is not None:
            self._store.close()

    def _map(
        self, rows: list[Any], keys: Keys, times: Int64s | None
    ) -> tuple[list[Any], Int64s | None]:
        """Give what goes out for each row, and for which rows something does; None: for all."""
        left = iter(rows)
        pairs = zip(left, keys, strict=True)
        each = self._each_stored if self._states is None else self._each
        out: list[Any] = []
        silent: list[int] = []

        def loop() -> None:
            try:
                each(rows, left, pairs, out, silent)
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
        assert states is not None, "plain state is in a dict"
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

    def _each_stored(
        self,
        rows: list[Any],
        left: Iterator[Any],
        pairs: Iterator[tuple[Any, Hashable]],
        out: list[Any],
        silent: list[int],
    ) -> None:
        store, handle = self._store, self._handle
        assert store is not None, "state of a type or with an end is in a store"
        # A loop over rows: each calls the user's function, and sees what the one before left.
        for row, key in pairs:
            store.select(key, None)
            state = handle.value()
            pair = self._function.call(self._make() if state is None else state, row)
            try:
                state, value = pair
            except (TypeError, ValueError) as error:
                raise self._no_pair(pair, row_in_hand(rows, left)) from error
            handle.update(state)
            if value is None:
                silent.append(len(out))
            elif value is state:
                value = own_copy(value)
            out.append(value)

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
