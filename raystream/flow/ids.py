"""Name the parts of a running job, so that no bare tuple or string travels between rooms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class SubtaskId:
    """One parallel instance of a chain of operators; prints as ``window[2/4]``, counted from 0."""

    chain: str
    index: int
    parallelism: int

    def __str__(self) -> str:
        return f"{self.chain}[{self.index}/{self.parallelism}]"


@dataclass(frozen=True, slots=True, order=True)
class ChannelId:
    """One FIFO between two subtasks: the physical edge, and the subtask index at either end."""

    edge: int
    upstream: int
    downstream: int

    def __str__(self) -> str:
        return f"edge{self.edge}:{self.upstream}->{self.downstream}"
