"""A job in a world where anything may fail: the real machines, one thread, one seed.

The seed decides the order of every step, and when what breaks: subtasks die, coordinators die and
come back, or come back while the old one still acts; storage fails before it has done something,
or after, or in the middle. Whoever runs it compares what came out with an undisturbed run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from raystream.clock import ManualClock
from raystream.coordinator import events as job
from raystream.coordinator.states import Beginning
from raystream.errors import JobFailed
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Acked, Closed, Finish
from raystream.flow.snapshots import CheckpointEntry
from raystream.graph.logical import EVERY
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan
from raystream.runtime.local_job import LocalJob
from raystream.runtime.local_process import Link
from raystream.runtime.vault import Home, Vault
from raystream.storage.codec import decode_entry
from raystream.storage.jobs import read_manifest
from raystream.storage.layout import LOG
from raystream.storage.loading import load
from raystream.storage.log import read_log
from raystream.storage.store import Store
from raystream.subtask import events as sub
from raystream.testing.failing_disk import Disk
from raystream.testing.trace import line, words

_STEP_US_MAX = 40
"""What one step may take of simulated time: checkpoints of a few milliseconds get their turn."""


_ORDERS_SHARE = 0.5
"""So many jams hold up what the coordinator says, not rows: of those there are few links."""

_READS_SHARE = 0.25
"""So many are a reader that does not come back for a while."""

_PARALLELISM_MAX = 4

_LEAVING_SHARE = 0.5

_REPEATED_SHARE = 0.5
"""So many mistaken words come twice, the others never."""

_REST_STEPS_MAX = 2_000


class WorldClock(ManualClock):
    """A clock that goes on a little whenever it is looked at, so that slices of work end."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    def monotonic_us(self) -> int:
        self.advance(self._rng.randrange(_LOOK_US_MAX))
        return super().monotonic_us()


_LOOK_US_MAX = 8


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what breaks, in one run; the seed says when."""

    subtasks: int = 2
    coordinators: int = 1
    orphans: int = 1
    storage: int = 1
    jams: int = 0
    """Times when nothing comes through from one process to another."""
    words: int = 0
    """Words between the coordinator and a subtask that come twice, or never."""
    resizes: int = 0
    """Times when somebody asks for another parallelism while the job runs."""
    departures: int = 0
    """Times when nodes are about to go, and some subtasks are to be elsewhere."""


@dataclass(slots=True)
class Incarnation:
    """One coordinator process and the subtasks that it owns; an orphan acts on for a while."""

    local: LocalJob
    steps_left: int | None = None
    plan: PhysicalPlan | None = None


@dataclass(eq=False)
class World:
    """One job's life, from its first attempt to its end.

    Somebody resumes it with each of the plans in turn; ``replan`` is for who rescales it meanwhile.
    """

    plans: list[PhysicalPlan]
    seed: int
    faults: Faults = field(default_factory=Faults)
    steps_max: int = 60_000
    horizon: int = 1_500
    """Faults come within so many steps."""
    replan: Replan | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311  chance of a test, not a secret
        self.clock = WorldClock(self._rng)
        self.disk = Disk(self._rng)
        self.trace: list[str] = []  # bounded by the steps
        self._root = "sim://job"
        self._born = 0
        self._living: list[Incarnation] = []
        self._current = self._bear(self.plans[0], resumed=False)
        self._jams: list[tuple[Link, int]] = []
        self.deaths = 0
        self._entries: dict[str, int] = {}  # checkpoints by the names of their entries

    # Life ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let the job live until it has finished.

        Raises: JobFailed where it fails, or does not end once nothing breaks any more.
        """
        due = self._fate()
        for step in range(self.steps_max):
            while due and due[0][0] <= step:
                self._strike(due.pop(0)[1])
            self._weather()
            self.disk.moment = step
            self.clock.advance(self._rng.randrange(_STEP_US_MAX))
            one = self._rng.choice(self._living)
            if not self._advance(one):
                self._pass_time()
            if self._current.local.over:
                if self._current.local.state == "finished":
                    self._come_to_rest()
                    return
                self._current.local.result()
                raise JobFailed(f"the job is {self._current.local.state}")
        raise JobFailed(f"the job does not end within {self.steps_max} steps")

    def _come_to_rest(self) -> None:
        """Let storage do what it was asked for last."""
        self.disk.failing = 0.0
        local = self._current.local
        for _ in range(_REST_STEPS_MAX):
            if not local.advance():
                if local.wake_us is None:
                    return
                self.clock.advance(max(0, local.wake_us - self.clock.monotonic_us()))
        raise JobFailed("a job that is over does not come to rest")

    def _advance(self, one: Incarnation) -> bool:
        if one.steps_left is not None:
            one.steps_left -= 1
            if one.steps_left < 0 or one.local.over:
                self._living.remove(one)
                return True
        return one.local.advance()

    def _pass_time(self) -> None:
        wakes = [one.local.wake_us for one in self._living]
        known = [wake_us for wake_us in wakes if wake_us is not None]
        now_us = self.clock.monotonic_us()
        self.clock.advance(max(0, min(known, default=now_us + 1_000) - now_us))

    def _bear(
        self, plan: PhysicalPlan, *, resumed: bool = True, came_back: bool = False
    ) -> Incarnation:
        self._born += 1
        name = f"c{self._born}"
        born_us = self.clock.now_us()
        beginning = Beginning(name, born_us, resumed=resumed, came_back=came_back)
        home = Home(self._root, "job", beginning)
        vault = Vault(plan, home, opened=self.disk.open)

        def happened(subtask: SubtaskId | None, event: sub.Event | job.Event | None) -> None:
            where = f"{name} {'job' if subtask is None else subtask}"
            self.trace.append(line(self.clock.now_us(), where, words(subtask, event)))

        local = LocalJob(
            plan,
            self.clock,
            self._rng,
            happened,
            vault=vault,
            beginning=beginning,
            replan=self.replan,
            slow_words=True,
        )
        one = Incarnation(local, plan=plan)
        self._living.append(one)
        local.begin()
        return one

    # Fate ------------------------------------------------------------------------------------

    def _fate(self) -> list[tuple[int, str]]:
        counts = {
            "subtask": self.faults.subtasks,
            "coordinator": self.faults.coordinators,
            "orphan": self.faults.orphans,
            "storm": self.faults.storage,
            "jam": self.faults.jams,
            "word": self.faults.words,
            "resize": self.faults.resizes,
            "departure": self.faults.departures,
            "rescale": len(self.plans) - 1,
        }
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        return sorted((self._rng.randrange(self.horizon), kind) for kind in kinds)

    def _strike(self, kind: str) -> None:
        self.trace.append(line(self.clock.now_us(), "FATE", kind))
        current = self._current
        match kind:
            case "subtask":
                alive = current.local.alive
                if alive:
                    self.deaths += 1
                    current.local.crash(self._rng.choice(alive))
            case "coordinator" | "rescale":
                self.deaths += 1
                self._living.remove(current)
                plan = current.plan
                assert plan is not None, "an incarnation has a plan"
                if kind == "rescale":
                    plan = self.plans[(self.plans.index(plan) + 1) % len(self.plans)]
                self._current = self._bear(plan, came_back=kind == "coordinator")
            case "orphan":
                self.deaths += 1
                current.steps_left = self._rng.randrange(1, 400)
                assert current.plan is not None, "an incarnation has a plan"
                self._current = self._bear(current.plan, came_back=True)
            case "storm" if self._born == 1 and current.local.state == "opening":
                pass  # nobody begins a job on a disk that does not work
            case "storm":
                length = self._rng.randrange(20, 300)
                self.disk.failing = self._rng.choice([0.2, 0.6, 0.95])
                self._storm_left = length
            case "jam":
                self._jam(current.local)
            case "word" | "resize" | "departure":
                self._say(kind, current.local)
            case _:
                raise AssertionError(kind)

    def _jam(self, local: LocalJob) -> None:
        links = sorted(local.links, key=repr)
        orders = [link for link in links if link[0] is None and link[1] is not None]
        reads = [link for link in links if link[0] == link[1] and link[0] is not None]
        drawn = self._rng.random()
        if orders and drawn < _ORDERS_SHARE:
            links = orders
        elif reads and drawn < _ORDERS_SHARE + _READS_SHARE:
            links = reads
        if links:
            self._jams.append((self._rng.choice(links), self._rng.randrange(20, 400)))
            local.jammed = {link for link, _ in self._jams}

    def _say(self, kind: str, local: LocalJob) -> None:
        if kind == "word":
            self._mistake(local)
            return
        if kind == "departure":
            leaving = frozenset(one for one in local.alive if self._rng.random() < _LEAVING_SHARE)
            local.ask(job.NodesLeaving(leaving))
            return
        self._asks += 1
        assert self.replan is not None, "a job that is resized can be planned anew"
        # Of one operator: what others do does not change, and stays open.
        some = [EVERY, *self._rng.sample(sorted(self.replan.operators), 1)]
        asked = {self._rng.choice(some): self._rng.randint(1, _PARALLELISM_MAX)}
        local.ask(job.RescaleAsked(f"resize {self._asks}", asked))

    def _mistake(self, local: LocalJob) -> None:
        """Let one word that is under way come twice, or never."""
        words = [
            (link, place)
            for link, some in sorted(local.links.items(), key=repr)
            for place, (_, said) in enumerate(some)
            if (link[0] is None) != (link[1] is None)
            and not isinstance(said, job.Failed | job.StorageFailed)
        ]
        if not words:
            return
        link, place = self._rng.choice(words)
        attempt, said = local.links[link][place]
        subtask = link[0] or link[1]
        assert subtask is not None, "a word has a subtask at one end"
        if self._rng.random() < _REPEATED_SHARE:
            local.links[link].append((attempt, said))
            return
        del local.links[link][place]
        match said.report if isinstance(said, job.Said) else said:
            case Acked():
                pass  # the checkpoint is not complete in time
            case Finish() | Closed():
                local.lose(subtask, attempt, closing=True)  # it had some time to let go
            case _:
                local.lose(
                    subtask, attempt, closing=False
                )  # whoever waits learns that nobody answers

    _storm_left = 0
    _asks = 0

    def _weather(self) -> None:
        if self._storm_left:
            self._storm_left -= 1
            if not self._storm_left:
                self.disk.failing = 0.0
        if self._jams:
            self._jams = [(link, left - 1) for link, left in self._jams if left]
            self._current.local.jammed = {link for link, _ in self._jams}

    # What is left ----------------------------------------------------------------------------

    @property
    def root(self) -> Store:
        """The folder of the job."""
        return self.disk.open(self._root)

    @property
    def attempt(self) -> int:
        """The last attempt."""
        entries = [one.entry for one in read_log(self.root).entries]
        return max(entry.attempt for entry in entries)

    @property
    def sizes(self) -> dict[str, int]:
        """How many subtasks run each operator."""
        operators = self._current.local.status().operators
        return {operator.name: operator.parallelism for operator in operators}

    def newest_durable(self) -> int:
        """Give the newest checkpoint that is in the log, however the disk feels."""
        folder = f"{self._root}/{LOG}/"
        for name, data in self.disk.objects.items():
            if name.startswith(folder) and name not in self._entries:
                entry = decode_entry(data, name)
                known = entry.checkpoint_id if isinstance(entry, CheckpointEntry) else 0
                self._entries[name] = known
        return max(self._entries.values(), default=0)

    def state(self, uid: str, section: str) -> list[dict[str, object]]:
        """Give the rows of one section of the last checkpoint, in an order of their own."""
        store = self.root
        entries = [one.entry for one in read_log(store).entries]
        known = [entry for entry in entries if isinstance(entry, CheckpointEntry)]
        newest = max(known, key=lambda entry: entry.checkpoint_id)
        manifest = read_manifest(store, newest.manifest)
        found = load(manifest, store, [uid], 0, 1).get(uid, ())
        rows = [row for one in found if one.name == section for row in one.table.to_pylist()]
        return sorted(rows, key=repr)


def without_faults(plan: PhysicalPlan, seed: int = 0) -> World:
    """Run a job undisturbed."""
    world = World([plan], seed, Faults(0, 0, 0, 0), steps_max=400_000)
    world.run()
    return world
