"""Keys that are made of columns: ``order:{id}`` names a place for each row in another system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.text_columns import texts
from raystream.errors import PlanError, SinkError


def is_text(value: object) -> bool:
    """Tell whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """Texts and columns by turns: text, column, text, …, text."""

    written: str
    texts: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, written: str, what: str) -> KeyTemplate:
        """Read a template; ``{{`` and ``}}`` are braces, ``what`` is what the user calls it.

        Raises: PlanError for one that cannot be read.
        """
        if not is_text(written):
            raise PlanError(f'{what} takes a text such as "order:{{id}}", got {written!r:.60}')
        parts, columns, at, text = [], [], 0, ""
        for found in _PART.finditer(written):
            text += written[at : found.start()]
            at = found.end()
            if found[0] in {"{{", "}}"}:
                text += found[0][0]
            elif found[1]:
                parts.append(text)
                columns.append(found[1])
                text = ""
            else:
                raise PlanError(
                    f"{what}{written!r} has a brace that names no column",
                    hint='columns stand in braces, "order:{id}"; a brace itself is {{ or }}',
                )
        return cls(written, (*parts, text + written[at:]), tuple(columns))

    def check(self, names: Sequence[str], what: str) -> None:
        """See that a stream has the columns. Raises: PlanError."""
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise PlanError(
                f"{what}: the stream has no column {', '.join(missing)}; it has {', '.join(names)}"
            )

    def keys(self, rows: pa.RecordBatch) -> pa.Array:
        """Give the key of each row.

        Shapes: rows [n] -> string [n].
        Raises: SinkError where a column is null: nothing can be found by that.
        """
        for name in self.columns:
            if rows.column(name).null_count:
                raise SinkError(f'key column "{name}" is null, and finds nothing')
        if not self.columns:
            return pa.array([self.texts[0]] * rows.num_rows, pa.string())
        parts: list[object] = [self.texts[0]]
        for name, text in zip(self.columns, self.texts[1:], strict=True):
            parts += [texts(rows.column(name)), text]
        return pc.binary_join_element_wise(*parts, "")
