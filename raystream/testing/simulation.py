"""Drive a whole job in one thread on a clock that stands still: the seed decides what comes next.

One thing happens at a time. When nothing can, time may: by what a test source waits for, so that
timers in between fire in their order. When nobody waits for time either, the run is over.
"""

from __future__ import annotations

import dataclasses
import random
import uuid
from functools import partial
from typing import Any

from raystream.contracts.checkpointing import Checkpointing, Exponential
from raystream.contracts.source import Later
from raystream.coordinator import events as job
from raystream.errors import JobFailed, SubtaskLost, job_failed
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Finish, Ready
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.local_job import LocalJob
from raystream.runtime.vault import Home, Vault
from raystream.storage.store_memory import MemoryStore
from raystream.subtask import events as sub
from raystream.testing.fate import Fate
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


_EVERY = "100000d"
"""Checkpoints are taken where the test says, not because time passes."""

_FAR_US = 10**15

_URL = "memory://raystream-testing"


def _kept_safe(plan: PhysicalPlan, fate: Fate) -> tuple[PhysicalPlan, Vault | None, bool]:
    """Let a job go on behind a crash, from memory; True: only the test makes it restart."""
    own = plan.checkpoint
    if own is None and not (fate.crashes or fate.needed):
        return plan, None, False
    settings: dict[str, Any] = {}
    if own is not None:
        settings = {"mode": own.mode, "keep": own.keep, "tolerate_failures": own.tolerate_failures}
    checkpoint = Checkpointing(_URL, _EVERY, **settings)
    restart = plan.restart if own is not None else Exponential(0, 0, 1)
    plan = dataclasses.replace(plan, checkpoint=checkpoint, restart=restart)
    store = MemoryStore(f"{_URL}/{uuid.uuid4().hex}")
    return plan, Vault(plan, Home(_URL, "test"), opened=lambda _: store), own is None


class Simulation:
    """One run of one plan."""

    def __init__(
        self, clock: SimulatedClock, seed: int, steps_max: int, fate: Fate | None = None
    ) -> None:
        self.trace: list[str] = []  # bounded by the steps
        self.steps = 0
        self._fate = fate or Fate()
        self._error: BaseException | None = None
        self._restarts = False
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
        plan, vault, self._restarts = _kept_safe(plan, self._fate)
        local = LocalJob(plan, self._clock, self._rng, self._happened, vault=vault)
        try:
            local.begin()
            while not local.over:
                self.steps += 1
                if self.steps > self._steps_max:
                    raise self._endless(plan.job)
                self._fate.befall(local, self.steps)
                if self._error is not None:
                    raise job_failed(plan.job, self._error)
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
        if errand_us is not None and errand_us - now_us > _FAR_US:
            errand_us = None  # no checkpoint is taken because time passes
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
            case job.Failed(_, error):
                self._failed = True
                if self._restarts and not isinstance(error, SubtaskLost):
                    self._error = error  # the job restarts for the test's sake alone
            case job.Said(_, _, Ready()):
                self._failed = self._states_read = False
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
