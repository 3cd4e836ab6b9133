"""Regular joins by hand: two lists of rows, and loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from conformance import plain

from raystream.api.columns import StreamColumns
from raystream.api.join_checks import join_plan
from raystream.api.regular_joins import gives_changes
from raystream.flow.batch import NO_TIME, visible_schema
from raystream.flow.changes import OP, UPDATE_AFTER
from raystream.graph.logical import LogicalNode, StreamType
from raystream.operators.join_plan import JoinPlan


def columns_of(name: str, wire: pa.Schema) -> StreamColumns:
    """Give a stream of a wire schema, as the checks of a join see it."""
    visible = visible_schema(wire)
    changelog = tuple(visible.names) if OP in wire.names else None
    type = StreamType(visible, "__ts" in wire.names, changelog)
    return StreamColumns(LogicalNode("source", None, type, (), "job.py:1", name), "join", "here")


def regular_plan(
    how: str, left: pa.Schema, right: pa.Schema, on: tuple[str, ...], right_on: tuple[str, ...] = ()
) -> JoinPlan:
    """Plan a regular join of streams of two wire schemas."""
    sides = columns_of("l", left), columns_of("r", right)
    types = sides[0].type, sides[1].type
    timed = types[0].timed or types[1].timed
    changes = gives_changes(*types, how)
    keys = (on, right_on or on)
    return join_plan(*sides, keys, how, "_right", timed=timed, changes=changes)


@dataclass(eq=False)
class Kept:
    """A row that came, and whether it has met a partner."""

    time: int | None
    row: dict[str, Any]
    came_us: int
    met: bool = False
    gone: bool = False


Out = tuple[Any, str, dict[str, Any]]
"""(event time, +I or -D, row)."""


@dataclass(eq=False)
class JoinModel:
    """Takes rows one by one, each with its kind, and gives what comes out for each."""

    plan: JoinPlan
    ttl_us: int | None = None
    key_of: Callable[[Any], Any] = field(default=plain)
    now_us: int = 0
    unknown: int = 0

    def __post_init__(self) -> None:
        self.sides: tuple[list[Kept], list[Kept]] = ([], [])
        self.timed = "__ts" in self.plan.output.names

    def take(self, port: int, time: int | None, row: dict[str, Any]) -> Iterator[Out]:
        """Take one row; its kind is in the column of kinds, if there is one."""
        row = dict(row)
        op = row.pop(OP, UPDATE_AFTER)
        self._expire()
        key = self._key(port, row)
        if None in key:
            yield from self._alone(port, time, row, removes=op in (1, 3))
        elif op in (1, 3):
            yield from self._remove(port, time, row, key)
        else:
            yield from self._add(port, Kept(time, row, self.now_us), key)

    def _expire(self) -> None:
        if self.ttl_us is not None:
            for side in self.sides:
                side[:] = [one for one in side if self.now_us - one.came_us < self.ttl_us]

    def _key(self, port: int, row: dict[str, Any]) -> tuple[Any, ...]:
        names = self.plan.right_keys if port else self.plan.left_keys
        return tuple(None if row[name] is None else self.key_of(row[name]) for name in names)

    def _partners(self, port: int, key: tuple[Any, ...]) -> list[Kept]:
        return [one for one in self.sides[port] if self._key(port, one.row) == key]

    def _add(self, port: int, new: Kept, key: tuple[Any, ...]) -> Iterator[Out]:
        how, others = self.plan.how, self._partners(1 - port, key)
        if not self._partners(port, key):
            for other in others:
                if not other.met:
                    other.met = True
                    yield from self._turn(1 - port, other, new.time, met=True)
        new.met = bool(others)
        self.sides[port].append(new)
        if how in ("semi", "anti"):
            if port == 0 and new.met == (how == "semi"):
                yield self._out("+I", new.time, new.row, None)
        elif others:
            for other in others:
                yield self._pair("+I", port, new, other)
        else:
            yield from self._alone(port, new.time, new.row, removes=False)

    def _remove(
        self, port: int, time: int | None, row: dict[str, Any], key: tuple[Any, ...]
    ) -> Iterator[Out]:
        how, others = self.plan.how, self._partners(1 - port, key)
        there = [one for one in self._partners(port, key) if plain(one.row) == plain(row)]
        if not there:
            self.unknown += 1
            return
        self.sides[port].remove(there[0])
        gone = Kept(time, row, 0, there[0].met)
        if how in ("semi", "anti"):
            if port == 0 and gone.met == (how == "semi"):
                yield self._out("-D", time, row, None)
        elif others:
            for other in others:
                yield self._pair("-D", port, gone, other)
        elif not gone.met:
            yield from self._alone(port, time, row, removes=True)
        if not self._partners(port, key):
            for other in others:
                other.met = False
                yield from self._turn(1 - port, other, time, met=False)

    def _alone(
        self, port: int, time: int | None, row: dict[str, Any], *, removes: bool
    ) -> Iterator[Out]:
        if self.plan.keeps_right if port else self.plan.keeps_left:
            rows = (None, row) if port else (row, None)
            yield self._out("-D" if removes else "+I", time, *rows)

    def _turn(self, port: int, one: Kept, time: int | None, *, met: bool) -> Iterator[Out]:
        semi = self.plan.how == "semi" and port == 0
        if not semi and not (self.plan.keeps_right if port else self.plan.keeps_left):
            return
        op = "+I" if met == semi else "-D"
        own = op == "+I" and not semi
        rows = (None, one.row) if port else (one.row, None)
        yield self._out(op, one.time if own else later(one.time, time), *rows)

    def _pair(self, op: str, port: int, one: Kept, other: Kept) -> Out:
        rows = (other.row, one.row) if port else (one.row, other.row)
        return self._out(op, later(one.time, other.time), *rows)

    def _out(
        self, op: str, time: int | None, left: dict[str, Any] | None, right: dict[str, Any] | None
    ) -> Out:
        if self.timed and time is None:
            time = NO_TIME
        return (time if self.timed else None, op, joined(self.plan, left, right))


def later(one: int | None, other: int | None) -> int | None:
    """Give the later of two times, either of which may be none."""
    return other if one is None else one if other is None else max(one, other)


def joined(
    plan: JoinPlan, left: dict[str, Any] | None, right: dict[str, Any] | None
) -> dict[str, Any]:
    """Put two rows side by side; None: nothing but nulls."""
    names = visible_schema(plan.left).names
    row = dict.fromkeys(names) if left is None else dict(left)
    if left is None and right is not None:
        keys = zip(plan.left_keys, plan.right_keys, strict=True)
        row |= {name: right[other] for name, other in keys}
    return row | {to: None if right is None else right[name] for name, to in plan.kept}


def table_of(
    plan: JoinPlan, lefts: list[dict[str, Any]], rights: list[dict[str, Any]]
) -> Counter[Any]:
    """Join two tables from scratch."""
    out: list[dict[str, Any]] = []

    def fits(left: dict[str, Any], right: dict[str, Any]) -> bool:
        pairs = zip(plan.left_keys, plan.right_keys, strict=True)
        return all(left[a] is not None and plain(left[a]) == plain(right[b]) for a, b in pairs)

    for left in lefts:
        matches = [right for right in rights if fits(left, right)]
        if plan.left_only:
            out += [joined(plan, left, None)] * (bool(matches) == (plan.how == "semi"))
            continue
        out += [joined(plan, left, right) for right in matches]
        if not matches and plan.keeps_left:
            out.append(joined(plan, left, None))
    for right in rights if plan.keeps_right else ():
        if not any(fits(left, right) for left in lefts):
            out.append(joined(plan, None, right))
    return Counter(map(plain, out))
