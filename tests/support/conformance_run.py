"""One operator driven by hand through a story, checked after each watermark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from conformance import (
    ROWS_MAX,
    TIGHT,
    Advance,
    Case,
    Right,
    Row,
    Story,
    difference,
    expected,
    is_batch,
    plain_rows,
    same,
    to_batch,
    written,
)
from conformance_lineage import Lineages, same_rows

from raystream.clock import ManualClock
from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Objects
from raystream.flow.element import MAX_TIME, MIN_TIME, Side, Watermark
from raystream.keyed.snapshot import Snapshot, share
from raystream.operators.operator import Output
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceOperator


class Run:
    """One operator, opened, and everything that has come out of it."""

    def __init__(
        self,
        case: Case,
        *,
        starved: bool = False,
        views: bool = False,
        reborn: bool = False,
        incremental: bool = False,
        stays: bool = False,
        clock: ManualClock | None = None,
        on_error: str | None = None,
    ) -> None:
        self.case = case
        self.spec = case.spec()
        self.clock = clock or ManualClock(0)
        self.errors = Rejects(on_error or case.on_error, "it")
        self.context = OpenContext(
            "it", "case.py:1", clock=self.clock, limits=TIGHT, errors=self.errors
        )
        self.letters = 0
        self.operator = self.spec.build()
        self.operator.open(self.context)
        self.rows: list[Row] = []
        self.sides: dict[str, list[Row]] = {}
        self.batches: list[tuple[Batch, list[Row]]] = []
        self.watermark_us = MIN_TIME
        self._starved = starved
        self._views = views
        self._reborn = reborn
        self._stays = stays
        self.lineages = Lineages() if incremental else None

    def play(self, story: Story, *, reborn_every: int = 0) -> None:
        """Go through a story; after each watermark exactly what is due has come out.

        Every so many elements the operator is thrown away, and another takes up what it kept; or,
        where it ``stays``, what it keeps is told anew, as a whole, and its changes behind that.
        """
        for at, item in enumerate(story):
            self.tell(item)
            if not is_batch(item):
                self.check(story[: at + 1], ended=False)
            if reborn_every and at % reborn_every == 0 and self._stays:
                self.kept()
                self.operator.changes()
                self.lineages = Lineages()
                self.lineages.take(self.operator.snapshot())
            elif reborn_every and at % reborn_every == 0:
                self.restore([self.kept()])
            elif self.lineages is not None:
                self.kept()
        self.end()
        self.check(story, ended=True)
        self.finish()

    def tell(self, item: Any) -> None:
        """Go through one element of a story."""
        if is_batch(item):
            self.batch(item)
        elif isinstance(item, Advance):
            self.advance(item.us)
        else:
            self.watermark(item)

    def restore(self, kept: list[Snapshot], index: int = 0, parallelism: int = 1) -> None:
        """Throw the operator away; one subtask of so many takes up what others had kept."""
        self.operator.close()
        if self.lineages is not None:
            self.lineages = Lineages()
        self.operator = self.spec.build()
        self.operator.open(self.context)
        part = share(kept, index, parallelism, self.context.max_parallelism)
        if part:
            self.operator.restore(part)

    def kept(self) -> Snapshot:
        """Give what the operator keeps; of changes, put together from all since it was opened."""
        if self.lineages is None:
            return self.operator.snapshot()
        # Asked first: it must disturb nothing.
        whole = self.operator.snapshot()
        self.lineages.take(self.operator.changes())
        together = self.lineages.snapshot()
        same_rows(together, whole)
        return together

    def finish(self) -> None:
        """Close; and see that what went out is still what it was."""
        self.operator.close()
        for batch, rows in self.batches:
            assert self.case.shown(batch) == rows, "a batch has changed after it had left"
        if self.case.watermark is not None:
            assert self.watermark_us == self.case.watermark
        if self.case.late is not None:
            assert self.context.metrics.counter("late_rows").value == self.case.late

    def batch(self, rows: list[Row]) -> None:
        for given in self._given(rows):
            if isinstance(self.operator, SourceOperator):
                raw = self.spec.source.raw(given)
                for batch, watermark_us in self.operator.convert(raw, self.watermark_us):
                    self.take(batch, len(rows))
                    if watermark_us is not None:
                        self.take(Watermark(watermark_us), 0)
                continue
            for out in self.operator.on_batch(int(isinstance(rows, Right)), given):
                self.take(out, len(rows))

    def watermark(self, time_us: int) -> None:
        self._all("on_watermark", time_us)
        forwarded = self.operator.output_watermark(time_us)
        assert forwarded == (time_us - self.case.holds if self.case.forwards else None)
        if forwarded is not None:
            self.watermark_us = max(self.watermark_us, forwarded)

    def advance(self, us: int) -> None:
        until_us = self.clock.now_us() + us
        while (due_us := self.operator.timer_due_us()) is not None and due_us <= until_us:
            self.clock.advance(max(0, due_us - self.clock.now_us()))
            self._all("on_timer", self.clock.now_us())
        self.clock.advance(until_us - self.clock.now_us())

    def end(self) -> None:
        self._all("on_watermark", MAX_TIME)
        forwarded = self.operator.output_watermark(MAX_TIME)
        assert forwarded == (None if isinstance(self.spec, SinkSpec) else MAX_TIME)
        for out in self.operator.on_end():
            self.take(out, 0)

    def take(self, out: Output, rows_in: int) -> None:
        self.letters += len(self.errors.take())
        if isinstance(out, Side):
            self.sides.setdefault(out.tag, []).extend(plain_rows(out.batch))
            return
        if isinstance(out, Watermark):
            assert out.time_us > self.watermark_us, "a watermark rises"
            self.watermark_us = out.time_us
            return
        assert out.num_rows <= max(ROWS_MAX, rows_in), "a batch has a bound"
        check_batch(self.case, out)
        rows = self.case.shown(out)
        if self.case.promises:
            assert all(time > self.watermark_us for time, _ in rows), "a watermark is a promise"
        self.rows += rows
        self.batches.append((out, rows))

    def leave(self, item: Any) -> None:
        """Stop in the middle: pull one batch, no more, and see that nothing comes after that."""
        if item is None or not is_batch(item):
            time_us = item if isinstance(item, int) else MAX_TIME
            given = [self.operator.on_watermark(time_us)]
        elif isinstance(self.operator, SourceOperator):
            return
        else:
            port = int(isinstance(item, Right))
            given = [self.operator.on_batch(port, batch) for batch in self._given(item)]
        for outs in given:
            next(outs, None)
            if hasattr(outs, "close"):
                outs.close()
                assert next(outs, None) is None

    def check(self, story: Story, *, ended: bool) -> None:
        got = self.rows
        if isinstance(self.spec, SinkSpec):
            got = [row for _, batch in self.spec.sink.batches for row in written(batch)]
        wanted = expected(self.case, story, ended=ended)
        if ended and self.case.sides is not None:
            assert {tag: Counter(rows) for tag, rows in self.sides.items()} == {
                tag: Counter(rows) for tag, rows in self.case.sides(story).items() if rows
            }
        if not self.case.exact:
            assert self.case.view is not None
            assert self.case.view(got) == self.case.view(wanted)
            return
        assert same(got, wanted, ordered=self.case.ordered), difference(got, wanted)

    def _all(self, method: str, time_us: int) -> None:
        while True:
            outs = getattr(self.operator, method)(time_us)  # another operator once it is reborn
            for out in outs:
                self.take(out, 0)
                # Nothing has left at a mere place to pause: who is stopped there begins anew.
                if self._starved and getattr(out, "num_rows", 1):
                    break
            else:
                return
            # Closed after each batch; the next call with the same watermark gives the rest.
            outs.close()
            if self._reborn:
                self.restore([self.kept()])
            elif self.lineages is not None:
                self.kept()

    def _given(self, rows: list[Row]) -> Iterator[Batch]:
        if not self._views:
            yield to_batch(self.case, rows)
            return
        # Rows in the middle of a larger buffer, as exchanges cut them.
        around = to_batch(self.case, type(rows)([*rows[:1], *rows, *rows[-1:]]))
        yield around.slice(1 if rows else 0, len(rows))


def check_batch(case: Case, batch: Batch) -> None:
    """See that a batch is what the plan says."""
    if case.output is None:
        assert isinstance(batch, Objects), "the plan says objects"
        for beside in (batch.timestamps, batch.keys):
            assert beside is None or len(beside) == batch.num_rows
        return
    assert isinstance(batch, Columns), "the plan says columns"
    record = batch.record
    assert record.schema.equals(case.output), f"{record.schema} is not {case.output}"
    assert EVENT_TIME not in record.schema.names[:-1]
    record.validate(full=True)
    for one, column in zip(case.output, record.columns, strict=True):
        assert one.nullable or not column.null_count, f"{one.name} is never null"
