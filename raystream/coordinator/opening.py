"""What must be known before an attempt begins: the job's past, a snapshot, the splits it reads."""

from __future__ import annotations

import pickle
from collections.abc import Collection

from raystream.contracts.sink import commits
from raystream.coordinator.assignment import source_chains
from raystream.coordinator.events import Effect, ListSplits, LogRead, ReadLog, ReadManifest
from raystream.coordinator.history import History, history_of
from raystream.coordinator.states import Beginning
from raystream.errors import CorruptSnapshot
from raystream.flow.codec import pickled
from raystream.flow.snapshots import AttemptEntry, Manifest
from raystream.flow.split import Split
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Scale
from raystream.operators.sink import SinkSpec


class Opening:
    """Gathers it for one attempt.

    ``source`` is the snapshot that a new job starts from; ``bad`` are checkpoints that turned out
    to be unreadable; ``resumed``: whoever resumes the job wants its newest savepoint, too.
    """

    def __init__(
        self, plan: PhysicalPlan, before: History, source: str, bad: Collection[int], resumed: bool
    ) -> None:
        self.plan = plan
        self._source = source
        self._bad = bad
        self._resumed = resumed
        self._logged = plan.checkpoint is not None
        self.history = before
        self.path = ""
        self.manifest: Manifest | None = None
        self.splits: dict[str, tuple[Split, ...]] = {}
        self._log_read = not self._logged

    def begin(self) -> list[Effect]:
        """Ask for what comes first."""
        return [ReadLog()] if self._logged else self.ask()

    def take(self, log: LogRead) -> None:
        """Take the log."""
        self.history = history_of(log.entries, log.next_number)
        self._log_read = True

    def ask(self) -> list[Effect]:
        """Ask for what the log does not say."""
        history = self.history
        self.path, _ = history.start(but=self._bad, savepoints=self._resumed)
        if not history.attempt:
            self.path = self._source
        elif history.splits:
            # A job begins where it first meant to begin: what "latest" was then stays.
            # Other parallelisms may make other chains.
            for chain in source_chains(self.plan):
                some = history.splits.get(self._uid(chain), history.splits.get(chain))
                if some is not None:
                    self.splits[chain] = pickle.loads(some)
        chains = [chain for chain in source_chains(self.plan) if chain not in self.splits]
        reads: list[Effect] = [ReadManifest(self.path)] if self.path else []
        return [*reads, *(ListSplits(chain) for chain in chains)]

    @property
    def complete(self) -> bool:
        """Whether everything is known."""
        listed = self.splits.keys() >= source_chains(self.plan).keys()
        return self._log_read and listed and (not self.path or self.manifest is not None)

    @property
    def next_id(self) -> int:
        """The id of this attempt's first checkpoint: above all that the job ever had."""
        restored = 0 if self.manifest is None else self.manifest.checkpoint_id
        return max(self.history.last_id, restored) + 1

    def entry(self, attempt: int, beginning: Beginning, at_us: int, scale: Scale) -> AttemptEntry:
        """Give the entry that begins the attempt."""
        splits = {self._uid(chain): pickled(some) for chain, some in self.splits.items()}
        return AttemptEntry(
            attempt,
            beginning.by,
            beginning.born_us,
            self.path,
            {} if self.history.attempt else splits,
            at_us,
            scale=scale,
        )

    def _uid(self, chain: str) -> str:
        return self.plan.chain(chain).nodes[0].uid


def fallback(
    plan: PhysicalPlan, opening: Opening, error: BaseException, bad: set[int], state: str
) -> bool:
    """Tell whether the checkpoint before the one that cannot be read may be used, and note it.

    Not where a sink commits: rows that have become visible since would come again.
    """
    if not isinstance(error, CorruptSnapshot) or state not in ("opening", "starting"):
        return False
    _, unreadable = opening.history.start(but=bad)
    entries = [entry for _, entry in opening.history.checkpoints]
    older = [entry for entry in entries if entry.checkpoint_id < unreadable]
    specs = [node.spec for chain in plan.chains for node in chain.nodes]
    if not unreadable or not older:
        return False
    if any(isinstance(spec, SinkSpec) and commits(spec.sink) for spec in specs):
        error.hint = (
            "rows that sinks have committed since would come a second time; whoever accepts that "
            f"starts a new job from the checkpoint before: --from …/{older[-1].manifest}"
        )
        return False
    bad.add(unreadable)
    return True
