"""What a job tells of its past: what failed, when its state changed, which sizes it has had.

A ``Past`` travels in the entries of the job's log, so that a coordinator that takes over from one
that died can tell it on. All of it has bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from raystream.flow.control import Rescaling


@dataclass(frozen=True, slots=True)
class Failure:
    """Something broke: time of day, the attempt, the subtask if any, and the user's line if known.

    ``operator`` is the one whose function it was, else the chain of the subtask. ``kind`` is the
    name of the exception, ``message`` its text without line or hint. A coordinator that died could
    raise nothing: the one that takes over says ``CoordinatorLost``.
    """

    at_us: int
    attempt: int
    subtask: str
    kind: str
    message: str
    where: str = ""
    operator: str = ""


@dataclass(frozen=True, slots=True)
class StateChange:
    """The job went from one state to another, at a time of day."""

    at_us: int
    attempt: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Past:
    """A job's past as of an entry of its log; what is listed goes from old to new.

    ``restarts`` counts the failures behind which it went on, ``takeovers`` the coordinators that
    died. ``decided`` and ``refused`` count the sizes that it asked for by itself. ``leaves``: its
    coordinator is about to go with its node, and nothing is lost by that.
    """

    restarts: int = 0
    takeovers: int = 0
    completed: int = 0
    given_up: int = 0
    decided: int = 0
    refused: int = 0
    leaves: bool = False
    failures: tuple[Failure, ...] = ()
    changes: tuple[StateChange, ...] = ()
    rescalings: tuple[Rescaling, ...] = ()
