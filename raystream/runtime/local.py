"""The shell in one process: tests, notebooks and debuggers run jobs here, with no Ray."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeAlias

from raystream.clock import Clock, SystemClock
from raystream.coordinator import events as job
from raystream.errors import JobTimeout
from raystream.flow.control import JobResult, JobStatus
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.json_lines import written
from raystream.runtime.local_job import LocalJob
from raystream.runtime.memory import collecting_all_seldom, keep_freed_memory
from raystream.runtime.vault import Home, Vault

Progress: TypeAlias = Callable[[JobStatus], None]

_PROGRESS_US = 1_000_000
_WAIT_US_MAX = 50_000


def run(
    plan: PhysicalPlan,
    *,
    timeout_s: float | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
    home: Home | None = None,
) -> JobResult:
    """Run a job to its end in this thread.

    ``home`` is where it keeps what it remembers, if it does.
    Raises: JobFailed; JobTimeout after ``timeout_s`` seconds.
    """
    keep_freed_memory()
    vault = Vault(plan, home)
    beginning = None if home is None else home.beginning
    clock = clock or SystemClock()
    with written(plan.limits, plan.job), collecting_all_seldom():
        local = LocalJob(plan, clock, rng, vault=vault, beginning=beginning)
        started_us = shown_us = clock.monotonic_us()
        try:
            local.begin()
            while not local.over:
                now_us = clock.monotonic_us()
                if timeout_s is not None and now_us - started_us > timeout_s * 1e6:
                    local.ask(job.StopAsked())
                    raise JobTimeout(f'job "{plan.job}" took longer than {timeout_s} s')
                if progress is not None and now_us - shown_us >= _PROGRESS_US:
                    shown_us = now_us
                    progress(local.status())
                if not local.advance():
                    sleep(_pause_us(local, clock) / 1e6)
            if progress is not None:
                progress(local.status())
            return local.result()
        finally:
            local.close()


def _pause_us(local: LocalJob, clock: Clock) -> int:
    wake_us, now_us = local.wake_us, clock.monotonic_us()
    return _WAIT_US_MAX if wake_us is None else max(0, min(wake_us - now_us, _WAIT_US_MAX))
