"""A job of thousands of subtasks whose coordinator alone is real: all others just answer."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from plans import KeepingSink, NumberSource, two_chains

from raystream.clock import ManualClock
from raystream.contracts.checkpointing import Checkpointing
from raystream.coordinator import events as job
from raystream.coordinator.machine import CoordinatorMachine
from raystream.flow.exchange import Hash
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import (
    Acked,
    Closed,
    Commit,
    Committed,
    Ended,
    Finish,
    Ready,
    Trigger,
)
from raystream.flow.snapshots import Kept, Part, SubtaskSnapshot
from raystream.storage.codec import encode_manifest


class Committing(KeepingSink):
    def commit(self, checkpoint_id: int, committables: Any) -> None:
        return


class Fleet:
    """A coordinator, a log in memory, and as many subtasks as asked for, half of them sources.

    ``seconds`` and ``steps`` tell what the coordinator's machine took for each kind of event.
    """

    def __init__(self, subtasks: int) -> None:
        half = subtasks // 2
        self.plan = replace(
            two_chains(
                Hash(("n",)), Committing(), up=half, down=half, source=NumberSource(half, 1, 1)
            ),
            checkpoint=Checkpointing("memory://fleet", every="10s"),
        )
        self.clock = ManualClock()
        self.machine = CoordinatorMachine(self.plan, self.clock)
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps: Counter[str] = Counter()
        self.ordered: Counter[str] = Counter()
        self.manifest_bytes = 0
        self._asked: deque[Any] = deque()  # bounded by what one event asks for

    def run(self, checkpoints: int) -> None:
        """Live a whole life: begin, so many checkpoints, the end of all input, the last commit."""
        self._take("begin", self.machine.begin)
        for _ in range(checkpoints):
            wake_us = self.machine.wake_us
            assert wake_us is not None
            self.clock.advance(wake_us - self.clock.monotonic_us())
            self.step(job.Ticked())
        for subtask in self.plan.subtasks:
            self._say(subtask, Ended())

    def step(self, event: Any) -> None:
        name = type(event.report if isinstance(event, job.Said) else event).__name__
        self._take(name, lambda: self.machine.step(event))

    def _take(self, name: str, act: Callable[[], list[Any]]) -> None:
        began_s = time.perf_counter()
        effects = act()
        self.seconds[name] += time.perf_counter() - began_s
        self.steps[name] += 1
        self._asked.extend(effects)
        if len(self._asked) == len(effects):  # else an earlier call is at it
            while self._asked:
                effect = self._asked[0]
                self._do(effect)
                self._asked.popleft()

    def _do(self, effect: Any) -> None:
        match effect:
            case job.ListSplits(chain):
                self.step(job.SplitsListed(chain, tuple(NumberSource(4, 1, 1).splits())))
            case job.ReadLog():
                self.step(job.LogRead((), 0))
            case job.Append(number, _, manifest):
                if manifest is not None:
                    self.manifest_bytes = len(encode_manifest(manifest))
                self.step(job.Appended(number))
            case job.Deploy():
                for subtask in self.plan.subtasks:
                    self._say(subtask, Ready())
            case job.Tell(subtask, order):
                self.ordered[type(order).__name__] += 1
                self._obey(subtask, order)
            case job.CloseSubtask(subtask):
                self._say(subtask, Closed())
            case _:
                self.ordered[type(effect).__name__] += 1

    def _obey(self, subtask: SubtaskId, order: Any) -> None:
        match order:
            case Trigger(checkpoint_id):
                # The barrier reaches the writers once every source has sent it.
                self._say(subtask, Acked(checkpoint_id, _kept(subtask, checkpoint_id)))
                if subtask == self._sources[-1]:
                    for writer in self.plan.chains[1].subtasks:
                        self._say(writer, Acked(checkpoint_id, _kept(writer, checkpoint_id)))
            case Commit(checkpoint_id):
                self._say(subtask, Committed(checkpoint_id))
            case Finish():
                self._say(subtask, Closed())
            case _:
                pass

    @property
    def _sources(self) -> tuple[SubtaskId, ...]:
        return self.plan.chains[0].subtasks

    def _say(self, subtask: SubtaskId, report: Any) -> None:
        self.step(job.Said(subtask, 1, report))


def _kept(subtask: SubtaskId, checkpoint_id: int) -> SubtaskSnapshot:
    """Give a snapshot as an incremental one looks: a whole table, and what changed in it since."""
    parts = tuple(
        Part(f"chunks/1-{subtask.chain}-{subtask.index}-{n}.arrow", 0, 1000, "0" * 64, 10)
        for n in (1, checkpoint_id)
    )
    if subtask.chain == "write":
        prepared = ((checkpoint_id, {"w": b"a file"}),)
        return SubtaskSnapshot(subtask, {"w": (Kept("rows", "keyed", ("k",), parts),)}, prepared)
    return SubtaskSnapshot(subtask, {"read": (Kept("splits", "split", (), parts),)})
