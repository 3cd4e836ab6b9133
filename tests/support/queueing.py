"""A job as a queueing model: rates, costs and backlogs on a clock of its own, and no rows.

Each step every subtask does what it can; what the slowest chain cannot take stays at the source. It
tells figures as real subtasks do, asks the real autoscaler, and runs at the size that it wants.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from raystream.clock import ManualClock
from raystream.coordinator.autoscaler import Autoscaler
from raystream.coordinator.events import Answer, RescaleAsked
from raystream.flow.control import OperatorFigures, Rescaling, SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Chain, PhysicalPlan
from raystream.graph.rescaling import Replan, Scale


@dataclass(frozen=True)
class Stage:
    """One operator: what a subtask does in a second of work, and what it gives for a row.

    ``hot``: the share of all rows that is of one key. ``cores``: so many subtasks at once; more
    are no faster. ``small``: what a row costs more of while batches are small.
    """

    rate: float
    gives: float = 1.0
    hot: float = 0.0
    cores: int = 10_000
    small: float = 0.0


@dataclass
class _Counts:
    rows: list[float]  # that came to each operator, and left the last
    busy_us: float = 0.0
    held_us: float = 0.0
    lived_us: int = 0
    dry: int = 0
    watermark_us: int | None = None


@dataclass
class _Moves:
    under_way: bool = False


@dataclass
class Model:
    """One job: a line of operators, of which the first reads; others than ``stages`` cost nothing.

    ``arrives`` gives rows a second by the second; ``tells`` False: its reader knows no backlog, but
    with ``live`` its rows have event times. ``room`` is what the cluster has of subtasks.
    """

    replan: Replan
    stages: dict[str, Stage]
    arrives: Callable[[float], float]
    splits: int = 1_000
    backlog: float = 0.0
    tells: bool = True
    live: bool = False
    room: int = 10_000
    noise: float = 0.0
    pause_s: float = 1.0
    step_s: float = 10.0
    seed: int = 0

    # As the coordinator's machine shows itself.
    state: str = "running"
    attempt: int = 1
    moves: _Moves = field(default_factory=_Moves)

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.rng = random.Random(self.seed)
        self.scaler = Autoscaler(self.replan, self.clock)
        self.scale: Scale = {}
        self.plan: PhysicalPlan = self.replan.plan({})
        self.counts: dict[SubtaskId, _Counts] = {}
        self.told: list[tuple[float, Rescaling]] = []
        self.said: list[str] = []
        self.behind_us = 0
        self.paused_s = 0.0
        self.did = 0.0

    @property
    def now_s(self) -> float:
        return self.clock.monotonic_us() / 1e6

    def size(self, operator: str) -> int:
        """Tell how many subtasks run an operator."""
        found = [c for c in self.plan.chains for n in c.nodes if n.name == operator]
        return found[0].parallelism

    @property
    def sizes(self) -> dict[str, int]:
        return {chain.name: chain.parallelism for chain in self.plan.chains}

    def grown(self) -> list[dict[str, int]]:
        """The sizes that were taken, in their order."""
        return [dict(one.after) for _, one in self.told if one.outcome == "done"]

    def run(self, seconds: float) -> Model:
        """Let time pass."""
        for _ in range(round(seconds / self.step_s)):
            self._step()
            self.clock.advance(int(self.step_s * 1e6))
            for subtask, count in self.counts.items():
                self.scaler.take(self._figures(subtask, count))
            asked = self.scaler.look(self, self.plan)
            if self.scaler.said and (not self.said or self.said[-1] != self.scaler.said):
                self.said.append(self.scaler.said)
            if asked is not None:
                self._rescale(asked)
        return self

    def _rescale(self, asked: RescaleAsked) -> None:
        scale = self.replan.scale(self.scale, asked.scale, exact=True)
        wanted = self.replan.plan(scale)
        after = {chain.name: chain.parallelism for chain in wanted.chains}
        if len(wanted.subtasks) > self.room:
            why = f"the cluster has no room for {len(wanted.subtasks)} subtasks"
            self.scaler.heard(Answer(asked.request, None, why, "cluster"))
            told = Rescaling(self.clock.now_us(), asked.reason, self.sizes, after, why)
        else:
            told = Rescaling(self.clock.now_us(), asked.reason, self.sizes, after, "done")
            self.scale, self.plan = scale, wanted
            self.counts = {}
            self.attempt += 1
            self.paused_s = self.pause_s
            self.scaler.heard(Answer(asked.request, ""))
        self.told.append((self.now_s, told))

    # One step --------------------------------------------------------------------------------

    def _step(self) -> None:
        passed = self.step_s
        rate = self.arrives(self.now_s) * (1 + self.noise * self.rng.uniform(-1, 1))
        self.backlog += rate * passed
        works = max(0.0, passed - self.paused_s)
        self.paused_s = max(0.0, self.paused_s - passed)
        offered = self.backlog / works if works else 0.0
        most, given = [], 1.0
        for chain in self.plan.chains:
            most.append(1 / (given * max(self._shares(chain)) * self._cost_s(chain, 1e12)))
            given *= self._gives(chain)
        flow = min(offered, *most)
        narrow = most.index(min(most)) if flow < offered - 1e-9 else None
        self.did += flow * works
        self.backlog = max(0.0, self.backlog - flow * works)
        self.behind_us = int(self.backlog / rate * 1e6) if rate > 0 else self.behind_us
        for place, chain in enumerate(self.plan.chains):
            self._count(chain, flow, works, held=narrow is not None and place < narrow)
            flow *= self._gives(chain)

    def _stages(self, chain: Chain) -> list[Stage]:
        found = [self.stages[node.name] for node in chain.nodes if node.name in self.stages]
        return found or [Stage(1e9)]

    def _gives(self, chain: Chain) -> float:
        return math.prod(stage.gives for stage in self._stages(chain))

    def _shares(self, chain: Chain) -> list[float]:
        stage, count = self._stages(chain)[0], chain.parallelism
        if chain is self.plan.chains[0]:
            reading = min(count, self.splits)
            return [1 / reading if index < reading else 0.0 for index in range(count)]
        if count == 1:
            return [1.0]
        fair = (1 - stage.hot) / count
        return [fair + (stage.hot if index == 0 else 0.0) for index in range(count)]

    def _cost_s(self, chain: Chain, rows: float) -> float:
        """Seconds of work for a row, where a subtask has so many in a second."""
        cost, given = 0.0, 1.0
        for stage in self._stages(chain):
            slow = max(1.0, chain.parallelism / stage.cores)
            load = min(1.0, rows * given / stage.rate)
            cost += given * slow / stage.rate * (1 + stage.small * (1 - load))
            given *= stage.gives
        return cost

    def _count(self, chain: Chain, rows: float, works: float, *, held: bool) -> None:
        for subtask, share in zip(chain.subtasks, self._shares(chain), strict=True):
            count = self.counts.setdefault(subtask, _Counts([0.0] * (len(chain.nodes) + 1)))
            mine = rows * share
            busy = min(1.0, mine * self._cost_s(chain, mine)) * works
            for place in range(len(chain.nodes) + 1):
                count.rows[place] += mine * works
                if place < len(chain.nodes):
                    stage = self.stages.get(chain.nodes[place].name)
                    mine *= 1.0 if stage is None else stage.gives
            count.busy_us += busy * 1e6
            count.held_us += (works - busy) * 1e6 if held and share else 0.0
            count.lived_us += int(self.step_s * 1e6)
            # It reads when it is not held up, and finds nothing once there is none.
            count.dry += self.backlog < 1
            if self.live:
                count.watermark_us = self.clock.now_us() - self.behind_us

    def _figures(self, subtask: SubtaskId, count: _Counts) -> SubtaskFigures:
        chain = self.plan.chain(subtask.chain)
        reads = chain is self.plan.chains[0] and subtask.index < self.splits
        busy, held = int(count.busy_us), int(count.held_us)
        share = int(self.backlog / min(self.splits, self.plan.chains[0].parallelism))
        rows = [int(n) for n in count.rows]
        return SubtaskFigures(
            subtask,
            tuple(map(OperatorFigures, [n.name for n in chain.nodes], rows, rows[1:])),
            count.watermark_us,
            busy,
            held,
            max(0, count.lived_us - busy - held),
            splits=-(-self.splits // chain.parallelism) if reads else 0,
            dry_polls=count.dry if reads else 0,
            backlog_rows=share if reads and self.tells else None,
        )
