"""Keep the best rows of each key, whole, as rows come."""

from __future__ import annotations

from dataclasses import dataclass

from raystream.errors import PlanError
from raystream.flow.key import check_key_type
from raystream.operators.retracting_top_k import RetractingTopK
from raystream.operators.running_top_k import TopK, TopKPlan


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

    def build(self) -> TopK:
        return RetractingTopK(self) if self.signed else TopK(self)
