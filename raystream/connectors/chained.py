"""History first, then what is live: two sources of the same rows, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raystream.contracts.source import (
    END,
    Polled,
    Reader,
    Source,
    Split,
    discovery_period_us,
)
from raystream.errors import PlanError, SourceError


def chain(history: Source, live: Source) -> Source:
    """Read a bounded source to its end, then go on with a live one.

    Guarantee: that of the weaker of the two; a position is one of whichever is being read.

    The splits of ``history`` are dealt to those of ``live``, which are listed first, so that what
    comes while history is read is in ``live``: each live split is read once its share of history
    has ended, whatever the others do. Where the one ends and the other begins is for you to say: an
    offset or a time that ``live`` starts at, and up to which ``history`` goes.

    Who has which share is settled by the first listing of a job. Live splits that are discovered
    later have none.

    Event time goes on through the seam. Within a share one history split follows another, so those
    that overlap in time need a watermark that bears it (``out_of_orderness=``), or their rows are
    late; splits of different shares are read side by side, as ever.

    Raises: PlanError if ``history`` has no end, or the two differ in their schema, or in whether
    they give event times.

    >>> import raystream as rs
    >>> T = rs.testing
    >>> rows = rs.Job("seam").source(rs.chain(T.Source([1, 2]), T.Source([3])))
    >>> T.run(rows).rows
    [1, 2, 3]
    """
    for name, source in (("history", history), ("live", live)):
        if not isinstance(source, Source):
            raise PlanError(f"chain(history, live) takes two sources; {name} is {source!r:.60}")
    if not history.bounded:
        raise PlanError(
            f"the history of a chain must end; {history.describe()} does not",
            hint="chain(history, live): the bounded source comes first",
        )
    if history.schema != live.schema:
        raise PlanError(
            f"the two sources of a chain differ: {history.describe()} gives "
            f"{_columns(history)}, {live.describe()} gives {_columns(live)}",
            hint="schema= of the sources makes them agree",
        )
    if history.timed != live.timed:
        timed, other = (history, live) if history.timed else (live, history)
        raise PlanError(
            f"{timed.describe()} gives event times and {other.describe()} does not",
            hint="read them from a column of both: watermark=rs.WatermarkStrategy(…)",
        )
    if history.changelog not in (None, live.changelog):
        raise PlanError(
            f"{history.describe()} gives the changes of a table, {live.describe()} "
            "rows, or those of a table with another key"
        )
    return ChainedSource(history, live)


class ChainedSource(Source):
    """Reads shares of one source, and behind each a split of another: see ``chain``."""

    def __init__(self, history: Source, live: Source) -> None:
        self._history, self._live = history, live
        self.schema, self.timed, self.bounded = live.schema, live.timed, live.bounded
        self.changelog = live.changelog  # rows of a plain history come into its table
        self.retracts = live.retracts and (history.changelog is None or history.retracts)
        self.discover_every_us = discovery_period_us(live)

    def splits(self) -> Sequence[Split]:
        # Live first: "now" is resolved before history is listed, so that nothing falls between.
        live = list(self._live.splits())
        history = list(self._history.splits())
        if not live:
            return [_joined([one], None) for one in history]
        count = len(live)
        return [_joined(history[index::count], one) for index, one in enumerate(live)]

    def discover(self) -> Sequence[Split]:
        return [_joined([], one) for one in self._live.discover()]

    def open(self, split: Split, position: Any) -> Reader:
        share: _Share = split.payload
        stages = [*((self._history, one) for one in share.history)]
        if share.live is not None:
            stages.append((self._live, share.live))
        stage, name, inner = (0, None, None) if position is None else position
        if stage < len(stages) and name not in {None, stages[stage][1].id}:
            raise SourceError(
                f"{self.describe()} was reading {name}, which is now in another share",
                hint="the splits of a chain must be those that the job has listed first",
            )
        return _ChainedReader(stages, stage, inner)

    def project(self, columns: Sequence[str]) -> Source:
        """Give a chain that reads only these columns, if both of its sources can."""
        history, live = self._history.project(columns), self._live.project(columns)
        return ChainedSource(history, live) if history.schema == live.schema else self

    def tolerating(self) -> Source:
        """Give a chain whose readers go on behind records that they cannot read."""
        return ChainedSource(self._history.tolerating(), self._live.tolerating())

    def describe(self) -> str:
        return f"chain({self._history.describe()}, {self._live.describe()})"


@dataclass(frozen=True, slots=True)
class _Share:
    """What one split of a chain reads, in order."""

    history: tuple[Split, ...]
    live: Split | None


class _ChainedReader(Reader):
    """Reads one split after the other; its position: which one, its id, and the position there."""

    def __init__(self, stages: Sequence[tuple[Source, Split]], stage: int, position: Any) -> None:
        self._stages = stages
        self._stage = stage
        self._position = position  # where the stage begins, until it is open
        self._reader: Reader | None = None

    def poll(self, max_rows: int) -> Polled:
        while self._stage < len(self._stages):
            polled = self._opened().poll(max_rows)
            if polled is not END:
                return polled
            self.close()
            self._stage, self._position = self._stage + 1, None
        return END

    def position(self) -> tuple[int, str | None, Any]:
        inner = self._position if self._reader is None else self._reader.position()
        name = self._stages[self._stage][1].id if self._stage < len(self._stages) else None
        return self._stage, name, inner

    def backlog(self) -> int | None:
        """Tell what the last split has to come: of those behind another nobody knows before."""
        if self._stage + 1 < len(self._stages):
            return None
        tells = getattr(self._reader, "backlog", None)
        return tells() if callable(tells) else None

    def checkpointed(self, position: Any) -> None:
        stage, _, inner = position
        # What was read before has ended, and its reader is closed.
        if self._reader is not None and stage == self._stage:
            told = getattr(self._reader, "checkpointed", None)
            if told is not None:
                told(inner)

    def close(self) -> None:
        # A reader that was not derived from Reader need not have a close.
        close, self._reader = getattr(self._reader, "close", None), None
        if close is not None:
            close()

    def _opened(self) -> Reader:
        if self._reader is None:
            source, split = self._stages[self._stage]
            self._reader = source.open(split, self._position)
        return self._reader


def _joined(history: Sequence[Split], live: Split | None) -> Split:
    """Make one split of a share; what bounds all of its parts bounds it."""
    parts = [*history, *([] if live is None else [live])]
    columns = [name for name in parts[0].earliest if all(name in part.earliest for part in parts)]
    earliest = {name: min(part.earliest[name] for part in parts) for name in columns}
    # The live split names it: it is the same whatever history there is, also when discovered.
    name = f"history {history[0].id}" if live is None else f"live {live.id}"
    return Split(name, _Share(tuple(history), live), earliest)


def _columns(source: Source) -> str:
    if source.schema is None:
        return "objects"
    return ", ".join(f"{field.name}: {field.type}" for field in source.schema)
