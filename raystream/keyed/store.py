"""The keyed state of one operator in one subtask: every state of the current key, by handles."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import pyarrow as pa

from raystream.clock import Clock
from raystream.config import Limits
from raystream.contracts.aggregate import Aggregate
from raystream.contracts.context import OpenContext
from raystream.contracts.state import (
    AggregatingState,
    Descriptor,
    KeyedDescriptor,
    ListState,
    MapState,
    ReducingState,
    ValueState,
    check_same,
    shape,
    ttl_us,
)
from raystream.errors import UserError
from raystream.keyed.disk import Disk
from raystream.keyed.disk_timers import DiskTimers
from raystream.keyed.handles import (
    AggregatingHandle,
    Cells,
    Handle,
    ListHandle,
    MapHandle,
    Place,
    ReducingHandle,
    ValueHandle,
)
from raystream.keyed.key_form import KeyForm
from raystream.keyed.namespaces import NAMESPACE, read_namespaces, write_namespaces
from raystream.keyed.object_accumulators import Own, object_accumulator
from raystream.keyed.snapshot import KEY_GROUP, Section, Share, Snapshot, keyed_section
from raystream.keyed.state_cells import container, disk_cells, memory_cells
from raystream.keyed.state_rows import Layout, Rows, StateRows
from raystream.keyed.timers import Timers
from raystream.keyed.touched import Lineage
from raystream.keyed.value_type import ValueType

PREFIX = "state:"
"""The section of a state is named by this and its name."""

_ARRIVALS = "state_arrivals"


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    descriptor: KeyedDescriptor
    namespaced: bool
    rows: StateRows
    cells: Any
    handle: Handle
    lineage: Lineage


class KeyedStore:
    """States by name; ``select`` says whose values the handles read and write.

    ``operator`` is named in errors.
    """

    def __init__(
        self,
        keys: KeyForm,
        clock: Clock,
        max_parallelism: int,
        backend: str = "memory",
        folder: str | None = None,
        *,
        operator: str = "",
        cached_values_max: int = Limits().state_cached_values_max,
    ) -> None:
        assert backend in ("memory", "disk"), f"no backend {backend}"
        self._on_disk, self._folder = backend == "disk", folder
        self._disk: Disk | None = None
        self._cached_values_max = cached_values_max
        self._keys, self._clock, self._operator = keys, clock, operator
        self._max_parallelism = max_parallelism
        self._states: dict[str, _State] = {}
        self._waiting: dict[str, pa.Table] = {}
        self._waiting_given: set[str] = set()
        self._arrivals = 0
        self._plain, self._spaced = Place(), Place()
        self._namespace: Hashable | None = None
        self._any_spaced = False

    @classmethod
    def of(cls, keys: KeyForm, ctx: OpenContext) -> KeyedStore:
        """Make the store of an operator, where the job's configuration wants it."""
        return cls(
            keys,
            ctx.clock,
            ctx.max_parallelism,
            ctx.limits.state_backend,
            operator=ctx.operator,
            cached_values_max=ctx.limits.state_cached_values_max,
        )

    def timers(self) -> Timers:
        """Make timers for the same keys, which live where the state does."""
        if not self._on_disk:
            return Timers(self._keys, self._max_parallelism)
        return DiskTimers(
            self._keys, self._max_parallelism, self._open_disk(), self._cached_values_max
        )

    def register(self, descriptor: Any, *, namespaced: bool = False) -> Any:
        """Give the handle of a state; its values may come from a snapshot, before or later.

        Raises: UserError for a name that has another kind or type already.
        """
        if not isinstance(descriptor, KeyedDescriptor):
            raise _no_keyed_state(descriptor)
        known = self._states.get(descriptor.name)
        if known is not None:
            check_same(known.descriptor, descriptor)
            assert known.namespaced == namespaced, "a state has namespaces, or none"
            return known.handle
        state = self._make(descriptor, namespaced=namespaced)
        self._states[descriptor.name] = state
        self._any_spaced |= namespaced
        table = self._waiting.pop(descriptor.name, None)
        if table is not None:
            self._take_up(state, table)
        return state.handle

    def select(self, key_id: Hashable, key: Any) -> None:
        """Make a key the current one of all handles; ``key_id`` is its canonical form."""
        self._plain.slot = key_id
        if self._any_spaced:
            self._spaced.slot = (key_id, self._namespace)

    def enter(self, namespace: Hashable | None) -> None:
        """Make a namespace the current one of the handles that have some."""
        self._namespace = namespace
        self._spaced.slot = (self._plain.slot, namespace)

    def plain_cells(self, descriptor: ValueState) -> dict[Any, Any]:
        """Give the values of a state by canonical key, for who writes them by himself.

        He tells the handle which he has touched. Only a state in memory that never ends is a dict.
        """
        cells = self._states[descriptor.name].cells
        assert type(cells) is dict, "a plain state in memory lies in a dict"
        return cells

    def snapshot(self) -> list[Section]:
        """Give a keyed section for each state: key, namespace, what it holds."""
        sections = [self._section(state) for state in self._states.values()]
        sections += [Section(PREFIX + name, table) for name, table in self._waiting.items()]
        return sections + self._arrivals_section()

    def changes(self) -> list[Section]:
        """Give what ``snapshot`` gives, or, of a state, what was written since the last call.

        What has only expired is not told: it is dead by the time of its writing, wherever it is
        read.
        """
        sections = [self._changed(state) for state in self._states.values()]
        for name, table in self._waiting.items():
            # Nobody writes what nobody has registered.
            known = name in self._waiting_given
            part = table.slice(0, 0) if known else table
            sections.append(Section(PREFIX + name, part, delta=known))
        self._waiting_given.update(self._waiting)
        return sections + self._arrivals_section()

    def _arrivals_section(self) -> list[Section]:
        arrivals = self._latest_arrival()
        if not arrivals:
            return []
        table = pa.table({"arrivals": pa.array([arrivals], pa.int64())})
        return [Section(_ARRIVALS, table, Share.UNION)]

    def restore(self, snapshot: Snapshot) -> None:
        """Take up what was kept; states that nobody has registered wait until somebody does."""
        for one in snapshot:
            if one.name == _ARRIVALS:
                self._arrivals = max([self._arrivals, *one.table.column("arrivals").to_pylist()])
                self._hand_on_arrivals()
            elif one.name.startswith(PREFIX):
                name = one.name.removeprefix(PREFIX)
                state = self._states.get(name)
                if state is None:
                    self._waiting[name] = one.table
                else:
                    self._take_up(state, one.table)

    def close(self) -> None:
        """Let go of what is open."""
        self._states.clear()
        self._waiting.clear()
        if self._disk is not None:
            self._disk.close()

    def _section(self, state: _State) -> Section:
        return self._written(state, state.rows.write(state.cells))

    def _changed(self, state: _State) -> Section:
        touched, state.handle.touched = state.handle.touched, set()
        if touched is None or state.lineage.wants_whole(len(touched)):
            return state.lineage.given(self._section(state))
        some = state.rows.write_some(state.cells, touched)
        return state.lineage.given(self._written(state, [some], delta=True))

    def _written(self, state: _State, pieces: Iterable[Rows], *, delta: bool = False) -> Section:
        tables, hashes = [], []
        for slots, columns in pieces:
            ids = [slot[0] for slot in slots] if state.namespaced else slots
            keys, hashed = self._keys.write(ids)
            if state.namespaced:
                keys |= write_namespaces([slot[1] for slot in slots])
            tables.append(pa.table(keys | columns))
            hashes.append(hashed)
        name, table = PREFIX + state.descriptor.name, pa.concat_tables(tables)
        key = self._keys.names + (NAMESPACE if state.namespaced else ()) + state.rows.key
        groups = self._max_parallelism
        return keyed_section(name, table, np.concatenate(hashes), groups, key, delta=delta)

    def _take_up(self, state: _State, table: pa.Table) -> None:
        ids, _ = self._keys.read(table)
        slots: list[Any] = ids
        if state.namespaced:
            slots = list(zip(ids, read_namespaces(table), strict=True))
        state.rows.read(table.drop_columns(KEY_GROUP), slots, state.cells, self._clock.now_us())

    def _latest_arrival(self) -> int:
        handles = [state.handle for state in self._states.values()]
        each = [one.arrivals for one in handles if isinstance(one, AggregatingHandle)]
        return max([self._arrivals, *each])

    def _hand_on_arrivals(self) -> None:
        for state in self._states.values():
            if isinstance(state.handle, AggregatingHandle):
                state.handle.arrivals = max(state.handle.arrivals, self._arrivals)

    def _make(self, descriptor: KeyedDescriptor, *, namespaced: bool) -> _State:
        lives_us, name = ttl_us(descriptor), descriptor.name
        values = ValueType(descriptor.type, name, self._operator)
        keys = ValueType(getattr(descriptor, "key_type", None), name, self._operator)
        at = self._spaced if namespaced else self._plain
        layout = _layout(descriptor)
        cells = self._cells(layout, lives_us, namespaced=namespaced)
        make = container(layout, self._clock, lives_us)
        handle: Handle
        match descriptor:
            case ValueState(default=default):
                handle = ValueHandle(cells, at, values, default)
            case ReducingState(fn=function):
                handle = ReducingHandle(cells, at, values, function)
            case AggregatingState():
                handle = _aggregating(descriptor, cells, at, values)
                handle.arrivals = self._arrivals
            case ListState():
                handle = ListHandle(cells, at, values, make)
            case MapState():
                handle = MapHandle(cells, at, keys, values, make)
            case _:
                assert_never(descriptor)
        rows = StateRows(layout, keys, values, lives_us is not None, make)
        return _State(descriptor, namespaced, rows, cells, handle, Lineage())

    def _cells(self, layout: Layout, lives_us: int | None, *, namespaced: bool) -> Cells:
        if not self._on_disk:
            return memory_cells(self._clock, lives_us)
        return disk_cells(self._open_disk(), layout, self._clock, lives_us, namespaced=namespaced)

    def _open_disk(self) -> Disk:
        if self._disk is None:
            self._disk = Disk(self._folder, self._max_parallelism, self._cached_values_max)
        return self._disk


def _layout(descriptor: KeyedDescriptor) -> Layout:
    if isinstance(descriptor, ListState):
        return "list"
    return "map" if isinstance(descriptor, MapState) else "value"


def _aggregating(
    descriptor: AggregatingState, cells: Cells, at: Place, values: ValueType
) -> AggregatingHandle:
    aggregate = descriptor.aggregate
    if isinstance(aggregate, Aggregate):
        return AggregatingHandle(cells, at, values, object_accumulator(descriptor.name, aggregate))
    return AggregatingHandle(cells, at, values, Own(aggregate))


def _no_keyed_state(descriptor: Descriptor | Any) -> UserError:
    if isinstance(descriptor, Descriptor):
        return UserError(
            f'state "{descriptor.name}" is {shape(descriptor)}, which belongs to no key',
            hint="keyed are ValueState, ListState, MapState, ReducingState, AggregatingState",
        )
    return UserError(
        f"{descriptor!r:.200} describes no state",
        hint='write ctx.state(rs.ValueState("total", default=0))',
    )
