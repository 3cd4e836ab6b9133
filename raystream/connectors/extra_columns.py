"""Columns beside the values of messages: the subject they came by, their number, their time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raystream.connectors.record_formats import Decode, Found, Rows, decoded
from raystream.errors import PlanError


@dataclass(frozen=True, slots=True)
class ExtraColumns:
    """What is added: names, types and what gives each; ``schema`` None on a stream of objects."""

    columns: pa.Schema | None
    added: tuple[tuple[str, pa.DataType, str], ...]

    @classmethod
    def of(
        cls,
        columns: pa.Schema | None,
        types: dict[str, pa.DataType],
        names: dict[str, str | None],
    ) -> ExtraColumns:
        """Name what is to be added. Raises: PlanError for a name that is taken."""
        added = tuple((name, types[what], what) for what, name in names.items() if name is not None)
        taken = [] if columns is None else list(columns.names)
        for name, _, what in added:
            if name in taken:
                raise PlanError(f'{what}="{name}": there is another column of this name')
            taken.append(name)
        return cls(columns, added)

    @property
    def schema(self) -> pa.Schema | None:
        """The columns of the rows."""
        if self.columns is None:
            return None
        fields = [pa.field(name, kind) for name, kind, _ in self.added]
        return pa.schema([*self.columns, *fields])

    def found(
        self,
        messages: Sequence[Any],
        value: Callable[[Any], bytes],
        reads: dict[str, Callable[[Any], Any]],
        decode: Decode,
    ) -> Found:
        """Decode messages; what is broken is told with its place among them."""
        empty = self.columns
        nothing: Rows = [] if empty is None else pa.RecordBatch.from_pylist([], empty)
        found = decoded([value(one) for one in messages], decode, nothing)
        if not self.added:
            return found
        kept = [messages[place] for place in found.places.tolist()]
        # Loops over messages: the client gives each as an object.
        lists = {name: [reads[what](one) for one in kept] for name, _, what in self.added}
        if isinstance(found.rows, list):
            rows: Rows = [
                {**_dict(row), **{name: values[i] for name, values in lists.items()}}
                for i, row in enumerate(found.rows)
            ]
        else:
            arrays = [pa.array(lists[name], kind) for name, kind, _ in self.added]
            rows = pa.RecordBatch.from_arrays([*found.rows.columns, *arrays], schema=self.schema)
        return Found(rows, found.places, found.broken)


def _dict(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else {"value": row}
