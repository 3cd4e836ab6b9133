"""What functions hold in their hands: state of the current key.

A handle knows the cells of its state and the place of the current key; reading is one attribute and
one look-up. A value of None is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeAlias

from raystream.flow.key import canonical
from raystream.keyed.cells import Expiring, is_simple, maker
from raystream.keyed.disk import DiskCells
from raystream.keyed.disk_views import DiskMaps, ExpiringDiskCells
from raystream.keyed.object_accumulators import ObjectAccumulator
from raystream.keyed.value_type import ValueType

Cells: TypeAlias = dict[Any, Any] | Expiring | DiskCells | ExpiringDiskCells | DiskMaps
"""Values by slot: a key, or a key and a namespace."""

_MISSING: Any = object()

Touched: TypeAlias = set[Any]
"""Slots that were written; of a map, pairs of a slot and a canonical key in it."""


class Place:
    """Where the current key of an operator is found: ``slot`` is its place in all cells."""

    __slots__ = ("slot",)

    def __init__(self) -> None:
        self.slot: Hashable = None


class ValueHandle:
    """One value of the current key."""

    __slots__ = ("_at", "_cells", "_default", "_fit", "_get", "_kinds", "_make", "touched")

    def __init__(self, cells: Cells, at: Place, type: ValueType, default: Any = None) -> None:
        self._cells, self._get, self._at = cells, cells.get, at
        self._kinds, self._fit = type.kinds, type.fit
        self._default = default
        self.touched: Touched | None = None
        self._make = None if is_simple(default) else maker(default)

    def value(self) -> Any:
        """Give the value, or the default; what is changed in it is kept by ``update`` only."""
        found = self._get(self._at.slot)
        if found is not None:
            return found
        return self._default if self._make is None else self._make()

    def update(self, value: Any) -> None:
        """Set the value; None clears it.

        Raises: UserError for a value that is not of the state's type.
        """
        slot = self._at.slot
        if value is None:
            self._cells.pop(slot, None)
        else:
            if self._kinds is not None and type(value) not in self._kinds:
                value = self._fit(value)
            self._cells[slot] = value
        touched = self.touched
        if touched is not None:
            touched.add(slot)

    def clear(self) -> None:
        """Forget the value."""
        self.update(None)

    def touch(self, slots: Iterable[Hashable]) -> None:
        """Mark slots as written, for who writes the cells without the handle."""
        if self.touched is not None:
            self.touched.update(slots)


class ReducingHandle:
    """One value of the current key, made of all that were added."""

    __slots__ = ("_cells", "_function", "_value")

    def __init__(
        self, cells: Cells, at: Place, type: ValueType, function: Callable[[Any, Any], Any]
    ) -> None:
        self._value = ValueHandle(cells, at, type)
        self._function = function

    @property
    def touched(self) -> Touched | None:
        return self._value.touched

    @touched.setter
    def touched(self, touched: Touched) -> None:
        self._value.touched = touched

    def add(self, value: Any) -> None:
        """Make the value of what it was and one more."""
        before = self._value.value()
        self._value.update(value if before is None else self._function(before, value))

    def get(self) -> Any:
        """Give the value; None where nothing was added."""
        return self._value.value()

    def clear(self) -> None:
        """Forget the value."""
        self._value.clear()


class AggregatingHandle:
    """An accumulator of the current key; ``arrivals`` counts what was added to any key."""

    __slots__ = ("_rule", "_value", "arrivals")

    def __init__(self, cells: Cells, at: Place, type: ValueType, rule: ObjectAccumulator) -> None:
        self._value = ValueHandle(cells, at, type)
        self._rule = rule
        self.arrivals = 0

    @property
    def touched(self) -> Touched | None:
        return self._value.touched

    @touched.setter
    def touched(self, touched: Touched) -> None:
        self._value.touched = touched

    def add(self, row: Any) -> None:
        """Take one more row."""
        before = self._value.value()
        if before is None:
            before = self._rule.create()
        self._value.update(self._rule.add(before, row, None, self.arrivals))
        self.arrivals += 1

    def get(self) -> Any:
        """Give the result; None where nothing was added."""
        acc = self._value.value()
        return None if acc is None else self._rule.result(acc)

    def clear(self) -> None:
        """Forget what was added."""
        self._value.clear()


class ListHandle:
    """A list of the current key; ``make`` makes an empty one."""

    __slots__ = ("_at", "_cells", "_fit", "_kinds", "_make", "touched")

    def __init__(self, cells: Cells, at: Place, type: ValueType, make: Callable[[], Any]) -> None:
        self._cells, self._at, self._make = cells, at, make
        self._kinds, self._fit = type.kinds, type.fit
        self.touched: Touched | None = None

    def get(self) -> list[Any]:
        """Give the elements, in a list of the caller's own."""
        found: Any = self._cells.get(self._at.slot)
        return [] if found is None else list(found)

    def add(self, value: Any) -> None:
        """Add one element."""
        if self._kinds is not None and type(value) not in self._kinds:
            value = self._fit(value)
        cells, slot = self._cells, self._at.slot
        found: Any = cells.get(slot)
        if found is None:
            found = self._make()
        found.append(value)
        cells[slot] = found
        if self.touched is not None:
            self.touched.add(slot)

    def update(self, values: Iterable[Any]) -> None:
        """Set the elements; none clears the list."""
        elements = list(values)
        if self._kinds is not None:
            kinds, fit = self._kinds, self._fit
            elements = [one if type(one) in kinds else fit(one) for one in elements]
        if not elements:
            self.clear()
            return
        made = self._make()
        made.extend(elements)
        self._cells[self._at.slot] = made
        if self.touched is not None:
            self.touched.add(self._at.slot)

    def clear(self) -> None:
        """Forget the elements."""
        self._cells.pop(self._at.slot, None)
        if self.touched is not None:
            self.touched.add(self._at.slot)


class MapHandle:
    """A dict of the current key; ``make`` makes an empty one. Its keys are told apart as keys are.

    The dict is by canonical key; one that is not its own canonical form (a float, a tuple) stands
    beside its value.
    """

    __slots__ = ("_at", "_cells", "_keys", "_make", "_values", "touched")

    def __init__(
        self, cells: Cells, at: Place, keys: ValueType, values: ValueType, make: Callable[[], Any]
    ) -> None:
        self._cells, self._at, self._make = cells, at, make
        self._keys, self._values = keys, values
        self.touched: Touched | None = None

    def get(self, key: Any, default: Any = None) -> Any:
        """Give the value of a key, or ``default``."""
        found = self._cells.get(self._at.slot)
        if found is None:
            return default
        name = self._name(key)
        value = found.get(name, _MISSING)
        if value is _MISSING:
            return default
        return value[1] if type(name) is tuple else value

    def put(self, key: Any, value: Any) -> None:
        """Set the value of a key.

        Raises: UserError for a key or value that is not of the state's types, UserFunctionError
        for what cannot be a key.
        """
        kinds = self._values.kinds
        if kinds is not None and type(value) not in kinds:
            value = self._values.fit(value)
        kinds = self._keys.kinds
        if kinds is not None and type(key) not in kinds:
            key = self._keys.fit(key)
        name = key if type(key) is str or type(key) is int else canonical(key)
        cells, slot = self._cells, self._at.slot
        found = cells.get(slot)
        if found is None:
            found = self._make()
        found[name] = (key, value) if type(name) is tuple else value
        cells[slot] = found
        if self.touched is not None:
            self.touched.add((slot, name))

    def remove(self, key: Any) -> None:
        """Forget a key, if it is there."""
        found = self._cells.get(self._at.slot)
        if found is not None:
            name = self._name(key)
            found.pop(name, None)
            if self.touched is not None:
                self.touched.add((self._at.slot, name))
            if type(found) is dict and not found:
                self._cells.pop(self._at.slot, None)

    def contains(self, key: Any) -> bool:
        """Tell whether a key has a value."""
        found = self._cells.get(self._at.slot)
        return found is not None and self._name(key) in found

    def keys(self) -> list[Any]:
        """Give the keys, in a list of the caller's own."""
        return [key for key, _ in self.items()]

    def values(self) -> list[Any]:
        """Give the values, in a list of the caller's own."""
        return [value for _, value in self.items()]

    def items(self) -> list[tuple[Any, Any]]:
        """Give keys and values, in a list of the caller's own."""
        found = self._cells.get(self._at.slot)
        return [] if found is None else entries(found)

    def is_empty(self) -> bool:
        """Tell whether no key has a value."""
        found = self._cells.get(self._at.slot)
        return not found

    def clear(self) -> None:
        """Forget all keys."""
        slot = self._at.slot
        if self.touched is not None and (found := self._cells.get(slot)) is not None:
            names = found if type(found) is dict else [name for name, _ in found.pairs()]
            self.touched.update((slot, name) for name in names)
        self._cells.pop(slot, None)

    def _name(self, key: Any) -> Hashable:
        kinds = self._keys.kinds
        if kinds is not None and type(key) not in kinds:
            key = self._keys.fit(key)
        return key if type(key) is str or type(key) is int else canonical(key)

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self.contains(key):
            raise KeyError(key)
        self.remove(key)

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        found = self._cells.get(self._at.slot)
        return 0 if found is None else len(found)


def entries(found: Any) -> list[tuple[Any, Any]]:
    """Give the keys and values of what a map keeps for one slot."""
    pairs = found.items() if type(found) is dict else found.pairs()
    return [value if type(name) is tuple else (name, value) for name, value in pairs]


Handle: TypeAlias = ValueHandle | ListHandle | MapHandle | ReducingHandle | AggregatingHandle
