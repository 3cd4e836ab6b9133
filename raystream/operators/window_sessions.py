"""The live sessions of one key: which of them a row joins, and what becomes of those it bridges.

Sessions that overlap or touch are one. What a session holds stays under the bounds of the first
window that it was (its home) however it grows, so that growing moves nothing.
Source: Akidau et al., The Dataflow Model, VLDB 2015, §2.2; Flink's MergingWindowSet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raystream.contracts.state import ValueState
from raystream.keyed.handles import ValueHandle
from raystream.keyed.store import KeyedStore
from raystream.operators.window_assign import Bounds

Live = tuple[Bounds, Bounds]
"""A session and its home."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The session that a row lies in, and those that it has made one, in order of time."""

    session: Bounds
    home: Bounds
    merged: tuple[Live, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether the session was there already, as it is."""
        return len(self.merged) == 1 and self.merged[0][0] == self.session


class Sessions:
    """The live sessions of the store's current key."""

    def __init__(self, store: KeyedStore) -> None:
        self._live: ValueHandle = store.register(ValueState("window:sessions"))

    def join(self, row: Bounds) -> Joined:
        """Say which session a row's own window becomes part of; nothing is written."""
        live: list[Live] = self._live.value() or []
        near = [one for one in live if one[0][0] <= row[1] and row[0] <= one[0][1]]
        if not near:
            return Joined(row, row)
        near.sort()
        start = min(row[0], near[0][0][0])
        end = max(row[1], *(one[0][1] for one in near))
        return Joined((start, end), near[0][1], tuple(near))

    def write(self, joined: Joined) -> None:
        """Put a session in the place of those it was made of."""
        live: list[Live] = self._live.value() or []
        rest = [one for one in live if one not in joined.merged]
        self._live.update([*rest, (joined.session, joined.home)])

    def home(self, session: Bounds) -> Bounds | None:
        """Give the home of a session; None where it is no more."""
        live: Any = self._live.value() or ()
        return next((home for one, home in live if one == session), None)

    def drop(self, session: Bounds) -> None:
        """Forget a session."""
        rest = [one for one in self._live.value() or () if one[0] != session]
        self._live.update(rest or None)
