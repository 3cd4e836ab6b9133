"""A source whose every move is written down: rows, watermarks, silence, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raystream.api.callsite import user_line
from raystream.api.columns import check_schema
from raystream.clock import SystemClock
from raystream.contracts import source as contract
from raystream.contracts.source import Reader, Split
from raystream.errors import PlanError
from raystream.flow.normal import normal_schema
from raystream.testing.items import At, Checkpoint, Crash, Open, Watermark, Word
from raystream.testing.script import Script, ScriptReader, script_of, splits_of


class Source(contract.Source):
    """Give what is written: rows, and between them what happens.

    ``Source([...])`` has one split, ``Source(splits=[[...], [...]])`` several; the items of each
    come in order. With ``At(ts, row)`` rows have event times, and ``Watermark(ts)`` says how far
    time is; a ``watermark=`` of the job reads times by itself, and watermarks here add to its own.
    Dicts with ``schema`` make columns. A split ends, unless its last item is ``Open()``.
    ``Advance("5s")`` waits: in ``run`` the simulated clock jumps, elsewhere real time passes.
    Raises: PlanError for a row that does not fit the schema, rows with and without time side by
    side, or an ``Open()`` that is not the last.

    >>> import raystream as rs
    >>> T = rs.testing
    >>> numbers = rs.Job("numbers").source(T.Source([1, 2, 3]))
    >>> T.run(numbers.map(lambda n: n * 10)).rows
    [10, 20, 30]
    """

    def __init__(
        self,
        items: Iterable[Any] | None = None,
        schema: pa.Schema | None = None,
        *,
        splits: Iterable[Iterable[Any]] | None = None,
    ) -> None:
        where = user_line()
        if (items is None) is (splits is None):
            raise PlanError(
                "a test source has items or splits",
                where=where,
                hint="rs.testing.Source([...]), or rs.testing.Source(splits=[[...], [...]])",
            )
        lists = [items] if splits is None else list(splits)
        self._where = where
        self._items = [_listed(some, where) for some in lists]
        given = None if schema is None else check_schema(schema, "Source", where)
        self.schema = None if given is None else normal_schema(given)
        self._scripts = [script_of(some, self.schema, where) for some in self._items]
        self.items = [item for some in self._items for item in some]
        rows = [item for item in self.items if not isinstance(item, Word)]
        with_time = sum(isinstance(row, At) for row in rows)
        if with_time not in (0, len(rows)):
            raise PlanError(
                "some rows of the test source have a time and others have none",
                where=where,
                hint="write rs.testing.At(ts, row) for all of them, or for none",
            )
        self.befalls = [item for item in self.items if isinstance(item, (Crash, Checkpoint))]
        self.has_rows = bool(rows)
        said = any(isinstance(item, (At, Watermark)) for item in self.items)
        self.timed = said and with_time == len(rows)
        self.bounded = not any(isinstance(item, Open) for item in self.items)

    def scripts(self, schema: pa.Schema | None) -> list[Script]:
        """Give what each split does, where the rows have these columns.

        Raises: PlanError for a row that does not.
        """
        if schema is None or self.schema is not None:
            return self._scripts
        return [script_of(some, schema, self._where) for some in self._items]

    def splits(self) -> Sequence[Split]:
        for word in self.befalls:
            raise PlanError(
                f"{type(word).__name__}() in a test source is for rs.testing.run alone",
                where=self._where,
            )
        return splits_of(self._scripts)

    def open(self, split: Split, position: Any) -> Reader:
        return ScriptReader(self._scripts[int(split.id)], position or (0, 0), SystemClock())

    def describe(self) -> str:
        splits, count = len(self._items), sum(map(len, self._items))
        return f"{count} test items" + (f" in {splits} splits" if splits > 1 else "")


def _listed(items: Any, where: str) -> list[Any]:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise PlanError(
            f"a split of a test source is an iterable of rows, got {items!r:.60}", where=where
        )
    listed = list(items)
    if any(isinstance(item, Open) for item in listed[:-1]):
        raise PlanError("Open() is the last item of a split: nothing comes behind it", where=where)
    return listed
