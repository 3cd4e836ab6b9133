"""A look at the rows that leave one operator, while somebody asks for it.

A chain without a tap pays one comparison a batch. The thread that runs the chain puts rows in,
another takes them out once the tap is off again.
"""

from __future__ import annotations

from raystream.flow.batch import Batch

_BATCHES_MAX = 64


class Tap:
    """Keeps the first rows that leave an operator, of a few batches."""

    def __init__(self, operator: int, rows_max: int) -> None:
        self._operator = operator
        self._left = rows_max
        self._kept: list[Batch] = []  # bounded by _BATCHES_MAX

    def take(self, operator: int, batch: Batch) -> None:
        """Keep rows of a batch that leaves an operator of the chain, by its place in it."""
        if operator == self._operator and not self.full:
            count = min(self._left, batch.num_rows)
            self._kept.append(batch.slice(0, count))
            self._left -= count

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return self._left <= 0 or len(self._kept) >= _BATCHES_MAX

    @property
    def kept(self) -> tuple[Batch, ...]:
        """What was taken so far."""
        return tuple(self._kept)
