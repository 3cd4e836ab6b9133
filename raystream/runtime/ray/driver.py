"""Start jobs on Ray and follow them from the process that started them."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import uuid
from typing import Any

import ray

from raystream.connectors.callback import CallbackSink
from raystream.connectors.memory import MemorySink
from raystream.coordinator.report import JobReport
from raystream.coordinator.states import ENDED
from raystream.errors import (
    ClusterError,
    ConfigError,
    JobFailed,
    JobTimeout,
    NotFound,
    PlanError,
    job_failed,
)
from raystream.flow.control import JobResult
from raystream.graph.logical import LogicalPlan
from raystream.graph.physical import PhysicalPlan
from raystream.runtime.ray.coordinator_actor import CoordinatorActor
from raystream.runtime.ray.deliveries import Deliveries
from raystream.runtime.ray.delivery import keep_driver_sinks, keep_logical_sinks
from raystream.runtime.ray.handle import Progress, RayJobHandle
from raystream.runtime.ray.nodes import coordinators_node, preferring
from raystream.runtime.ray.packing import pack_plan
from raystream.runtime.ray.placement import Place
from raystream.runtime.shell import sink_specs
from raystream.runtime.vault import Home

NAMESPACE = "raystream"
_PREFIX = "job:"
_KNOCK_S = 5.0
_GREETED_S = 10.0
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
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
        with socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S) as door:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                _greet(door)
    except OSError as error:
        raise _unreachable(address, error) from error


def _greet(door: socket.socket) -> None:
    """Hear that what listens there speaks gRPC: for anything else Ray would wait for minutes.

    Raises: OSError.
    Source: RFC 9113 §3.4: each side of HTTP/2 begins with a frame of settings, of type 4.
    """
    door.settimeout(_GREETED_S)
    door.sendall(_GREETING)
    if door.recv(9)[3:4] != b"\x04":
        raise OSError("what listens there is no Ray")


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
    home: Home | None = None,
    logical: LogicalPlan | None = None,
) -> JobResult:
    """Run a job on Ray and wait for its end; it dies with this process.

    ``home`` is where it keeps what it remembers, if it does; ``logical`` what its plan was made
    from, and others are, if it may be rescaled.

    Raises: JobFailed; JobTimeout after ``timeout_s`` seconds; ConfigError if the name is taken.
    """
    connect(runtime_env)
    remote_plan, sinks = keep_driver_sinks(plan)
    handle = _start(remote_plan, logical, home, attached=True)
    deliveries = Deliveries(handle, sinks)
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


def submit(
    plan: PhysicalPlan,
    *,
    runtime_env: dict[str, Any] | None = None,
    home: Home | None = None,
    logical: LogicalPlan | None = None,
) -> RayJobHandle:
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
    return _start(plan, logical, home, attached=False)


def attach(name: str) -> RayJobHandle:
    """Find a running job by its name or id.

    Raises: NotFound if there is none, naming those that are.
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
    raise NotFound(f'no job "{name}" is known to this cluster', hint=f"known jobs: {listed}")


def list_jobs() -> list[RayJobHandle]:
    """List the jobs of this cluster that run, or ended a short while ago."""
    connect()
    return [RayJobHandle(name, actor) for name, actor in _coordinators().items()]


def named(name: str) -> RayJobHandle | None:
    """Find a job by its name, without asking it anything."""
    connect()
    actor = _coordinators().get(name)
    return None if actor is None else RayJobHandle(name, actor)


def overview(timeout_s: float) -> list[tuple[str, RayJobHandle, JobReport | None]]:
    """Ask all jobs of this cluster at once what they are at; None: it does not answer in time."""
    connect()
    known = _coordinators()
    asked = {
        name: actor.observed.options(concurrency_group="driver").remote()
        for name, actor in known.items()
    }
    if not asked:
        return []
    refs = list(asked.values())
    done, _ = ray.wait(refs, num_returns=len(refs), timeout=timeout_s)
    answered = set(done)
    found = []
    for name, actor in known.items():
        report: JobReport | None = None
        if asked[name] in answered:
            with contextlib.suppress(ray.exceptions.RayError):  # it died since it was listed
                report = ray.get(asked[name])
        found.append((name, RayJobHandle(name, actor), report))
    return found


def _start(
    plan: PhysicalPlan, logical: LogicalPlan | None, home: Home | None, *, attached: bool
) -> RayJobHandle:
    job_id = f"{plan.job}-{uuid.uuid4().hex[:8]}" if home is None else home.job_id
    options: dict[str, Any] = {} if attached else {"lifetime": "detached"}
    # It is not in the placement group of whoever starts the job: Ray would not start it again
    # where that is gone.
    node = coordinators_node()
    if node is not None:
        options |= preferring(node)
    place = Place(ray.util.get_current_placement_group())
    actor = CoordinatorActor.options(
        name=_PREFIX + plan.job,
        namespace=NAMESPACE,
        # One that remembers comes back, reads its log, and goes on in a new attempt.
        max_restarts=0 if home is None else -1,
        **options,
    )
    packed = pack_plan(plan)
    replan = None if logical is None else pack_plan(keep_logical_sinks(logical))
    standing = os.environ.get("RAY_ADDRESS") not in (None, "", "local")
    patience_s = _NODES_COME_S if standing else _NO_NODES_COME_S
    _make_way(plan.job)
    try:
        coordinator = actor.remote(
            packed, replan, job_id, home, attached=attached, patience_s=patience_s, place=place
        )
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
    try:
        named = ray.util.list_named_actors(all_namespaces=True)
    except Exception as error:
        # Ray raises errors of its own, and of gRPC, where its head is gone.
        raise _unreachable(os.environ.get("RAY_ADDRESS"), error) from error
    found = {}
    for entry in named:
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(_PREFIX):
            with contextlib.suppress(ValueError):  # it died since it was listed
                found[entry["name"][len(_PREFIX) :]] = ray.get_actor(entry["name"], NAMESPACE)
    return found
