"""Hand a plan to a runtime."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raystream.api import overrides
from raystream.api.draft import Draft
from raystream.api.pickling import check_picklable, pickle_script_folder_by_value, pickles
from raystream.contracts.checkpointing import Never
from raystream.errors import PlanError
from raystream.flow.control import JobResult
from raystream.flow.time import Duration, positive
from raystream.graph.logical import LogicalPlan
from raystream.graph.physical import PhysicalPlan
from raystream.graph.planner import physical_plan
from raystream.runtime.progress import progress_for

if TYPE_CHECKING:
    from raystream.runtime.vault import Home


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a job is to start from: a snapshot's path, ``latest``, or nothing."""

    start: str | None = None
    allow_dropped: bool = False
    where: str = ""

    def home(self, plan: PhysicalPlan) -> Home | None:
        """Decide where the job lives; flags beat what the script says."""
        # Storage is loaded with the first job that runs, not with a script that builds one.
        from raystream.api.restoring import home_of

        flags = overrides.current()
        return home_of(
            plan,
            flags.start or self.start,
            allow_dropped=flags.allow_dropped or self.allow_dropped,
            where=self.where,
        )


def run(
    draft: Draft,
    logical: LogicalPlan,
    runtime: str,
    timeout: Duration | None = None,
    *,
    show: bool = False,
    beginning: Beginning | None = None,
) -> JobResult:
    """Run a plan to its end, in this process or on Ray; ``show`` its progress on stderr."""
    plan = physical_plan(logical)
    if beginning is None:  # somebody looks at a stream: nothing of it is to be kept
        plan = dataclasses.replace(plan, checkpoint=None, restart=Never())
    home = None if beginning is None else beginning.home(plan)
    timeout_s = None if timeout is None else positive(timeout, "timeout") / 1_000_000
    result: JobResult
    if runtime != "local":
        check_travels(logical, plan)
        _check_reach(plan)
        _check_traced(plan)
    shown = show and not overrides.current().quiet
    with progress_for(sys.stderr) if shown else contextlib.nullcontext() as progress:
        if runtime == "local":
            local = importlib.import_module("raystream.runtime.local")
            result = local.run(plan, timeout_s=timeout_s, progress=progress, home=home)
        else:
            result = driver().run(
                plan,
                timeout_s=timeout_s,
                progress=progress,
                runtime_env=draft.runtime_env,
                home=home,
                logical=_changeable(logical, plan),
            )
    if show:
        tell_ended(draft.name, result)
    return result


def tell_ended(job: str, how: Any) -> None:
    """Tell whoever runs the script how its job ended, or what it is reached by."""
    told = overrides.current().ended
    if told is not None:
        told(job, how)


def submit(draft: Draft, logical: LogicalPlan, beginning: Beginning) -> Any:
    """Start a plan on Ray; give its handle."""
    plan = physical_plan(logical)
    check_travels(logical, plan)
    _check_reach(plan)
    _check_traced(plan)
    home = beginning.home(plan)
    return driver().submit(
        plan, runtime_env=draft.runtime_env, home=home, logical=_changeable(logical, plan)
    )


def _changeable(logical: LogicalPlan, plan: PhysicalPlan) -> LogicalPlan | None:
    """Give what other plans of a job are made from while it runs, if it may have any."""
    return None if plan.checkpoint is None else logical


def driver() -> Any:
    """Give the module that talks to Ray; nothing else here imports it."""
    address = overrides.current().address
    if address is not None:  # from where Ray, and whatever it starts, reads it
        os.environ["RAY_ADDRESS"] = address
    return importlib.import_module("raystream.runtime.ray.driver")


def _check_reach(plan: PhysicalPlan) -> None:
    """Refuse checkpoints that only this process would see.

    Raises: PlanError.
    """
    if plan.checkpoint is not None and plan.checkpoint.directory.startswith("memory:"):
        raise PlanError(
            f"checkpoints at {plan.checkpoint.directory} are in the memory of this process, and "
            "subtasks run in others",
            hint='give a path that all nodes reach, or s3://…, or run(runtime="local")',
        )


def _check_traced(plan: PhysicalPlan) -> None:
    """Refuse to trace where that cannot be done: the cluster goes by the same packages.

    Raises: ConfigError.
    """
    from raystream.runtime.tracing import check_tracing

    check_tracing(plan.limits)


def check_travels(logical: LogicalPlan, plan: PhysicalPlan) -> None:
    """Refuse a plan that cannot be sent to other processes.

    Raises: PlanError naming the operator and the variable that cannot be pickled.
    """
    pickle_script_folder_by_value()
    if pickles((plan, _changeable(logical, plan))):
        return
    for node in logical.nodes:
        if node.spec is not None:
            check_picklable(node.named_spec, node.name, node.where)
        for one in node.inputs:
            check_picklable(one.exchange, f"{one.exchange} before {node.name}", node.where)
    check_picklable(plan, f'the plan of job "{plan.job}"', "")
