"""What a job remembers to tell of itself, also when its coordinator has died.

The shell notes here what it sees; each attempt and each checkpoint takes what there is by then into
its entry of the log (``Journal.append``), and a coordinator that takes over inherits it from the
newest. So at most what was since the last checkpoint is forgotten, and nothing is written for it.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from raystream.contracts.checkpointing import Never
from raystream.coordinator.history import History
from raystream.coordinator.moves import Moves
from raystream.coordinator.report import CHANGES_SHOWN_MAX, FAILURES_SHOWN_MAX
from raystream.coordinator.restarts import Restarts
from raystream.flow.past import Failure, Past, StateChange

T = TypeVar("T")

LOST = "CoordinatorLost"
"""The kind of a failure that nobody could raise: its process is gone."""

LISTED_CHARS_MAX = 6_000
"""So long is each list in an entry of the log: entries are read one by one, and stay small."""

TEXT_CHARS_MAX = 300
"""What is left there of a message, which may hold a whole row."""


class Chronicle:
    """The past of one job: what this coordinator has seen, behind what it has inherited."""

    def __init__(self, restarts: Restarts | None = None) -> None:
        self._restarts = restarts or Restarts(Never())
        self._before = Past()
        self._failures: deque[Failure] = deque(maxlen=FAILURES_SHOWN_MAX)
        self._changes: deque[StateChange] = deque(maxlen=CHANGES_SHOWN_MAX)
        self._completed = self._given_up = self._decided = self._refused = 0
        self._takeovers = 0
        self.taken_over = False  # from a coordinator that died

    def failed(self, failure: Failure) -> None:
        """Note that something broke."""
        self._failures.append(failure)

    def changed(self, change: StateChange) -> None:
        """Note that the job is in another state."""
        self._changes.append(change)

    def checkpoint(self, *, completed: bool) -> None:
        """Note that a checkpoint is over."""
        self._completed += completed
        self._given_up += not completed

    def decided_size(self) -> int:
        """Note that the job asks for a size by itself; give how often it has."""
        self._decided += 1
        return self.decided

    def refused_size(self) -> None:
        """Note that the job could not have the size that it asked for."""
        self._refused += 1

    @property
    def restarts(self) -> int:
        """How often the job went on behind a failure, also behind one of a coordinator."""
        return self._restarts.count + self._takeovers

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The newest failures."""
        return (*self._before.failures, *self._failures)[-FAILURES_SHOWN_MAX:]

    @property
    def changes(self) -> tuple[StateChange, ...]:
        """The newest changes of state; a takeover follows where the coordinator before stood."""
        own = list(self._changes)
        if own and self._before.changes:
            own[0] = dataclasses.replace(own[0], before=self._before.changes[-1].after)
        return (*self._before.changes, *own)[-CHANGES_SHOWN_MAX:]

    @property
    def completed(self) -> int:
        """Checkpoints that were completed."""
        return self._before.completed + self._completed

    @property
    def given_up(self) -> int:
        """Checkpoints that were not."""
        return self._before.given_up + self._given_up

    @property
    def decided(self) -> int:
        """Sizes that the job has asked for by itself."""
        return self._before.decided + self._decided

    @property
    def refused(self) -> int:
        """Those of them that it could not have."""
        return self._before.refused + self._refused

    def so_far(self, moves: Moves) -> Past:
        """Give what goes into an entry of the log: the newest, within bounds."""
        return Past(
            self._restarts.count,
            self._takeovers,
            self.completed,
            self.given_up,
            self.decided,
            self.refused,
            moves.all_leave,
            _newest(_short(one, "message") for one in self.failures),
            _newest(self.changes),
            _newest(_short(one, "reason", "outcome") for one in moves.told),
        )

    def inherit(self, history: History, moves: Moves, now_us: int) -> None:
        """Go on with the past of a job whose coordinator has died; again, if the log says more."""
        past = history.past
        self._restarts.inherit(past.restarts)
        moves.inherit(past.rescalings)
        self.taken_over = history.attempt > 0 and not past.leaves
        self._takeovers = past.takeovers + self.taken_over
        if self.taken_over:
            past = dataclasses.replace(past, failures=(*past.failures, _lost(history, now_us)))
        self._before = past


def _lost(history: History, now_us: int) -> Failure:
    _, newest = history.start()
    goes_on = f"checkpoint {newest}" if newest else "where the job began"
    message = f"the coordinator has died; another one has taken over, from {goes_on}"
    return Failure(now_us, history.attempt, "", LOST, message)


def _short(one: T, *texts: str) -> T:
    """Cut texts of a dataclass that may be long."""
    cut = {name: getattr(one, name)[:TEXT_CHARS_MAX] for name in texts}
    return dataclasses.replace(one, **cut)  # type: ignore[type-var]  # both kinds are dataclasses


def _newest(some: Iterable[T]) -> tuple[T, ...]:
    kept: list[T] = []
    left = LISTED_CHARS_MAX
    for one in reversed(list(some)):
        left -= len(str(one))
        if left < 0:
            break
        kept.append(one)
    return tuple(reversed(kept))
