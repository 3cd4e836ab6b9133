"""Start jobs on Ray and follow them from the process that started them."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

import ray

from raystream.connectors.callback import CallbackSink
from raystream.connectors.memory import MemorySink
from raystream.contracts.sink import Sink
from raystream.coordinator import events as job
from raystream.coordinator.machine import ENDED
from raystream.errors import (
    ClusterError,
    ConfigError,
    JobFailed,
    JobTimeout,
    PlanError,
    job_failed,
)
from raystream.flow.control import JobResult, JobStatus
from raystream.flow.ids import SubtaskId
from raystream.flow.time import Duration, positive
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.ray.coordinator_actor import CoordinatorActor, Published
from raystream.runtime.ray.delivery import keep_driver_sinks, unpack
from raystream.runtime.ray.packing import pack_plan
from raystream.runtime.ray.report import pack_report, unpack_report
from raystream.runtime.shell import sink_specs, travelling

Progress: TypeAlias = Callable[[JobStatus], None]

NAMESPACE = "raystream"
_PREFIX = "job:"
_POLL_S = 0.5
_ANSWER_S = 30.0
_STOP_S = 20.0
_KNOCK_S = 5.0
_LET_GO_S = 2.0
_NODES_COME_S = 600.0
"""How long a standing cluster has for a node that a job needs: it may grow, and slowly."""
_NO_NODES_COME_S = 2.0


def connect(runtime_env: dict[str, Any] | None = None) -> None:
    """Reach the cluster that RAY_ADDRESS names, or start one in this machine.

    Raises: ClusterError if the cluster does not answer.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS") or None
    # Ray runs workers at nice 15 by default: beside anything else on the machine they starve.
    os.environ.setdefault("RAY_worker_niceness", "0")
    options: dict[str, Any] = {"namespace": NAMESPACE, "logging_level": logging.ERROR}
    if runtime_env:
        options["runtime_env"] = runtime_env
    if address is None:
        options |= {"address": "local", "include_dashboard": False}
    else:
        _probe(address)
    try:
        ray.init(**options)
    except Exception as error:
        # Ray raises ConnectionError, RuntimeError and errors of its own for an address that is
        # wrong, a version that differs, a token that is missing: for us they are one.
        raise _unreachable(address, error) from error


def _probe(address: str) -> None:
    """Knock at the cluster's door: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # a word such as auto: Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ClusterError:
    return ClusterError(
        f"cannot reach Ray at {address or 'this machine'}: {error}",
        hint="check RAY_ADDRESS, or unset it to start Ray here; `raystream doctor` tells more",
    )


def run(
    plan: PhysicalPlan,
    *,
    timeout_s: float | None = None,
    progress: Progress | None = None,
    runtime_env: dict[str, Any] | None = None,
) -> JobResult:
    """Run a job on Ray and wait for its end; it dies with this process.

    Raises: JobFailed; JobTimeout after ``timeout_s`` seconds; ConfigError if the name is taken.
    """
    connect(runtime_env)
    remote_plan, sinks = keep_driver_sinks(plan)
    handle = _start(remote_plan, attached=True)
    deliveries = _Deliveries(handle, sinks)
    try:
        deliveries.start()
        result = handle.follow(timeout_s, progress)
        deliveries.join()
    except TimeoutError as error:
        raise JobTimeout(f'job "{plan.job}" took longer than {timeout_s} s') from error
    finally:
        handle.end()
        deliveries.end()
    if deliveries.error is not None:
        raise job_failed(plan.job, deliveries.error)
    return result


def submit(plan: PhysicalPlan, *, runtime_env: dict[str, Any] | None = None) -> RayJobHandle:
    """Start a job that outlives this process.

    Raises: ClusterError without a standing cluster; PlanError for a sink that lives here.
    """
    for name, spec in sink_specs(plan).items():
        if isinstance(spec.sink, MemorySink | CallbackSink):
            raise PlanError(
                f'"{name}" gives its rows to this process, which a submitted job outlives',
                hint="use run(), or a sink that writes somewhere",
            )
    if not ray.is_initialized() and not os.environ.get("RAY_ADDRESS"):
        raise ClusterError(
            "submit() needs a standing Ray cluster, and RAY_ADDRESS names none",
            hint="start one with `ray start --head`, set RAY_ADDRESS=auto, or use run()",
        )
    connect(runtime_env)
    return _start(plan, attached=False)


def attach(name: str) -> RayJobHandle:
    """Find a running job by its name or id.

    Raises: ConfigError if there is none, naming those that are.
    """
    connect()
    known = _coordinators()
    for job_name, actor in known.items():
        if job_name == name:
            return RayJobHandle(job_name, actor)
    for job_name, actor in known.items():
        handle = RayJobHandle(job_name, actor)
        if handle.id == name:
            return handle
    listed = ", ".join(known) or "none"
    raise ConfigError(f'no job "{name}" is known to this cluster', hint=f"known jobs: {listed}")


def list_jobs() -> list[RayJobHandle]:
    """List the jobs of this cluster that run, or ended a short while ago."""
    connect()
    return [RayJobHandle(name, actor) for name, actor in _coordinators().items()]


class RayJobHandle:
    """A job on Ray, seen from anywhere."""

    def __init__(self, name: str, coordinator: Any) -> None:
        self.name = name
        self._coordinator = coordinator

    @property
    def id(self) -> str:
        """The job's id: its name and what tells its runs apart."""
        return self._published().job_id

    def status(self) -> str:
        """Tell the job's state."""
        state = self._published().status.state
        return {"created": "starting", "committing": "running", "closing": "running"}.get(
            state, state
        )

    def figures(self) -> JobStatus:
        """Give the job's figures, by operator."""
        return self._published().status

    def metrics(self) -> dict[str, Any]:
        """Give the job's figures as plain values, by operator."""
        return {
            o.name: {
                "rows_in": o.rows_in,
                "rows_out": o.rows_out,
                "late_rows": o.late_rows,
                "failed_rows": o.failed_rows,
            }
            for o in self.figures().operators
        }

    def wait(self, timeout: Duration | None = None) -> JobResult:
        """Wait for the job's end.

        Units: timeout in any form of a duration; an int is microseconds.
        Raises: JobFailed; TimeoutError, which lets the job be.
        """
        return self.follow(None if timeout is None else positive(timeout, "timeout") / 1e6)

    def follow(self, timeout_s: float | None = None, progress: Progress | None = None) -> JobResult:
        """Wait for the job's end, and show how it goes.

        Raises: JobFailed; TimeoutError, which lets the job be.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        shown_s = 0.0
        while True:
            left_s = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            if left_s <= 0:
                raise TimeoutError(f'job "{self.name}" still runs after {timeout_s} s')
            published = self._published(left_s)
            if progress is not None and (published.over or time.monotonic() - shown_s >= 1.0):
                shown_s = time.monotonic()
                progress(published.status)
            if published.over:
                return _outcome(self.name, published)

    def cancel(self) -> None:
        """Stop the job now; what was not committed does not become visible."""
        self._call(self._coordinator.stop, False)

    def finish(self) -> None:
        """Stop the job because enough was seen: it counts as finished."""
        self._call(self._coordinator.stop, True)

    def fail(self, error: BaseException) -> None:
        """Fail the job: what this process does for it broke."""
        self._call(self._coordinator.fail, pack_report(job.Failed(None, error)))

    def subtasks(self) -> dict[SubtaskId, Any]:
        """Give the actors of the job's subtasks."""
        actors: dict[SubtaskId, Any] = self._call(self._coordinator.subtasks)
        return actors

    def end(self) -> None:
        """Leave nothing behind: stop the job if it runs, and end its coordinator."""
        with contextlib.suppress(ray.exceptions.RayError, ClusterError, JobFailed, TimeoutError):
            if not self._published().over:
                self.cancel()
                self.follow(_STOP_S)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._coordinator)

    def _published(self, timeout_s: float = 0.0) -> Published:
        published: Published = self._call(self._coordinator.published, timeout_s)
        return published

    def _call(self, method: Any, *arguments: Any) -> Any:
        try:
            ref = method.options(concurrency_group="driver").remote(*arguments)
            return ray.get(ref, timeout=_ANSWER_S)
        except ray.exceptions.GetTimeoutError as error:
            raise ClusterError(f'job "{self.name}" does not answer for {_ANSWER_S} s') from error
        except ray.exceptions.RayError as error:
            raise JobFailed(f'the coordinator of job "{self.name}" died: {error}') from error


class _Deliveries:
    """Threads that pull rows from sink subtasks into the sinks of this process."""

    def __init__(self, handle: RayJobHandle, sinks: dict[str, Sink]) -> None:
        self._handle = handle
        self._sinks = sinks
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._over = False
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start pulling, once the subtasks are there."""
        if not self._sinks:
            return
        while not (actors := self._handle.subtasks()):
            if self._handle.status() in ENDED:
                return
            time.sleep(0.01)
        for actor in actors.values():
            thread = threading.Thread(target=self._pull, args=(actor,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Wait until every row that was delivered has been taken."""
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        """Deliver no more; a sink that is still at it gets a moment."""
        self._over = True
        for thread in self._threads:
            thread.join(_LET_GO_S)

    def _pull(self, actor: Any) -> None:
        pull = actor.pull.options(concurrency_group="results")
        # Once the subtask or the coordinator is gone, the job's own error says why.
        gone = (ray.exceptions.ActorDiedError, JobFailed, ClusterError)
        with contextlib.suppress(*gone):
            try:
                self._take(pull)
            except gone:
                raise
            except ray.exceptions.RayError as error:
                # The subtask may live on: nobody would take its rows, and it would wait for ever.
                self._handle.fail(travelling(self._handle.name, error))

    def _take(self, pull: Any) -> None:
        while (parcels := ray.get(pull.remote(_POLL_S))) is not None:
            for name, packed in parcels:
                if self._receive(name, packed):
                    self._handle.finish()
            if self.error is not None:
                self._handle.fail(self.error)
                return

    def _receive(self, name: str, packed: bytes) -> bool:
        with self._lock:
            if self._over or self.error is not None:
                return False
            try:
                return self._sinks[name].receive(unpack(packed))
            except BaseException as error:  # noqa: BLE001  a sink of the user may raise anything
                self.error = travelling(self._handle.name, error)
                return False


def _start(plan: PhysicalPlan, *, attached: bool) -> RayJobHandle:
    job_id = f"{plan.job}-{uuid.uuid4().hex[:8]}"
    lifetime = {} if attached else {"lifetime": "detached"}
    actor = CoordinatorActor.options(
        name=_PREFIX + plan.job, namespace=NAMESPACE, max_restarts=0, **lifetime
    )
    packed = pack_plan(plan)
    standing = os.environ.get("RAY_ADDRESS") not in (None, "", "local")
    patience_s = _NODES_COME_S if standing else _NO_NODES_COME_S
    _make_way(plan.job)
    try:
        coordinator = actor.remote(packed, job_id, attached=attached, patience_s=patience_s)
        return RayJobHandle(plan.job, coordinator)
    except ValueError as error:  # what Ray raises for a name that was taken just now
        raise _taken(plan.job, "just started") from error


def _make_way(name: str) -> None:
    """Let go of a coordinator of this name that only waits to tell how its job ended."""
    known = _coordinators().get(name)
    if known is not None:
        handle = RayJobHandle(name, known)
        with contextlib.suppress(JobFailed):  # it died since it was listed
            if handle.status() not in ENDED:
                raise _taken(name, handle.id)
        handle.end()


def _taken(name: str, which: str) -> ConfigError:
    return ConfigError(
        f'a job "{name}" is already running ({which})',
        hint="cancel it, or give this job another name",
    )


def _coordinators() -> dict[str, Any]:
    named = ray.util.list_named_actors(all_namespaces=True)
    found = {}
    for entry in named:
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(_PREFIX):
            with contextlib.suppress(ValueError):  # it died since it was listed
                found[entry["name"][len(_PREFIX) :]] = ray.get_actor(entry["name"], NAMESPACE)
    return found


def _outcome(name: str, published: Published) -> JobResult:
    if published.error is not None:
        failed: Any = unpack_report(published.error)
        raise job_failed(name, failed.error)
    assert published.result is not None, "a job that is over has a result"
    return published.result
