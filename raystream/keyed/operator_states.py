"""State of a subtask that belongs to no key: lists that are dealt out, and broadcast dicts."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow as pa

from raystream.contracts.state import (
    BroadcastState,
    OperatorDescriptor,
    OperatorListState,
    check_same,
    shape,
)
from raystream.errors import RestoreRefused, UserError
from raystream.keyed.handles import ListHandle, MapHandle, Place
from raystream.keyed.snapshot import Section, Share, Snapshot
from raystream.keyed.state_rows import StateRows
from raystream.keyed.value_type import ValueType

PREFIX = "operator_state:"
"""The section of a state is named by this and its name."""

_HERE = None
"""The one place of a state that belongs to no key."""

OperatorHandle: TypeAlias = ListHandle | MapHandle


class OperatorStates:
    """States by name; ``operator`` is named in errors."""

    def __init__(self, operator: str = "") -> None:
        self._operator = operator
        self._states: dict[str, _State] = {}
        self._waiting: dict[str, Section] = {}

    def register(self, descriptor: Any) -> Any:
        """Give the handle of a state: a list's ``get add update clear``, or a ``MapState``'s.

        Raises: UserError for a name that has another kind or type already.
        """
        if not isinstance(descriptor, OperatorDescriptor):
            raise UserError(
                f"{descriptor!r:.200} is no state of an operator",
                hint="without keys there are OperatorListState, UnionListState, BroadcastState",
            )
        known = self._states.get(descriptor.name)
        if known is not None:
            check_same(known.descriptor, descriptor)
            return known.handle
        state = self._states[descriptor.name] = _State(descriptor, self._operator)
        kept = self._waiting.pop(descriptor.name, None)
        if kept is not None:
            state.read(kept)
        return state.handle

    def snapshot(self) -> list[Section]:
        """Give a section for each state, shared as the state is."""
        return [state.write() for state in self._states.values()] + list(self._waiting.values())

    def restore(self, snapshot: Snapshot) -> None:
        """Take up what was kept; states that nobody has registered wait until somebody does."""
        for one in snapshot:
            if one.name.startswith(PREFIX):
                name = one.name.removeprefix(PREFIX)
                if name in self._states:
                    self._states[name].read(one)
                else:
                    self._waiting[name] = one


class _State:
    """One state: its cells have the one slot ``_HERE``."""

    def __init__(self, descriptor: OperatorDescriptor, operator: str) -> None:
        self.descriptor = descriptor
        self._cells: dict[Any, Any] = {}
        at = Place()
        at.slot = _HERE
        values = ValueType(descriptor.type, descriptor.name, operator)
        keys = ValueType(getattr(descriptor, "key_type", None), descriptor.name, operator)
        self.handle: OperatorHandle
        # Each element of a list is a row, so that rows can be dealt out.
        if isinstance(descriptor, BroadcastState):
            self._share = Share.BROADCAST
            self._rows = StateRows("map", keys, values, expires=False, make=dict)
            self.handle = MapHandle(self._cells, at, keys, values, dict)
        else:
            split = isinstance(descriptor, OperatorListState)
            self._share = Share.SPLIT if split else Share.UNION
            self._rows = StateRows("value", keys, values, expires=False, make=list)
            self.handle = ListHandle(self._cells, at, values, list)

    def write(self) -> Section:
        if self._share is Share.BROADCAST:
            _, columns = next(self._rows.write(self._cells))
        else:
            elements: list[Any] = self._cells.get(_HERE, [])
            _, columns = next(self._rows.write(dict(enumerate(elements))))
        return Section(PREFIX + self.descriptor.name, pa.table(columns), self._share)

    def read(self, kept: Section) -> None:
        if kept.share is not self._share:
            raise RestoreRefused(
                f'state "{self.descriptor.name}" is {shape(self.descriptor)}, but was kept as one '
                f"that is shared by {kept.share.value}",
                hint="declare the state as it was, or give the new one another name",
            )
        count = kept.table.num_rows
        if self._share is Share.BROADCAST:
            self._rows.read(kept.table, [_HERE] * count, self._cells, 0)
            return
        found: dict[Any, Any] = {}
        self._rows.read(kept.table, range(count), found, 0)
        if found:
            self._cells[_HERE] = [*self._cells.get(_HERE, []), *found.values()]
