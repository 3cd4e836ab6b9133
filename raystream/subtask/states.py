"""Where a subtask stands in its life, and where it may go from there."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a subtask stands in its life."""

    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"
    CLOSED = "closed"


NEXT = {
    State.READY: {State.RUNNING, State.CLOSED},
    State.RUNNING: {State.ENDED, State.CLOSED},
    State.ENDED: {State.CLOSED},
    State.CLOSED: set[State](),
}
