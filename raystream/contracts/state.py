"""State as users declare it: a name, what it holds, and how long that lives.

A descriptor is given to ``ctx.state(…)`` in ``open``, which gives the handle that reads and writes.
With ``type=`` (an Arrow type) values are kept as columns that anyone can read; without it they are
pickled. ``ttl=`` is processing time since the last write: what has expired is never seen.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from raystream.contracts.aggregate import Aggregate, AggregateFunction
from raystream.errors import UserError
from raystream.flow.time import Duration, positive


@dataclass(frozen=True, eq=False)
class ValueState:
    """One value a key: ``value()``, ``update(v)``, ``clear()``.

    ``default`` is copied for each key, or called if it can be called. A change to what ``value()``
    gave is kept by ``update()`` only. None is no value.
    """

    name: str
    _: KW_ONLY
    type: pa.DataType | None = None
    default: Any = None
    ttl: Duration | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, eq=False)
class ListState:
    """A list a key: ``get()``, ``add(v)``, ``update(list)``, ``clear()``.

    ``type`` is that of an element, and each element lives for ``ttl``.
    """

    name: str
    _: KW_ONLY
    type: pa.DataType | None = None
    ttl: Duration | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, eq=False)
class MapState:
    """A dict a key: ``m[k]``, ``k in m``, ``get(k)``, ``put(k, v)``, ``remove(k)``, ``items()``.

    Also ``contains(k)``, ``keys()``, ``values()``, ``is_empty()`` and ``clear()``.
    ``key_type`` is the type of its keys, ``type`` that of a value; each entry lives for ``ttl``.
    """

    name: str
    _: KW_ONLY
    key_type: pa.DataType | None = None
    type: pa.DataType | None = None
    ttl: Duration | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, eq=False)
class ReducingState:
    """One value a key, made of all that were added: ``add(v)``, ``get()``, ``clear()``.

    ``fn(so far, added)`` gives the next value; the first that is added is the first value.

    Raises: UserError for an ``fn`` that cannot be called.
    """

    name: str
    fn: Callable[[Any, Any], Any]
    _: KW_ONLY
    type: pa.DataType | None = None
    ttl: Duration | None = None

    def __post_init__(self) -> None:
        _check(self)
        if not callable(self.fn):
            raise UserError(
                f'ReducingState "{self.name}" takes a function of two values, got {self.fn!r}',
                hint='write rs.ReducingState("total", lambda a, b: a + b)',
            )


@dataclass(frozen=True, eq=False)
class AggregatingState:
    """An accumulator a key: ``add(row)``, ``get()``, the result so far, and ``clear()``.

    It is that of ``rs.sum("price")``, say, or of an ``rs.AggregateFunction``; ``rs.first`` and
    ``rs.last`` go by the order of the calls here. ``type`` is the accumulator's; without it the
    accumulator is pickled.

    Raises: UserError for what is no aggregate.
    """

    name: str
    aggregate: Aggregate | AggregateFunction
    _: KW_ONLY
    type: pa.DataType | None = None
    ttl: Duration | None = None

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.aggregate, Aggregate | AggregateFunction):
            raise UserError(
                f'AggregatingState "{self.name}" takes an aggregate, got {self.aggregate!r}',
                hint='give rs.sum("price"), rs.count(), … or an rs.AggregateFunction',
            )


@dataclass(frozen=True, eq=False)
class OperatorListState:
    """A list of a subtask, of no key; dealt out evenly where the parallelism changes."""

    name: str
    _: KW_ONLY
    type: pa.DataType | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, eq=False)
class UnionListState:
    """A list of a subtask, of no key; each subtask that restores has the elements of all."""

    name: str
    _: KW_ONLY
    type: pa.DataType | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, eq=False)
class BroadcastState:
    """A dict that is the same in all subtasks, with the methods of a ``MapState``.

    It is written where the broadcast side is taken, and read only elsewhere.
    """

    name: str
    _: KW_ONLY
    key_type: pa.DataType | None = None
    type: pa.DataType | None = None

    def __post_init__(self) -> None:
        _check(self)


KeyedDescriptor: TypeAlias = ValueState | ListState | MapState | ReducingState | AggregatingState
OperatorDescriptor: TypeAlias = OperatorListState | UnionListState | BroadcastState
Descriptor: TypeAlias = KeyedDescriptor | OperatorDescriptor


def ttl_us(descriptor: KeyedDescriptor) -> int | None:
    """Give how long a value lives after its last write; None: until it is cleared."""
    ttl = descriptor.ttl
    return None if ttl is None else positive(ttl, f'ttl of state "{descriptor.name}"')


def check_same(before: Descriptor, now: Descriptor) -> None:
    """Refuse a name that is used for two different things.

    Raises: UserError naming both.
    """
    if shape(before) != shape(now):
        raise UserError(
            f'state "{now.name}" is {shape(now)}, but was {shape(before)} before',
            hint="give each state of an operator a name of its own",
        )


def shape(descriptor: Descriptor) -> str:
    """Say what a state holds: ``a MapState(key_type=string, type=int64)``."""
    types = [
        f"{name}={kind}"
        for name in ("key_type", "type")
        if (kind := getattr(descriptor, name, None)) is not None
    ]
    name = builtins.type(descriptor).__name__
    article = "an" if name[0] in "AO" else "a"
    return f"{article} {name}({', '.join(types)})" if types else f"{article} {name}"


def _check(descriptor: Descriptor) -> None:
    kind = builtins.type(descriptor).__name__
    name: Any = descriptor.name
    if not isinstance(name, str) or not name:
        raise UserError(f"the first argument of {kind} is its name, got {name!r}")
    for field in ("key_type", "type"):
        given = getattr(descriptor, field, None)
        if given is not None and not isinstance(given, pa.DataType):
            raise UserError(
                f'{kind} "{descriptor.name}": {field} must be an Arrow type, got {given!r}',
                hint="write pa.int64(), pa.string(), …, or leave it out: values are then pickled",
            )
    if isinstance(descriptor, KeyedDescriptor):
        ttl_us(descriptor)
