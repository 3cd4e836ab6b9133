"""Joins by event time in plain Python, row by row."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from conformance import Right, Row, Story, is_batch
from window_models import Assign, Span

from raystream.flow.element import MAX_TIME

Sides: TypeAlias = tuple[list[Row], list[Row]]


def key_of(row: Any, keys: Sequence[str]) -> Hashable:
    """Give the key of a row as what it equals; floats by value, and NaN equals NaN."""
    values = [row[name] for name in keys]
    return tuple("NaN" if value != value else value for value in values)  # noqa: PLR0124  NaN


def matchable(row: Any, keys: Sequence[str]) -> bool:
    return all(row[name] is not None for name in keys)


@dataclass(frozen=True)
class Shape:
    """How rows of two sides make one: the right's columns but for its keys, renamed."""

    how: str
    keys: Sequence[str]
    left: Sequence[str]
    right: dict[str, str]
    """The right's columns that come out, and their names there."""

    def beside(self, left: Any | None, right: Any | None) -> dict[str, Any]:
        if self.how in ("semi", "anti"):
            assert left is not None
            return dict(left)
        row = dict(left) if left is not None else dict.fromkeys(self.left)
        if left is None:
            row |= {name: right[name] for name in self.keys}
        return row | {
            output: None if right is None else right[name] for name, output in self.right.items()
        }

    def join(self, sides: Sides) -> list[Any]:
        """Join the rows of one window and any keys."""
        made = []
        met = set()
        for _, left in sides[0]:
            partners = [
                at
                for at, (_, right) in enumerate(sides[1])
                if matchable(left, self.keys)
                and key_of(left, self.keys) == key_of(right, self.keys)
            ]
            met |= {*partners}
            if self.how == "semi":
                made += [self.beside(left, None)] if partners else []
                continue
            if self.how != "anti":
                made += [self.beside(left, sides[1][at][1]) for at in partners]
            if not partners and self.how in ("left", "full", "anti"):
                made.append(self.beside(left, None))
        if self.how in ("right", "full"):
            rights = enumerate(sides[1])
            made += [self.beside(None, right) for at, (_, right) in rights if at not in met]
        return made


@dataclass
class WindowJoins:
    """What has come out, and how many rows were late; ``assign`` gives the windows of a time."""

    shape: Shape
    assign: Assign
    out: list[Row] = field(default_factory=list)
    late: int = 0
    open: dict[Span, Sides] = field(default_factory=dict)
    time: float = -math.inf

    def tell(self, told: Story, ended: bool) -> WindowJoins:
        for item in told:
            if is_batch(item):
                for row in item:
                    self.take(int(isinstance(item, Right)), row)
            else:
                self.advance(item)
        if ended:
            self.advance(math.inf)
        return self

    def take(self, port: int, row: Row) -> None:
        spans = self.assign(row[0])
        live = [span for span in spans if span[1] - 1 > self.time]
        self.late += bool(spans and not live)
        for span in live:
            self.open.setdefault(span, ([], []))[port].append(row)

    def advance(self, time: float) -> None:
        self.time = max(self.time, time)
        for span in sorted(self.open, key=lambda span: span[1]):
            if span[1] - 1 <= self.time:
                time_us = min(span[1], MAX_TIME) - 1
                self.out += [(time_us, row) for row in self.shape.join(self.open.pop(span))]


@dataclass
class SessionJoins:
    """The same for sessions, which rows of both sides keep open."""

    shape: Shape
    gap: int
    out: list[Row] = field(default_factory=list)
    late: int = 0
    open: dict[Hashable, list[tuple[int, int, Sides]]] = field(default_factory=dict)
    time: float = -math.inf

    tell = WindowJoins.tell

    def take(self, port: int, row: Row) -> None:
        key = key_of(row[1], self.shape.keys)
        start, end = row[0], row[0] + self.gap
        sides: Sides = ([], [])
        apart = []
        for one in self.open.get(key, []):
            if one[0] <= end and start <= one[1]:
                start, end = min(start, one[0]), max(end, one[1])
                sides = (sides[0] + one[2][0], sides[1] + one[2][1])
            else:
                apart.append(one)
        if end - 1 <= self.time:
            self.late += 1
            return
        sides[port].append(row)
        self.open[key] = [*apart, (start, end, sides)]

    def advance(self, time: float) -> None:
        self.time = max(self.time, time)
        for key, sessions in self.open.items():
            for _, end, sides in sessions:
                if end - 1 <= self.time:
                    self.out += [(min(end, MAX_TIME) - 1, row) for row in self.shape.join(sides)]
            self.open[key] = [one for one in sessions if one[1] - 1 > self.time]


@dataclass
class AsOfJoins:
    """The same for the newest row of the right."""

    shape: Shape
    tolerance: float = math.inf
    out: list[Row] = field(default_factory=list)
    late: int = 0
    lefts: list[Row] = field(default_factory=list)
    rights: list[Row] = field(default_factory=list)
    time: float = -math.inf

    tell = WindowJoins.tell

    def take(self, port: int, row: Row) -> None:
        if row[0] <= self.time:
            self.late += 1
            return
        (self.rights if port else self.lefts).append(row)

    def advance(self, time: float) -> None:
        self.time = max(self.time, time)
        for left in sorted(self.lefts, key=lambda row: row[0]):
            if left[0] <= self.time:
                self.out += [(left[0], row) for row in self.match(left)]
        self.lefts = [row for row in self.lefts if row[0] > self.time]

    def match(self, left: Row) -> list[Any]:
        best: Row | None = None
        for right in self.rights:
            near = right[0] <= left[0] and left[0] - right[0] <= self.tolerance
            same = key_of(left[1], self.shape.keys) == key_of(right[1], self.shape.keys)
            if near and same and matchable(left[1], self.shape.keys):
                best = right if best is None or right[0] >= best[0] else best
        if best is None and self.shape.how == "inner":
            return []
        return [self.shape.beside(left[1], None if best is None else best[1])]
