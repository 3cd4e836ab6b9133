"""Where a job stands in its life, and how that life begins."""

from __future__ import annotations

from dataclasses import dataclass

NEXT = {
    "created": {"opening"},
    "opening": {"starting", "closing"},
    "starting": {"running", "closing"},
    "running": {"finishing", "closing"},
    "finishing": {"closing"},
    "closing": {"waiting", "ending", "finished", "stopped", "failed", "canceled"},
    "waiting": {"opening", "ending", "failed", "canceled", "finished"},
    "ending": {"finished", "stopped", "failed", "canceled"},
    "finished": set[str](),
    "stopped": set[str](),
    "failed": set[str](),
    "canceled": set[str](),
}

ENDED = ("finished", "stopped", "failed", "canceled")
"""States from which nothing more happens."""

RESTART = "restart"
"""The outcome of an attempt that another follows."""

BETWEEN = frozenset({"waiting", "opening", "ending"})
"""Where the attempt before is over, and the next has not begun."""

AT_WORK = ("running", "finishing")
"""States in which rows flow, or their last checkpoint is made."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a job begins: who coordinates it, from which snapshot.

    ``by`` tells this coordinator from any other, ever; ``born_us`` is when it came. ``source`` is
    the URL of the manifest that a new job starts from. ``resumed``: the job has run before, and
    somebody goes on with it; ``came_back``: nobody did, its process had died.
    """

    by: str = "local"
    born_us: int = 0
    source: str = ""
    resumed: bool = False
    came_back: bool = False


_SHOWN = {
    "created": "starting",
    "opening": "starting",
    "finishing": "running",
    "closing": "running",
    "waiting": "restarting",
    "ending": "running",
}

_BETWEEN = ("opening", "starting", "closing", "waiting")


def shown_state(state: str, attempt: int) -> str:
    """Say what a job's state is called to whoever asks, once it is in an attempt."""
    if attempt > 1 and state in _BETWEEN:
        return "restarting"
    return _SHOWN.get(state, state)
