"""What a job remembers of itself: where the tables of a snapshot are, and the entries of its log.

A *root* is a folder of an object store: that of a job, or of a savepoint. Every path in here is
relative to the root that holds the manifest, so that a savepoint may be moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from raystream.flow.ids import SubtaskId
from raystream.flow.past import Past

FORMAT = 1
"""The format of manifests and log entries that this release writes; it reads all up to it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of one table: ``length`` of the object ``chunk`` from ``offset`` on."""

    chunk: str
    offset: int
    length: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Kept:
    """One section of one operator in one subtask, as it is stored.

    ``parts`` are in order: the first is whole, the others hold what changed since. With ``key``, a
    later row takes the place of an earlier one of the same key; without, rows add up. ``share`` is
    the value of a ``keyed.snapshot.Share``.
    """

    name: str
    share: str
    key: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SubtaskSnapshot:
    """What one subtask kept: sections by the uid of their operator.

    ``prepared`` is what its sinks have written and not yet seen committed: by checkpoint, oldest
    first, and by the uid of the sink, pickled. ``splits`` names the splits that it reads or has
    read.
    """

    subtask: SubtaskId
    operators: Mapping[str, tuple[Kept, ...]] = field(default_factory=dict)
    prepared: tuple[tuple[int, Mapping[str, bytes]], ...] = ()
    splits: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part that the snapshot needs."""
        return tuple(p for some in self.operators.values() for one in some for p in one.parts)


@dataclass(frozen=True, slots=True)
class OperatorEntry:
    """One operator as a manifest names it."""

    uid: str
    name: str
    verb: str
    stateful: bool = True


@dataclass(frozen=True, slots=True)
class Manifest:
    """One complete snapshot of a job: a checkpoint, or a savepoint."""

    job: str
    checkpoint_id: int
    attempt: int
    max_parallelism: int
    taken_us: int
    savepoint: bool
    operators: tuple[OperatorEntry, ...]
    subtasks: tuple[SubtaskSnapshot, ...]
    format: int = FORMAT


def manifest_path(attempt: int, checkpoint_id: int) -> str:
    """Name a checkpoint's manifest in the job's root.

    An attempt has one coordinator: no other one writes under this name.
    """
    return f"manifest-{attempt}-{checkpoint_id}.json"


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """An attempt begins: whoever wrote this entry is the only one who may write the next.

    ``by`` tells two coordinators apart, ``born_us`` which is the younger: somebody has started it
    because the other seemed dead. ``source`` is the manifest that it starts from: the path of one
    of this job's, the URL of another's, or empty. ``splits`` is, in the first entry, what
    the sources listed then, by the uid of the source, pickled: a job begins where it first meant to
    begin. ``scale`` is what the running job was asked for since it started: numbers of subtasks by
    the uid of an operator. ``past`` is what the job has to tell of itself by then.
    """

    attempt: int
    by: str
    born_us: int = 0
    source: str = ""
    splits: Mapping[str, bytes] = field(default_factory=dict)
    at_us: int = 0
    format: int = FORMAT
    scale: Mapping[str, int] = field(default_factory=dict)
    past: Past = field(default_factory=Past)


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """Checkpoint ``checkpoint_id`` is complete: recovery starts from the newest such entry.

    ``manifest`` is a path in the job's root, or, where the job stopped with a savepoint, a URL.
    ``past`` is as in an attempt's entry; the newest counts.
    """

    checkpoint_id: int
    attempt: int
    manifest: str
    at_us: int = 0
    format: int = FORMAT
    past: Past = field(default_factory=Past)


@dataclass(frozen=True, slots=True)
class SavepointEntry:
    """A savepoint was made; recovery does not use it, whoever resumes the job may."""

    checkpoint_id: int
    attempt: int
    manifest: str
    at_us: int = 0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class EndedEntry:
    """The job is over: ``finished``, ``stopped``, ``canceled`` or ``failed``."""

    attempt: int
    status: str
    at_us: int = 0
    format: int = FORMAT


Entry: TypeAlias = AttemptEntry | CheckpointEntry | SavepointEntry | EndedEntry
"""One entry of a job's log; entries are numbered densely, created exclusively, never rewritten."""
