"""What every shell does the same way: read splits, list them, and make operators' contexts."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from raystream.clock import Clock
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.metrics import Metrics
from raystream.contracts.rejects import Rejects, user_traceback
from raystream.contracts.source import END, Reader, Source, Split
from raystream.errors import PlanError, RaystreamError, SourceError, job_failed
from raystream.flow.figures import SnapshotFigures
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Prepared
from raystream.graph.physical import Chain, ChainNode, PhysicalPlan
from raystream.operators.sink import SinkSpec, abort
from raystream.operators.source import SourceSpec
from raystream.storage.layout import STAGED, safe_name
from raystream.storage.store import joined
from raystream.subtask.events import Acknowledge, Keep, Poll, Polled
from raystream.subtask.handing_over import Way

_LOG = logging.getLogger("raystream")


class Readers:
    """The open readers of one subtask; a split is opened when it is first asked."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._open: dict[str, Reader] = {}
        self._ended: set[str] = set()

    def poll(self, poll: Poll) -> Polled:
        """Ask the reader of a split for rows.

        Raises: SourceError naming the source, whatever its reader raised.
        """
        split = poll.split
        if split.id in self._ended:  # asked again before its end was known
            return Polled(split.id, END)
        reader = self._open.get(split.id)
        try:
            if reader is None:
                reader = self._open[split.id] = self._spec.source.open(split, poll.position)
            rows = reader.poll(poll.max_rows)
            # Asked in every job: one without checkpoints, too, may be told to make a savepoint.
            position = reader.position()
            backlog = _backlog(reader)
            if rows is END:
                self._ended.add(split.id)
                _close(self._open.pop(split.id))
        except RaystreamError:
            raise
        except Exception as error:
            raise source_error(self._spec, error, split) from error
        return Polled(split.id, rows, position, backlog)

    def acknowledge(self, word: Acknowledge) -> None:
        """Tell a reader that what lies before a position will never be read again.

        Raises: SourceError naming the source, whatever its reader raised.
        """
        reader = self._open.get(word.split)
        told = getattr(reader, "checkpointed", None)
        if told is None:
            return
        try:
            told(word.position)
        except RaystreamError:
            raise
        except Exception as error:
            raise source_error(self._spec, error) from error

    def close(self) -> None:
        """Close every reader that is open, also where one of them fails to.

        Raises: SourceError naming the source of the first that failed.
        """
        failure: SourceError | None = None
        while self._open:
            try:
                _close(self._open.popitem()[1])
            except Exception as error:  # noqa: BLE001, PERF203  the reader is the user's
                failure = failure or source_error(self._spec, error)
        if failure is not None:
            raise failure


def _backlog(reader: Reader) -> int | None:
    """Ask a reader what it has yet to read; one that was not derived from ``Reader`` may not tell.

    What has the name and is no method, or gives no number, is the reader's own affair.
    """
    tells: Any = getattr(reader, "backlog", None)
    told = tells() if callable(tells) else None
    return told if isinstance(told, int) else None


def _close(reader: Reader) -> None:
    """Close a reader; one that was not derived from ``Reader`` need not have a ``close``."""
    close = getattr(reader, "close", None)
    if close is not None:
        close()


def source_error(spec: SourceSpec, error: Exception, split: Split | None = None) -> SourceError:
    """Name the source whose code raised."""
    place = "" if split is None else f", split {split.id}"
    return SourceError(
        f'source "{spec.name}" ({spec.source.describe()}{place}) failed: '
        f"{type(error).__name__}: {error}",
        where=spec.where,
    )


def list_splits(spec: SourceSpec, *, again: bool) -> tuple[Split, ...]:
    """List the splits of a source, all or, ``again``, those that may be new.

    Raises: SourceError naming the source; PlanError where two splits have one id.
    """
    source: Source = spec.source
    try:
        splits = tuple(source.discover() if again else source.splits())
    except RaystreamError:
        raise
    except Exception as error:
        raise source_error(spec, error) from error
    ids = [split.id for split in splits]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise PlanError(f'source "{spec.name}" has two splits "{twice}"', where=spec.where)
    return splits


def source_spec(chain: Chain) -> SourceSpec | None:
    """Give the source at the head of a chain, if it reads."""
    spec: Any = chain.nodes[0].spec
    return spec if isinstance(spec, SourceSpec) else None


def contexts(
    plan: PhysicalPlan,
    subtask: SubtaskId,
    clock: Clock,
    deliver: Callable[[ChainNode, Batch], None],
) -> Callable[[ChainNode], OpenContext]:
    """Make what opens each operator of a subtask."""
    place = plan.checkpoint
    staging = None if place is None else joined(place.directory, safe_name(plan.job), STAGED)

    def context(node: ChainNode) -> OpenContext:
        metrics = Metrics()
        return OpenContext(
            operator=node.name,
            where=node.where,
            subtask_index=subtask.index,
            parallelism=subtask.parallelism,
            max_parallelism=plan.max_parallelism,
            metrics=metrics,
            errors=Rejects(node.on_error, node.name, metrics.counter("failed_rows")),
            clock=clock,
            limits=plan.limits,
            deliver=Way(lambda batch: deliver(node, batch)),
            staging=staging,
        )

    return context


def sink_specs(plan: PhysicalPlan) -> dict[str, SinkSpec]:
    """Give every sink of a plan by its operator's name."""
    found: dict[str, SinkSpec] = {}
    for chain in plan.chains:
        for node in chain.nodes:
            spec: Any = node.spec
            if isinstance(spec, SinkSpec):
                found[node.name] = spec
    return found


def sinks_by_uid(plan: PhysicalPlan) -> dict[str, SinkSpec]:
    """Give every sink of a plan by its operator's uid."""
    nodes = [node for chain in plan.chains for node in chain.nodes]
    return {node.uid: node.spec for node in nodes if isinstance(node.spec, SinkSpec)}


def abort_sinks(plan: PhysicalPlan, prepared: Prepared) -> None:
    """Throw away what was prepared; a sink that cannot is no news beside why the job ended."""
    specs = sinks_by_uid(plan)
    for _, packed in prepared:
        for uid, some in packed.items():
            if uid in specs:
                _abort(plan.job, specs[uid], pickle.loads(some))


def _abort(job: str, spec: SinkSpec, prepared: list[Any]) -> None:
    try:
        abort(spec, prepared)
    except RaystreamError as error:
        _LOG.warning("what job %s had prepared is left behind: %s", job, error)


def uploaded(keep: Keep, upload_us: int) -> SnapshotFigures | None:
    """Say what a snapshot has cost, its storing included."""
    figures = keep.figures
    return None if figures is None else replace(figures, upload_us=upload_us)


def travelling(job: str, error: BaseException) -> RaystreamError:
    """Give an error that keeps its traceback as text: tracebacks do not leave their process."""
    if isinstance(error, RaystreamError):
        return error
    failed = job_failed(job, error)
    if not isinstance(error, Exception):  # sys.exit, say: only users' code raises such
        failed.user_traceback = user_traceback(error)
    return failed
