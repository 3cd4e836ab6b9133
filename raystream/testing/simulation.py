"""Drive a whole job in one thread on a clock that stands still: the seed decides what comes next.

One thing happens at a time. When nothing can, time may: by what a test source waits for, so that
timers in between fire in their order. When nobody waits for time either, the run is over.
"""

from __future__ import annotations

import random
from functools import partial

from raystream.contracts.source import Later
from raystream.coordinator import events as job
from raystream.errors import JobFailed
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Finish
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.local_job import LocalJob
from raystream.subtask import events as sub
from raystream.testing.recording import Taps
from raystream.testing.simulated_clock import SimulatedClock
from raystream.testing.trace import line, words

STEPS_MAX = 300_000
"""A run of more steps does not end: what users test in one run is done in thousands."""

_ERRANDS_MAX = 64
"""So many errands that lead to nothing, one after the other, and time may pass all the same."""

_SHOWN_LINES = 12

_STEPS_PER_LOOK, _LOOKS_MIN = 15, 100
"""One step of a run may pause as often as a share of all steps, and so may work for long."""


class Simulation:
    """One run of one plan."""

    def __init__(self, clock: SimulatedClock, seed: int, steps_max: int) -> None:
        self.trace: list[str] = []  # bounded by the steps
        self._clock = clock
        self._rng = random.Random(seed)  # noqa: S311  chance of a test, not a secret
        self._taps = Taps()
        self._steps_max = steps_max
        self._errands = 0
        self._failed = False
        self._states_read = False

    def told(self, name: str, what: str) -> None:
        """Take down what a recording says."""
        self._note(f"({name})", what)

    def run(self, plan: PhysicalPlan, taps: Taps) -> None:
        """Let a job run until nothing is left to do; read what ``taps`` keep at its end.

        Raises: JobFailed, also for a job that does not end.
        """
        self._taps = taps
        looks = max(self._steps_max // _STEPS_PER_LOOK, _LOOKS_MIN)
        local = LocalJob(plan, self._clock, self._rng, self._happened)
        steps = 0
        try:
            local.begin()
            while not local.over:
                steps += 1
                if steps > self._steps_max:
                    raise self._endless(plan.job)
                self._clock.be_patient(looks, partial(self._endless, plan.job))
                if not local.advance() and not self._pass_time(local):
                    self._note("", "nothing is left to do")
                    local.finish()
            local.result()
        finally:
            local.close()

    def _pass_time(self, local: LocalJob) -> bool:
        """Let the time pass that has to; False: nobody waits for any."""
        clock = self._clock
        left_us, errand_us, now_us = clock.left_us(), local.errand_us, clock.monotonic_us()
        if errand_us is not None and (left_us is None or self._errands < _ERRANDS_MAX):
            self._errands += 1
            clock.drift(max(0, errand_us - now_us))
            return True
        if left_us is None:
            return False
        wake_us = local.wake_us
        step_us = left_us if wake_us is None else min(left_us, max(0, wake_us - now_us))
        clock.pass_time(step_us)
        self._note("", f"{step_us / 1e6:g} s pass")
        return True

    def _happened(self, subtask: SubtaskId | None, event: sub.Event | job.Event | None) -> None:
        self._note("job" if subtask is None else subtask, words(subtask, event))
        match event:
            case sub.Polled(_, None | Later()) | None:
                pass
            case job.Failed():
                self._failed = True
            case Finish() if not self._failed and not self._states_read:
                # Nobody is closed yet: everything that is kept is still there.
                self._states_read = True
                self._taps.read_states()
            case _:
                self._errands = 0

    def _note(self, where: object, what: str) -> None:
        self.trace.append(line(self._clock.now_us(), where, what))

    def _endless(self, name: str) -> JobFailed:
        last = "\n".join(self.trace[-_SHOWN_LINES:])
        return JobFailed(
            f'job "{name}" does not end: a run has at most {self._steps_max:,} steps, and this one '
            f"is here:\n{last}",
            hint="a source without end needs a test source in its place: "
            "run(…, sources={name: …}); a timer that sets itself again may have no end either",
        )
