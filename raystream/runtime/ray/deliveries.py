"""Bring the rows of driver sinks from a job's subtasks into this process, attempt after attempt."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import ray

from raystream.contracts.sink import Sink
from raystream.coordinator.states import ENDED
from raystream.errors import ClusterError, JobFailed
from raystream.runtime.ray.delivery import unpack
from raystream.runtime.ray.handle import POLL_S, RayJobHandle
from raystream.runtime.shell import travelling

_LOOK_S = 0.05
_LET_GO_S = 2.0


class Deliveries:
    """Threads that pull rows from sink subtasks into the sinks of this process."""

    def __init__(self, handle: RayJobHandle, sinks: dict[str, Sink]) -> None:
        self._handle = handle
        self._sinks = sinks
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._over = False
        self._supervisor: threading.Thread | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start pulling, from the subtasks of each attempt once they are there."""
        if self._sinks:
            self._supervisor = threading.Thread(target=self._supervise, daemon=True)
            self._supervisor.start()

    def _supervise(self) -> None:
        pulled = 0
        with contextlib.suppress(JobFailed, ClusterError):  # the job's own error says why
            while not self._over:
                attempt, actors = self._handle.deployed()
                if attempt > pulled:
                    pulled = attempt
                    for actor in actors.values():
                        pull = threading.Thread(
                            target=self._pull, args=(actor, attempt), daemon=True
                        )
                        pull.start()
                        self._threads.append(pull)
                if self._handle.status() in ENDED:
                    return
                time.sleep(_LOOK_S)

    def join(self) -> None:
        """Wait until every row that was delivered has been taken."""
        if self._supervisor is not None:
            self._supervisor.join()
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        """Deliver no more; a sink that is still at it gets a moment."""
        self._over = True
        for thread in self._threads:
            thread.join(_LET_GO_S)

    def _pull(self, actor: Any, attempt: int) -> None:
        pull = actor.pull.options(concurrency_group="results")
        # Once the subtask or the coordinator is gone, the job's own error says why.
        gone = (ray.exceptions.ActorDiedError, JobFailed, ClusterError)
        with contextlib.suppress(*gone):
            try:
                self._take(pull, attempt)
            except gone:
                raise
            except ray.exceptions.RayError as error:
                # The subtask may live on: nobody would take its rows, and it would wait for ever.
                self._handle.fail(travelling(self._handle.name, error))

    def _take(self, pull: Any, attempt: int) -> None:
        while (parcels := ray.get(pull.remote(POLL_S, attempt))) is not None:
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
