"""What a job may do about its own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raystream.errors import PlanError
from raystream.flow.time import Duration, positive

_UTILISATION_LEAST, _UTILISATION_MOST = 0.1, 0.95


@dataclass(frozen=True, init=False)
class Autoscale:
    """Let a job choose its parallelism while it runs: as many subtasks as its rows need.

    Each operator has at least ``min_parallelism`` and at most ``max_parallelism`` subtasks, by
    default as many as the job has key groups; ``with_parallelism((1, 8))`` bounds one operator,
    ``with_parallelism(4)`` pins it. ``target_utilisation`` is the share of its time that a subtask
    is to be busy, and ``cooldown`` lies between one change and the next; before a job shrinks, five
    times as long must have needed no more.

    >>> Autoscale(max_parallelism=8).target_utilisation
    0.7
    """

    min_parallelism: int
    max_parallelism: int | None
    target_utilisation: float
    cooldown_us: int

    def __init__(
        self,
        min_parallelism: int = 1,
        max_parallelism: int | None = None,
        target_utilisation: float = 0.7,
        cooldown: Duration = "1m",
    ) -> None:
        _check_count("min_parallelism", min_parallelism)
        if max_parallelism is not None:
            _check_count("max_parallelism", max_parallelism)
            if max_parallelism < min_parallelism:
                raise PlanError(
                    f"Autoscale(): max_parallelism {max_parallelism} is below min_parallelism "
                    f"{min_parallelism}"
                )
        share: Any = target_utilisation
        if (
            isinstance(share, bool)
            or not isinstance(share, int | float)
            or not _UTILISATION_LEAST <= share <= _UTILISATION_MOST
        ):
            raise PlanError(
                f"Autoscale(): target_utilisation is between {_UTILISATION_LEAST} and "
                f"{_UTILISATION_MOST}, got {share!r:.60}",
                hint="0.7 leaves a subtask some time for bursts, and to catch up after a failure",
            )
        fields: dict[str, Any] = {
            "min_parallelism": min_parallelism,
            "max_parallelism": max_parallelism,
            "target_utilisation": float(share),
            "cooldown_us": positive(cooldown, "cooldown"),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def between(self, least: int, most: int | None) -> Autoscale:
        """Give the same within other bounds.

        Raises: PlanError.
        """
        return Autoscale(least, most, self.target_utilisation, f"{self.cooldown_us}us")

    def within(self, parallelism: int) -> int:
        """Give what of these bounds is next to a parallelism."""
        most = parallelism if self.max_parallelism is None else self.max_parallelism
        return max(self.min_parallelism, min(parallelism, most))

    def __str__(self) -> str:
        most = "" if self.max_parallelism is None else self.max_parallelism
        return (
            f"{self.min_parallelism}..{most} subtasks an operator, busy {self.target_utilisation:g}"
            f" of the time, {self.cooldown_us / 1e6:g} s between changes"
        )


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PlanError(f"Autoscale(): {name} is an int of at least 1, got {value!r:.60}")
