"""Keep the best rows of each key, whole, as rows come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raystream.errors import PlanError
from raystream.flow.key import check_key_type
from raystream.operators.retracting_top_k import RetractingTopK
from raystream.operators.running_top_k import RunningTopK, TopKPlan
from raystream.operators.top_k_by_row import TopKByRow
from raystream.operators.top_k_in_columns import TopKInColumns

_COLUMNS_K_MAX: Final = 128
"""Lists in columns are all as long as the longest; longer ones are lists of Python, row by row."""


@dataclass(frozen=True)
class TopKSpec(TopKPlan):
    """The ``k`` best rows of each key so far by ``by``, pairs of (column, descending).

    ``ties`` keeps all rows that equal the k-th; ``rank`` names a column of ranks from 1, equal for
    ties where they are kept. ``emit`` is ``"row"`` (a row that enters, and those whose rank it
    changes where there is a rank), ``"batch"`` (all the best of each key that has changed, once a
    batch), ``"final"`` (of every key, at the end of bounded input) or ``"changes"``; with
    ``before`` a row that is replaced goes out before the one that replaces it. ``input`` and
    ``output`` are wire schemas; where the input is a changelog, all rows of each key are kept.
    """

    def __post_init__(self) -> None:
        if self.k < 1 or not self.by:
            raise PlanError("top_k keeps at least one row, by at least one column")
        for key in self.keys:
            check_key_type(self.input.field(key).type)

    @property
    def verb(self) -> str:
        return "top_k"

    def describe(self) -> str:
        order = ", ".join(f"{name}{' desc' if down else ''}" for name, down in self.by)
        ties = ", with ties" if self.ties else ""
        return f"by {', '.join(self.keys)}: {self.k} by {order}{ties}  emit={self.emit}"

    def build(self) -> RunningTopK:
        if self.signed:
            return RetractingTopK(self)
        by_row = self.ties or self.k > _COLUMNS_K_MAX
        return TopKByRow(self) if by_row else TopKInColumns(self)
