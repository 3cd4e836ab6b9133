"""How rows find the subtask they go to: a closed union of exchange strategies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Forward:
    """Subtask i to subtask i; chained into one actor where possible."""

    def __str__(self) -> str:
        return "forward"


@dataclass(frozen=True, slots=True)
class Hash:
    """By key group of the key columns; on an object stream by the keys that the batch carries."""

    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"hash({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Round robin over all subtasks, or, if local, over the subtask's own group of them."""

    local: bool = False

    def __str__(self) -> str:
        return "rebalance(local)" if self.local else "rebalance"


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Each row to a random subtask."""

    def __str__(self) -> str:
        return "shuffle"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Every row to every subtask."""

    def __str__(self) -> str:
        return "broadcast"


@dataclass(frozen=True, slots=True)
class ToOne:
    """Every row to subtask 0."""

    def __str__(self) -> str:
        return "to_one"


@dataclass(frozen=True, slots=True)
class Custom:
    """By the user's function of the row: any int, taken modulo the number of subtasks."""

    function: Callable[[Any], int]
    operator: str
    where: str

    def __str__(self) -> str:
        return f"custom({getattr(self.function, '__name__', type(self.function).__name__)})"


Exchange: TypeAlias = Forward | Hash | Rebalance | Shuffle | Broadcast | ToOne | Custom
