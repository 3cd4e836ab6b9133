"""The state of a process function: of the key in hand, of the subtask, or alike in all subtasks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, NoReturn

from raystream.contracts.context import OpenContext
from raystream.contracts.state import (
    BroadcastState,
    Descriptor,
    KeyedDescriptor,
    OperatorDescriptor,
    check_same,
    shape,
)
from raystream.errors import UserError
from raystream.keyed.handles import ListHandle, MapHandle, ValueHandle
from raystream.keyed.key_form import KeyForm
from raystream.keyed.operator_states import OperatorStates
from raystream.keyed.snapshot import Section, Snapshot, section
from raystream.keyed.store import PREFIX, KeyedStore
from raystream.keyed.timers import Timers


class _NoKey:
    """Stands where the current key would: looking its values up is an error that says why."""

    def __hash__(self) -> NoReturn:
        raise UserError(
            "there is no key here, and keyed state is of a key",
            hint="read and write it in process() and on_timer(), which have one",
        )


_NO_KEY: Final = _NoKey()


class ProcessState:
    """What ``ctx.state(descriptor)`` gives, and what is kept of it.

    ``keys`` None: rows have no key, so there is no keyed state, and no ``timers``. With ``shared``
    a broadcast state is read-only unless ``writable``.
    """

    def __init__(self, keys: KeyForm | None, ctx: OpenContext, *, shared: bool) -> None:
        self.writable = False
        self._keys = keys
        self._shared = shared
        self._store: KeyedStore | None = None
        self.timers: Timers | None = None
        self._descriptors: dict[str, Descriptor] = {}
        self._subtask = OperatorStates(ctx.operator)
        if keys is not None:
            self._store = KeyedStore.of(keys, ctx)
            self.timers = self._store.timers()
        self.select = no_key if self._store is None else self._store.select
        self.deselect()

    def deselect(self) -> None:
        """Let no key be in hand."""
        self.select(_NO_KEY, None)

    def register(self, descriptor: Any) -> Any:
        """Give the handle of a state.

        Raises: UserError for keyed state without keys, and for a name that is two things.
        """
        if not isinstance(descriptor, Descriptor):
            raise UserError(
                f"{descriptor!r:.200} describes no state",
                hint='write ctx.state(rs.ValueState("total", default=0))',
            )
        check_same(self._descriptors.setdefault(descriptor.name, descriptor), descriptor)
        if isinstance(descriptor, OperatorDescriptor):
            handle = self._subtask.register(descriptor)
            if isinstance(descriptor, BroadcastState) and self._shared:
                return SharedMap(handle, self)
            return handle
        if self._store is None:
            raise UserError(
                f'state "{descriptor.name}" is {shape(descriptor)}, and the rows here have no key',
                hint="key_by(…) the stream (both, of two that are connected), or take "
                "OperatorListState, UnionListState or BroadcastState",
            )
        return self._store.register(descriptor)

    @property
    def names(self) -> list[str]:
        return list(self._descriptors)

    def present(self, name: str) -> Any:
        """Give the values that a state has now: by key, or, without keys, as they are.

        Raises: UserError for a name that no state has.
        """
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            known = ", ".join(f'"{one}"' for one in self._descriptors) or "none"
            raise UserError(f'there is no state "{name}". There is: {known}')
        if isinstance(descriptor, OperatorDescriptor):
            return _value(self._subtask.register(descriptor))
        assert self._store is not None, "keyed state has a store"
        return _by_key(self._store, self._keys, descriptor)

    def snapshot(self) -> list[Section]:
        kept = self._subtask.snapshot()
        if self._store is not None and self.timers is not None:
            kept += self._store.snapshot() + self.timers.snapshot()
        return kept

    def changes(self) -> list[Section]:
        kept = self._subtask.snapshot()
        if self._store is not None and self.timers is not None:
            kept += self._store.changes() + self.timers.changes()
        return kept

    def restore(self, snapshot: Snapshot) -> None:
        if self._store is not None and self.timers is not None:
            self._store.restore(snapshot)
            self.timers.restore(snapshot)
        self._subtask.restore(snapshot)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


class SharedMap:
    """Broadcast state as its function sees it: written for broadcast rows alone."""

    __slots__ = ("_map", "_state", "contains", "get", "is_empty", "items", "keys", "values")

    def __init__(self, handle: MapHandle, state: ProcessState) -> None:
        self._map, self._state = handle, state
        self.get, self.contains, self.is_empty = handle.get, handle.contains, handle.is_empty
        self.keys, self.values, self.items = handle.keys, handle.values, handle.items

    def put(self, key: Any, value: Any) -> None:
        """Set the value of a key."""
        self._check()
        self._map.put(key, value)

    def remove(self, key: Any) -> None:
        """Forget a key, if it is there."""
        self._check()
        self._map.remove(key)

    def clear(self) -> None:
        """Forget all keys."""
        self._check()
        self._map.clear()

    def __getitem__(self, key: Any) -> Any:
        return self._map[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        self._check()
        del self._map[key]

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def __iter__(self) -> Any:
        return iter(self._map)

    def __len__(self) -> int:
        return len(self._map)

    def _check(self) -> None:
        if not self._state.writable:
            raise UserError(
                "broadcast state is read-only here: each subtask sees other rows, and it is the "
                "same in all of them",
                hint="write it in process_broadcast()",
            )


def no_key(key_id: Hashable, key: Any) -> None:
    """Select no key where there is none."""


def _by_key(store: KeyedStore, keys: KeyForm | None, descriptor: KeyedDescriptor) -> dict[Any, Any]:
    table = section(tuple(store.snapshot()), PREFIX + descriptor.name)
    assert table is not None, "a state has a section"
    assert keys is not None, "a store has a form of keys"
    handle, found = store.register(descriptor), {}
    # A list and a map have a row for each element: their key comes more than once.
    for key_id, key in zip(*keys.read(table), strict=True):
        store.select(key_id, key)
        found[key] = _value(handle)
    store.select(_NO_KEY, None)
    return found


def _value(handle: Any) -> Any:
    if isinstance(handle, MapHandle):
        return dict(handle.items())
    if isinstance(handle, ListHandle):
        return handle.get()
    return handle.value() if isinstance(handle, ValueHandle) else handle.get()
