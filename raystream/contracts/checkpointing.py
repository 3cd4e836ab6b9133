"""How a job is kept safe: how often it is snapshotted, where to, and what follows a failure."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from raystream.errors import PlanError
from raystream.flow.time import Duration, micros, positive

MODES = ("exactly_once", "at_least_once")


@dataclass(frozen=True, init=False)
class Checkpointing:
    """Snapshot a job to ``directory`` every so often, and recover from there.

    ``directory`` is a path or URL that every node reaches: local disk, ``s3://…`` or ``memory://…``
    (for tests). ``timeout`` gives a checkpoint up, ``min_pause`` lies between one and the next;
    more than ``tolerate_failures`` in a row that fail, fail the job's attempt. The last ``keep``
    are kept. ``at_least_once`` holds no channel back for a barrier: rows may count twice after a
    recovery. ``unaligned_after``: a subtask that has waited so long for its last barrier keeps the
    rows before it as part of the checkpoint.

    >>> Checkpointing("s3://bucket/ckpt", every="10s").keep
    3
    """

    directory: str
    every_us: int
    mode: str
    timeout_us: int
    keep: int
    min_pause_us: int
    tolerate_failures: int
    unaligned_after_us: int | None

    def __init__(
        self,
        directory: Any,
        every: Duration = "10s",
        *,
        mode: str = "exactly_once",
        timeout: Duration = "10m",
        keep: int = 3,
        min_pause: Duration = "0s",
        tolerate_failures: int = 0,
        unaligned_after: Duration | None = None,
    ) -> None:
        if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
            raise PlanError(f"Checkpointing(): directory is a path or URL, got {directory!r:.60}")
        if mode not in MODES:
            raise PlanError(f"Checkpointing(): mode is one of {', '.join(MODES)}, got {mode!r:.60}")
        _count("keep", keep, least=1)
        _count("tolerate_failures", tolerate_failures, least=0)
        after = None if unaligned_after is None else micros(unaligned_after)
        if after is not None and (after < 0 or mode != "exactly_once"):
            raise PlanError(
                f"Checkpointing(): unaligned_after={unaligned_after!r:.60} with mode {mode}",
                hint="it is not negative, and says when to stop holding channels back, which only "
                "exactly_once does",
            )
        fields: dict[str, Any] = {
            "directory": os.fspath(directory),
            "every_us": positive(every, "every"),
            "mode": mode,
            "timeout_us": positive(timeout, "timeout"),
            "keep": keep,
            "min_pause_us": _not_negative("min_pause", min_pause),
            "tolerate_failures": tolerate_failures,
            "unaligned_after_us": after,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def at(self, directory: str) -> Checkpointing:
        """Give the same for another directory."""
        other = copy.copy(self)
        object.__setattr__(other, "directory", directory)
        return other

    def but(self, settings: Mapping[str, Any]) -> Checkpointing:
        """Give the same with some settings, by the names of the arguments, changed.

        Raises: PlanError for what does not fit together.
        """
        own: dict[str, Any] = {
            "every": self.every_us,
            "mode": self.mode,
            "timeout": self.timeout_us,
            "keep": self.keep,
            "min_pause": self.min_pause_us,
            "tolerate_failures": self.tolerate_failures,
            "unaligned_after": self.unaligned_after_us,
        }
        return Checkpointing(self.directory, **{**own, **settings}) if settings else self


@dataclass(frozen=True, slots=True)
class Exponential:
    """Try again for ever: at once, then after pauses that double; a quiet time makes them short."""

    initial_us: int
    maximum_us: int
    reset_after_us: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """Try again so many times, after the same pause."""

    attempts: int
    delay_us: int


@dataclass(frozen=True, slots=True)
class Never:
    """Fail the job with its first failure."""


RestartStrategy: TypeAlias = Exponential | Fixed | Never


class Restart:
    """What follows a failure; a job with checkpoints restarts exponentially, one without never."""

    @staticmethod
    def exponential(
        initial: Duration = "1s", maximum: Duration = "1m", reset_after: Duration = "10m"
    ) -> Exponential:
        """Try again without end: at once, then after ``initial``, twice that, up to ``maximum``.

        Once ``reset_after`` has passed without a failure, it begins anew.
        """
        first, most = positive(initial, "initial"), positive(maximum, "maximum")
        if most < first:
            raise PlanError(f"Restart: maximum {maximum!r} is below initial {initial!r}")
        return Exponential(first, most, positive(reset_after, "reset_after"))

    @staticmethod
    def fixed(attempts: int, delay: Duration) -> Fixed:
        """Try again ``attempts`` times, each after ``delay``."""
        _count("attempts", attempts, least=1)
        return Fixed(attempts, _not_negative("delay", delay))

    @staticmethod
    def none() -> Never:
        """Fail at once."""
        return Never()


def _count(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PlanError(f"{name} is an int of at least {least}, got {value!r:.60}")


def _not_negative(name: str, value: Duration) -> int:
    given = micros(value)
    if given < 0:
        raise PlanError(f"{name} is not negative, got {value!r:.60}")
    return given
