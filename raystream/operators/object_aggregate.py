"""Aggregate Python rows per key, without windows: dicts of the key and the values so far."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from typing import Any

from raystream.contracts.aggregate import Aggregate
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch, Int64s, Objects
from raystream.flow.key import canonical_keys
from raystream.keyed.key_rows import ChangedRows, key_rows, read_key_rows
from raystream.keyed.object_accumulators import object_accumulator
from raystream.keyed.snapshot import Snapshot, arrival_section, restored_arrival
from raystream.operators.emitting import EmittingOperator
from raystream.operators.keyed_rows import Touched, each_result, each_row
from raystream.operators.rejecting import picked_times, without


@dataclass(frozen=True, eq=False)
class ObjectAggregateSpec:
    """Dicts of the key and the aggregates, as they are after each row, batch, or all input.

    ``emit`` is as in ``RunningAggregateSpec``. ``key_names`` name the key in the dicts: one name,
    or one for each part of keys that are tuples.
    Raises: PlanError where an aggregate has a column expression.
    """

    aggregates: tuple[tuple[str, Aggregate], ...]
    emit: str
    key_names: tuple[str, ...]
    operator: str
    where: str

    def __post_init__(self) -> None:
        # Made for its checks: an expression is refused before any actor starts.
        for name, aggregate in self.aggregates:
            object_accumulator(name, aggregate)

    @property
    def verb(self) -> str:
        return "aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(f"{name}={aggregate.kind}" for name, aggregate in self.aggregates)
        return f"by {', '.join(self.key_names)}: {aggregates}  emit={self.emit}"

    def build(self) -> ObjectAggregate:
        return ObjectAggregate(self)


class ObjectAggregate(EmittingOperator):
    """The operator of one subtask; its state is (key, accumulators) by canonical key."""

    def __init__(self, spec: ObjectAggregateSpec) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._names = [name for name, _ in spec.aggregates]
        rules = [object_accumulator(name, aggregate) for name, aggregate in spec.aggregates]
        self._creates = [rule.create for rule in rules]
        self._adds = list(enumerate(rule.add for rule in rules))
        self._results = [rule.result for rule in rules]
        self._states: dict[Hashable, tuple[Any, list[Any]]] = {}
        self._touched, self._changed = Touched(), ChangedRows("states")
        self._arrived = 0

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors
        self._step = ctx.limits.batch_rows_max
        self._max_parallelism = ctx.max_parallelism

    def restore(self, snapshot: Snapshot) -> None:
        kept = sorted(read_key_rows(snapshot, "states"), key=lambda pair: pair[1][0])
        self._states = {key_id: (key, accs) for key_id, (_, key, accs, _) in kept}
        if self._spec.emit == "final":
            self._touched.restore({key_id: time_us for key_id, (_, _, _, time_us) in kept})
        self._arrived = restored_arrival(snapshot)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        assert isinstance(batch, Objects), "the stream is one of objects"
        for start in range(0, batch.num_rows, self._step):
            part = batch.slice(start, self._step)
            assert part.keys is not None, "a keyed object stream carries its keys"
            keys = canonical_keys(part.keys)
            self._changed.mark(keys)
            out, kept = self._add(part, keys, each=self._spec.emit == "row")
            times = picked_times(part.timestamps, kept)
            if self._spec.emit != "row":
                added = keys if kept is None else [keys[index] for index in kept.tolist()]
                self._touched.note(added, times)
            elif out:
                yield Objects(out, times)
        if self._spec.emit == "batch":
            yield from self._newest()

    def on_end(self) -> Iterator[Batch]:
        # Begun at the MAX watermark, so that windows behind this operator still take the rows.
        return self._newest() if self._spec.emit == "final" else iter(())

    def snapshot(self) -> Snapshot:
        if self._spec.emit != "final":
            rows = ((key_id, self._kept(key_id)) for key_id in self._states)
        else:
            # What has gone out at the end is not needed again: no rows come after it.
            every = enumerate(self._touched.times().items())
            rows = ((key_id, (at, *self._states[key_id], us)) for at, (key_id, us) in every)
        kept = key_rows("states", rows, self._max_parallelism)
        return kept, arrival_section(self._arrived)

    def changes(self) -> Snapshot:
        # At the end keys go out in the order in which they came: no delta says so.
        if self._spec.emit == "final":
            return self.snapshot()
        kept = self._changed.section(self._states, self._kept, self._max_parallelism)
        return kept, arrival_section(self._arrived)

    def _kept(self, key_id: Hashable) -> tuple[Any, ...]:
        return 0, *self._states[key_id], None

    def _add(self, part: Objects, ids: Any, *, each: bool) -> tuple[list[Any], Int64s | None]:
        """Take rows in; with ``each``, give the values after each; and which rows did not fail."""
        operator, where = self._spec.operator, self._spec.where
        left = iter(part.values)
        given = part.timestamps
        times: Any = repeat(None) if given is None else given.tolist()
        arrivals = count(self._arrived)
        self._arrived += part.num_rows
        every = zip(left, part.keys or (), ids, times, arrivals)  # noqa: B905  some have no end
        out: list[Any] = []
        loop = partial(self._add_rows, every, out if each else None)
        lost = each_row(
            loop, part.values, left, given, self._errors, operator=operator, where=where
        )
        return out, without(part.num_rows, lost)

    def _add_rows(self, every: Iterator[Any], out: list[Any] | None) -> None:
        get, adds, make = self._states.get, self._adds, self._row
        # A loop over rows: they are Python objects.
        for row, key, key_id, time_us, arrival in every:
            state = get(key_id)
            if state is None:
                state = self._states[key_id] = (key, [create() for create in self._creates])
            accs = state[1]
            # All or none: a row that fails is in no aggregate that it has not changed in place.
            accs[:] = [add(accs[place], row, time_us, arrival) for place, add in adds]
            if out is not None:
                out.append(make(key, accs))

    def _row(self, key: Any, accs: list[Any]) -> dict[str, Any]:
        row = self._named(key)
        for name, result, acc in zip(self._names, self._results, accs, strict=True):
            row[name] = result(acc)
        return row

    def _named(self, key: Any) -> dict[str, Any]:
        names = self._spec.key_names
        return {names[0]: key} if len(names) == 1 else dict(zip(names, key, strict=True))

    def _newest(self) -> Iterator[Batch]:
        operator, where = self._spec.operator, self._spec.where
        while self._touched:
            ids, times = self._touched.take(self._step)
            rows, kept = each_result(
                lambda key_id: self._row(*self._states[key_id]),
                ids,
                lambda key_id: (self._named(self._states[key_id][0]), None),
                self._errors,
                operator=operator,
                where=where,
            )
            yield Objects(rows, picked_times(times, kept))
