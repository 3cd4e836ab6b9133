"""This coordinator's hand on the job's log: one entry at a time, behind the last that it knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from raystream.coordinator.events import Append
from raystream.coordinator.history import History
from raystream.coordinator.states import Beginning
from raystream.errors import JobFailed, RaystreamError, StorageError
from raystream.flow.past import Past
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry, Entry, Manifest


class Journal:
    """What has been written, and what is being; ``past`` gives what the job has to tell by now."""

    def __init__(self, past: Callable[[], Past] = Past) -> None:
        self._past = past
        self._next_number = 1
        self._attempts: set[int] = set()  # that the log knows to be ours
        self.under_way: Append | None = None
        self.kept: list[tuple[int, CheckpointEntry]] = []  # checkpoints, oldest first
        self.fenced = False

    def open(self, history: History, bad: Collection[int]) -> None:
        """Go on behind what was read; checkpoints that turned out to be bad are not counted."""
        self._next_number = history.next_number
        self.kept = [one for one in history.checkpoints if one[1].checkpoint_id not in bad]

    def append(self, entry: Entry, manifest: Manifest | None = None) -> list[Append]:
        """Write an entry."""
        assert self.under_way is None, "one entry is written at a time"
        if isinstance(entry, AttemptEntry | CheckpointEntry):
            entry = dataclasses.replace(entry, past=self._past())
        self.under_way = Append(self._next_number, entry, manifest)
        return [self.under_way]

    def written(self, number: int) -> Entry | None:
        """Take that an entry is durable; give it, if it is the one under way."""
        append = self.under_way
        if append is None or append.number != number:
            return None
        self.under_way, self._next_number = None, number + 1
        if isinstance(append.entry, AttemptEntry):
            self._attempts.add(append.entry.attempt)
        if isinstance(append.entry, CheckpointEntry):
            self.kept.append((number, append.entry))
        return append.entry

    def failed(self, append: Append) -> bool:
        """Take that nobody knows whether an entry was written; False if it is an old story."""
        if append != self.under_way:
            return False
        self.under_way = None
        return True

    def outrun(self, entry: Entry, born_us: int) -> RaystreamError | None:
        """Take that the number has another entry; give why the log is to be read again.

        It may be a late one of ours, whose reply was lost, or the last word of an older coordinator
        that we have come to replace. None: a younger one has come to replace us.
        """
        self.under_way = None
        if entry.attempt in self._attempts:
            return StorageError("the job's log has an entry of ours that was thought to be lost")
        if not self._attempts and getattr(entry, "born_us", 0) <= born_us:
            return StorageError("the coordinator before this one has still written into the log")
        return None

    def fence(self, job: str, attempt: int) -> RaystreamError:
        """Take that another coordinator has begun an attempt: from now on nothing is ours."""
        self.fenced = True
        return JobFailed(
            f'another coordinator of job "{job}" has taken over in attempt {attempt}',
            hint="it goes on there; this one has completed and committed nothing since",
        )

    def is_replaced(self, history: History, mine: Beginning) -> bool:
        """Tell whether another coordinator was started behind this one: it goes on, not we."""
        return history.by != mine.by and (history.born_us > mine.born_us or bool(self._attempts))

    def is_ours(self, attempt: int) -> bool:
        """Whether the log knows that an attempt is ours."""
        return attempt in self._attempts and not self.fenced

    def retire(self, keep: int) -> list[tuple[int, CheckpointEntry]]:
        """Give the checkpoints that are not kept any more."""
        retired, self.kept = self.kept[:-keep], self.kept[-keep:]
        return retired

    @property
    def manifests(self) -> tuple[str, ...]:
        """The manifests of the checkpoints that are kept."""
        return tuple(entry.manifest for _, entry in self.kept)
