"""A job on Ray, seen from anywhere: what it is at, and what may be asked of it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import ray

from raystream.clock import SystemClock
from raystream.coordinator import events as job
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.metrics import by_operator
from raystream.coordinator.report import JobReport
from raystream.coordinator.states import shown_state
from raystream.errors import ClusterError, ConfigError, JobFailed, PlanError, job_failed
from raystream.flow.control import JobResult, JobStatus, Rescaling
from raystream.flow.ids import SubtaskId
from raystream.flow.time import Duration, positive
from raystream.graph.logical import EVERY
from raystream.runtime.profiler import Profile
from raystream.runtime.ray import looking
from raystream.runtime.ray.nodes import comes_back
from raystream.runtime.ray.published import Lines, Published
from raystream.runtime.ray.report import pack_report, unpack_report
from raystream.storage import states as kept
from raystream.storage.jobs import new_job_id, savepoint_root
from raystream.storage.opening import open_store
from raystream.storage.states import Held

Progress: TypeAlias = Callable[[JobStatus], None]

POLL_S = 0.5
_ANSWER_S = 30.0
_STOP_S = 20.0
_COMES_BACK_S = 0.1


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
        published = self._published()
        return shown_state(published.status.state, published.attempt)

    def figures(self) -> JobStatus:
        """Give the job's figures, by operator."""
        return self._published().status

    def report(self) -> JobReport:
        """Give all that is known of the job: every subtask, what failed, what was when."""
        report: JobReport = self._call(self._coordinator.observed)
        return report

    def metrics(self) -> dict[str, Any]:
        """Give the job's metrics as plain values, by operator; ``coordinator.metric_names``."""
        return by_operator(self.report())

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
            left_s = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
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

    def checkpoints(self) -> list[CheckpointFigures]:
        """Give the newest checkpoints, and how they went."""
        return list(self._published().checkpoints)

    def plan(self) -> dict[str, Any]:
        """Give the plan that runs now, and the job's settings, as JSON has them."""
        plan: dict[str, Any] = self._call(self._coordinator.plan)
        return plan

    def state(self, uid: str, name: str, *, allow_pickle: bool = False) -> pa.Table:
        """Read a state as the newest checkpoint has it; the job goes on meanwhile.

        Raises: ConfigError where there is no checkpoint, or nothing of these names in it.
        """
        return kept.read(self._remembers(), uid, name, allow_pickle=allow_pickle)

    def states(self) -> list[Held]:
        """Tell what the newest checkpoint holds, operator by operator.

        Raises: ConfigError where there is none.
        """
        return kept.held(self._remembers())

    def _remembers(self) -> str:
        root: str | None = self._call(self._coordinator.root)
        if root is None:
            raise ConfigError(
                f'job "{self.name}" makes no checkpoints, so that there is no state to read',
                hint='give it Job(checkpoint="…")',
            )
        return root

    def sample(
        self, operator: str, *, subtask: int | None = None, rows: int = 20, seconds: float = 2.0
    ) -> list[dict[str, Any]]:
        """Give rows that leave an operator now, as JSON has them: a few, for people to look at.

        Raises: NotFound; ClusterError where its subtasks do not answer.
        """
        asked = self._of(operator, subtask)
        return looking.sample(asked, operator, rows, seconds)

    def profile(
        self,
        operator: str,
        subtask: int | None = None,
        *,
        seconds: float = 5.0,
        native: bool = False,
    ) -> Profile:
        """Tell where the process of a subtask of an operator spends its time.

        Raises: NotFound; ClusterError where the subtask does not answer; ConfigError where frames
        of compiled code are wanted, and py-spy is not there.
        """
        asked = self._of(operator, subtask or 0)
        return looking.profile(asked, self.name, seconds, native=native)

    def _of(self, operator: str, subtask: int | None) -> dict[SubtaskId, Any]:
        return looking.actors_of(self.plan(), self.subtasks(), operator, subtask)

    def place(self, name: str) -> str:
        """Give the URL of a savepoint of a name beside the job's checkpoints.

        Raises: ConfigError where there is one already, or the job has no directory.
        """
        url = savepoint_root(self._keeps_in(), self.name, name)
        if open_store(url).list():
            raise ConfigError(
                f'there is a savepoint "{name}" already, and none is ever written over',
                hint="give another name",
            )
        return url

    def scaling(self) -> str:
        """Say why a job that chooses its size has the one that it has; empty for any other."""
        return self._published().status.scaling

    def rescalings(self) -> list[Rescaling]:
        """Give the newest changes of size, asked for or its own, why, and how they went."""
        return list(self._published().rescalings)

    def lines(self, before: Lines | None = None) -> Lines:
        """Give what the job's processes have logged and printed, or what came since ``before``."""
        by, count = ("", 0) if before is None else (before.by, before.count)
        lines: Lines = self._call(self._coordinator.lines, by, count)
        return lines

    def savepoint(self, path: str | None = None) -> str:
        """Make a savepoint, and give its URL; ``path`` is where, if not beside the checkpoints.

        Raises: JobFailed if there is none, and why.
        """
        return self._saved(job.SavepointAsked(uuid.uuid4().hex, self._place(path))) or ""

    def stop(
        self, savepoint: bool | str = True, drain: bool = False, timeout: Duration = "10m"
    ) -> str | None:
        """Stop the job behind a savepoint, whose URL this gives; what was written is committed.

        ``savepoint`` may say where. With ``drain`` the input ends first, as if its sources had.
        Raises: JobFailed if it cannot be stopped so; TimeoutError.
        """
        place = self._place(savepoint if isinstance(savepoint, str) else None) if savepoint else ""
        url = self._saved(job.SavepointAsked(uuid.uuid4().hex, place, stop=True, drain=drain))
        self.follow(positive(timeout, "timeout") / 1e6)
        return url

    def _place(self, path: str | None) -> str:
        if path is not None:
            return path.rstrip("/") if "://" in path else str(Path(path).absolute())
        token = uuid.uuid4().hex[:8]
        return savepoint_root(self._keeps_in(), self.name, new_job_id(SystemClock(), token))

    def _keeps_in(self) -> str:
        directory: str | None = self._call(self._coordinator.directory)
        if directory is None:
            raise ConfigError(
                f'job "{self.name}" has no checkpoint directory',
                hint="say where the savepoint is to be: savepoint(path)",
            )
        return directory

    def rescale(self, to: int | Mapping[str, int]) -> None:
        """Change how many subtasks run the job, or some of its operators, while it runs.

        ``to`` is a parallelism, or parallelisms by an operator's name or uid; the operators that
        run in the same subtasks go with it. It comes back when rows flow at the new size; a change
        that cannot be made leaves the job as it is.

        Raises: PlanError for what the job cannot have; ClusterError where the cluster has no room;
        JobFailed where the job has failed meanwhile, or ends.
        """
        asked = job.RescaleAsked(uuid.uuid4().hex, asked_scale(to))
        answer = self._asks(asked, "was rescaled")
        if answer.error:
            kinds = {"plan": PlanError, "cluster": ClusterError}
            kind = kinds.get(answer.blame, JobFailed)
            raise kind(f'job "{self.name}" cannot be rescaled: {answer.error}')

    def _saved(self, asked: job.SavepointAsked) -> str | None:
        answer = self._asks(asked, "had made a savepoint")
        if answer.error:
            raise JobFailed(f'job "{self.name}" has made no savepoint: {answer.error}')
        return answer.url

    def _asks(self, asked: job.SavepointAsked | job.RescaleAsked, what: str) -> job.Answer:
        """Ask for something until there is an answer, whatever becomes of the coordinator."""
        request, told = asked.request, ""
        while True:
            published = self._published(POLL_S if told else 0.0)
            if published.by != told and not published.over:
                # One that has died since has taken the request with it.
                told = published.by
                self._call(self._coordinator.ask, asked)
            answer = published.answers.get(request)
            if answer is not None:
                return answer
            if published.over:
                raise JobFailed(f'job "{self.name}" ended before it {what}')

    def finish(self) -> None:
        """Stop the job because enough was seen: it counts as finished."""
        self._call(self._coordinator.stop, True)

    def fail(self, error: BaseException) -> None:
        """Fail the job: what this process does for it broke."""
        self._call(self._coordinator.fail, pack_report(job.Failed(None, error)))

    def subtasks(self) -> dict[SubtaskId, Any]:
        """Give the actors of the job's subtasks."""
        return self.deployed()[1]

    def deployed(self) -> tuple[int, dict[SubtaskId, Any]]:
        """Give the newest attempt and its actors; 0 before the first."""
        deployed: tuple[int, dict[SubtaskId, Any]] = self._call(self._coordinator.subtasks)
        return deployed

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
        give_up_s = time.monotonic() + _ANSWER_S
        while True:
            try:
                ref = method.options(concurrency_group="driver").remote(*arguments)
                return ray.get(ref, timeout=_ANSWER_S)
            except ray.exceptions.GetTimeoutError as error:
                raise ClusterError(
                    f'job "{self.name}" does not answer for {_ANSWER_S} s'
                ) from error
            except ray.exceptions.ActorUnavailableError as error:
                # Its process died; where the job has checkpoints it comes back, and goes on.
                if time.monotonic() > give_up_s:
                    raise ClusterError(f'job "{self.name}" does not come back') from error
            except ray.exceptions.RayError as error:
                # Of one whose node was taken away Ray says that it died, and starts it elsewhere.
                if not comes_back(self._coordinator) or time.monotonic() > give_up_s:
                    text = f'the coordinator of job "{self.name}" died: {error}'
                    raise JobFailed(text) from error
            time.sleep(_COMES_BACK_S)


def asked_scale(to: object) -> dict[str, int]:
    """Read what ``rescale()`` is given: a number is that of the whole job.

    Raises: PlanError.
    """
    if type(to) is int:
        return {EVERY: to}
    if isinstance(to, Mapping) and to and all(isinstance(name, str) and name for name in to):
        return dict(to)
    raise PlanError(
        f"rescale() takes a parallelism, or parallelisms by operator, got {to!r:.60}",
        hint='rescale(4), rescale({"window#1": 4})',
    )


def _outcome(name: str, published: Published) -> JobResult:
    if published.error is not None:
        failed: Any = unpack_report(published.error)
        raise job_failed(name, failed.error)
    assert published.result is not None, "a job that is over has a result"
    return published.result
