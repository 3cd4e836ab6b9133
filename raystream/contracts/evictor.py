"""Which rows of a window its function sees: the contract of evictors."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raystream.contracts.trigger import Span


@dataclass(frozen=True, slots=True)
class Gathered:
    """A row of a window; ``timestamp`` is its event time in epoch microseconds, or None."""

    row: Any
    timestamp: int | None
    arrival: int


class Evictor(abc.ABC):
    """Chooses which rows of a window stay. One instance serves all keys and windows.

    Rows are in order of arrival, and what is left out is gone: the next firing does not see it.
    """

    @abc.abstractmethod
    def before(self, rows: Sequence[Gathered], window: Span) -> Sequence[Gathered]:
        """Give the rows that stay; called when the window fires, before its function."""

    def after(self, rows: Sequence[Gathered], window: Span) -> Sequence[Gathered]:
        """Give the rows that stay behind the function."""
        return rows
