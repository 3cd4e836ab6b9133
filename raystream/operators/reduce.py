"""Fold the rows of a key into one row: ``fn(a, b) -> row``, the first as it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.rejects import SKIP, Rejects
from raystream.flow.batch import Batch, Columns, Int64s, bounded, with_ops
from raystream.flow.changes import INSERT, OP, UPDATE_AFTER, UPDATE_BEFORE
from raystream.flow.ordering import stable_order
from raystream.keyed.key_form import KeyForm
from raystream.keyed.key_rows import OBJECTS, ChangedRows, form_of, key_rows, read_key_rows
from raystream.keyed.snapshot import Snapshot
from raystream.operators.emitting import EmittingOperator
from raystream.operators.guard import close_function, open_function
from raystream.operators.keyed_rows import (
    Keys,
    Touched,
    each_row,
    make_batch,
    own_copy,
    rows_and_keys,
)
from raystream.operators.rejecting import columns_of, picked_times, readable, without

_NONE_YET: Any = (object(),)  # a tuple, which nobody copies


@dataclass(frozen=True, eq=False)
class ReduceSpec:
    """The rows of each key so far, folded into one by the user's function.

    ``emit`` is ``"row"`` (after each row, at its event time), ``"batch"`` (each touched key once a
    batch, at its latest event time in it), ``"final"`` (each key once, at the end of bounded
    input, at its latest event time) or ``"changes"`` (as ``"row"``, each an insert or an update of
    its key's row, with ``before`` behind the row that it replaces). ``keys`` are the columns of a
    columnar stream, None on an object stream; ``output`` is the wire schema, or None for objects.
    """

    function: Function
    keys: tuple[str, ...] | None
    output: pa.Schema | None
    emit: str
    operator: str
    where: str
    before: bool = False

    @property
    def verb(self) -> str:
        return "reduce"

    def describe(self) -> str:
        return f"{self.function}  emit={self.emit}"

    def build(self) -> Reduce:
        return Reduce(self)


class Reduce(EmittingOperator):
    """The operator of one subtask; its state is a dict by canonical key."""

    def __init__(self, spec: ReduceSpec) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._states: dict[Hashable, Any] = {}
        self._touched, self._changed = Touched(), ChangedRows("states")
        # The types of key columns are those of the first batch.
        self._form = OBJECTS if spec.keys is None else None
        self._output = spec.output
        if spec.output is not None and spec.emit == "changes":
            self._output = spec.output.remove(spec.output.get_field_index(OP))

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._errors = ctx.errors
        self._max_parallelism = ctx.max_parallelism
        self._step = ctx.limits.batch_rows_max
        self._function = open_function(spec.function, ctx, operator=spec.operator, where=spec.where)

    def restore(self, snapshot: Snapshot) -> None:
        self._form = form = self._form or form_of(snapshot, "states")
        if form is None:
            return
        kept = sorted(read_key_rows(snapshot, "states", form), key=lambda pair: pair[1][0])
        self._states = {key: row for key, (_, row, _) in kept}
        if self._spec.emit == "final":
            self._touched.restore({key: time_us for key, (_, _, time_us) in kept})

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        if self._form is None and isinstance(batch, Columns):
            self._form = KeyForm.columns([batch.record.field(key) for key in self._spec.keys or ()])
        for start in range(0, batch.num_rows, self._step):
            part = readable(batch.slice(start, self._step), self._errors)
            rows, keys = rows_and_keys(part, self._spec.keys)
            self._changed.mark(keys)
            if self._spec.emit in ("row", "changes"):
                yield from self._after_each(rows, keys, part.timestamps)
            else:
                kept = self._fold(rows, keys, part.timestamps)
                if kept is not None:
                    keys = [keys[index] for index in kept.tolist()]
                self._touched.note(keys, picked_times(part.timestamps, kept))
        if self._spec.emit == "batch":
            yield from self._newest()

    def on_end(self) -> Iterator[Batch]:
        # Begun at the MAX watermark, so that windows behind this operator still take the rows.
        return self._newest() if self._spec.emit == "final" else iter(())

    def snapshot(self) -> Snapshot:
        if self._form is None:
            return ()
        if self._spec.emit != "final":
            rows = ((key, self._row(key)) for key in self._states)
        else:
            # What has gone out at the end is not needed again: no rows come after it.
            every = enumerate(self._touched.times().items())
            rows = ((key, (at, self._states[key], time_us)) for at, (key, time_us) in every)
        return (key_rows("states", rows, self._max_parallelism, self._form),)

    def changes(self) -> Snapshot:
        # At the end keys go out in the order in which they came: no delta says so.
        if self._form is None or self._spec.emit == "final":
            return self.snapshot()
        groups = self._max_parallelism
        return (self._changed.section(self._states, self._row, groups, self._form),)

    def _row(self, key: Hashable) -> tuple[int, Any, int | None]:
        return 0, self._states[key], None

    def close(self) -> None:
        close_function(self._function, operator=self._spec.operator, where=self._spec.where)

    def _after_each(self, rows: list[Any], keys: Keys, times: Int64s | None) -> Iterator[Batch]:
        function, states = self._function.call, self._states
        get = states.get
        out: list[Any] = []
        append = out.append
        earlier: list[Any] = []
        replaced = earlier.append
        left = iter(rows)
        pairs = zip(left, keys, strict=True)

        def loop() -> None:
            # A loop over rows: each calls the user's function with what the one before made.
            for row, key in pairs:
                before = get(key, _NONE_YET)
                after = row if before is _NONE_YET else function(before, row)
                states[key] = after
                # The function may change what it is given next time: that must not have gone out.
                append(after.copy() if type(after) is dict else own_copy(after))

        def loop_of_changes() -> None:
            # A loop over rows, as above; the function may change what it is given, too.
            for row, key in pairs:
                before = get(key, _NONE_YET)
                held = own_copy(before)
                after = row if before is _NONE_YET else function(before, row)
                states[key] = after
                replaced(held)
                append(own_copy(after))

        changes = self._spec.emit == "changes"
        kept = self._run(loop_of_changes if changes else loop, rows, left, times)
        if kept is not None:
            rows = [rows[index] for index in kept.tolist()]
        times = picked_times(times, kept)
        if out and changes:
            yield from self._as_changes(out, earlier, rows, times)
        elif out:
            yield from self._batch(out, rows, times)

    def _as_changes(
        self, out: list[Any], earlier: list[Any], rows: list[Any], times: Int64s | None
    ) -> Iterator[Batch]:
        """Give results as changes, each with the one before it of its key if that is wanted.

        Shapes: [n] each; a result that does not fit its columns is given up.
        """
        made, fits = self._columns(out, rows, times, self._errors)
        if made is None:
            return
        if fits is not None:
            earlier = [earlier[place] for place in fits.tolist()]
        times = made.timestamps
        none = np.array([before is _NONE_YET for before in earlier], np.bool_)
        ops = np.where(none, INSERT, UPDATE_AFTER).astype(np.int8)
        at = np.flatnonzero(~none)
        if not self._spec.before or not len(at):
            yield with_ops(made, ops)
            return
        taken = [earlier[place] for place in at.tolist()]
        # What did not fit was given up when it came: nobody has it to take back.
        back, fits = self._columns(taken, taken, picked_times(times, at), Rejects(SKIP))
        if back is None:
            yield with_ops(made, ops)
            return
        at = at if fits is None else at[fits]
        of = np.concatenate([at, np.arange(len(ops))])
        order = stable_order(2 * of + (np.arange(len(of)) >= len(at)))
        both = pa.concat_batches([back.record, made.record]).take(pa.array(order))
        kinds = np.concatenate([np.full(len(at), UPDATE_BEFORE, np.int8), ops])
        yield from bounded(with_ops(Columns(both), kinds[order]), self._step)

    def _fold(self, rows: list[Any], keys: Keys, times: Int64s | None) -> Int64s | None:
        function, states = self._function.call, self._states
        get = states.get
        left = iter(rows)
        pairs = zip(left, keys, strict=True)

        def loop() -> None:
            # A loop over rows: each calls the user's function with what the one before made.
            for row, key in pairs:
                before = get(key, _NONE_YET)
                states[key] = row if before is _NONE_YET else function(before, row)

        return self._run(loop, rows, left, times)

    def _run(
        self, loop: Callable[[], None], rows: list[Any], left: object, times: Int64s | None
    ) -> Int64s | None:
        """Run a loop over rows; give those that did not fail, None: all."""
        operator, where = self._spec.operator, self._spec.where
        lost = each_row(loop, rows, left, times, self._errors, operator=operator, where=where)
        return without(len(rows), lost)

    def _columns(
        self, values: list[Any], rows: list[Any], times: Int64s | None, rejects: Rejects
    ) -> tuple[Columns | None, Int64s | None]:
        assert self._output is not None, "changes are those of columns"
        operator, where = self._spec.operator, self._spec.where
        return columns_of(
            values, self._output, rows, times, rejects, operator=operator, where=where
        )

    def _newest(self) -> Iterator[Batch]:
        while self._touched:
            keys, times = self._touched.take(self._step)
            values = [own_copy(self._states[key]) for key in keys]
            yield from self._batch(values, values, times)

    def _batch(self, values: list[Any], rows: list[Any], times: Int64s | None) -> Iterator[Batch]:
        spec, errors = self._spec, self._errors
        made = make_batch(
            values, self._output, rows, times, errors, operator=spec.operator, where=spec.where
        )
        if made is not None:
            yield made
