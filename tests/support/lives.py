"""One life of a job after another: until a savepoint, until a crash, and on from there."""

from __future__ import annotations

from collections.abc import Callable

from raystream.api.binding import bind_sinks
from raystream.api.restoring import home_of
from raystream.clock import SystemClock
from raystream.coordinator import events as asked
from raystream.graph.planner import physical_plan
from raystream.runtime.local_job import LocalJob
from raystream.runtime.vault import Vault

STEPS_MAX = 20_000


def local(job, start=None, clock=None):
    """Make the machines of a job in this process, and begin."""
    logical = job._draft.plan()
    bind_sinks(logical)
    plan = physical_plan(logical)
    home = home_of(plan, start, allow_dropped=False, where="")
    beginning = None if home is None else home.beginning
    made = LocalJob(
        plan, clock or SystemClock(), None, vault=Vault(plan, home), beginning=beginning
    )
    made.begin()
    return made


def steps(made: LocalJob, until: Callable[[], bool]) -> None:
    """Let a job live until something is so."""
    for _ in range(STEPS_MAX):
        if until() or made.over:
            return
        made.advance()
    raise AssertionError("it never comes to an end")


def savepoint(job, url="", *, rows=0, stop=True, drain=False, start=None) -> str:
    """Run a job until its sources gave some rows, and stop it behind a savepoint; give its URL."""
    made = local(job, start)
    read = lambda: sum(o.rows_in for o in made.status().operators if o.name == "read")
    steps(made, lambda: read() >= rows)
    assert not made.over, "it was over before the savepoint"
    made.ask(asked.SavepointAsked("it", str(url), stop, drain))
    if stop:
        return stopped(made)
    steps(made, lambda: "it" in made.answers)
    return _answer(made)


def stop(made: LocalJob, url: object) -> str:
    """Stop a job behind a savepoint; give its URL."""
    made.ask(asked.SavepointAsked("it", str(url), True, False))
    return stopped(made)


def stopped(made: LocalJob) -> str:
    """Let a job end that was asked for a savepoint; give its URL."""
    steps(made, lambda: made.over)
    made.result()
    return _answer(made)


def _answer(made: LocalJob) -> str:
    answer = made.answers["it"]
    made.close()
    assert not answer.error, answer.error
    return answer.url


def completed(made: LocalJob) -> int:
    """Count the checkpoints of this attempt that are complete."""
    return sum(one.status == "completed" for one in made._coordinator.checkpoints)


def restarts(made: LocalJob) -> int:
    """Count the failures that were followed by another attempt."""
    return made._coordinator.restarts.count
