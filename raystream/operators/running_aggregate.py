"""Aggregate columns per key, without windows: the value so far, row by row, batch or at the end."""

from __future__ import annotations

from dataclasses import dataclass

from raystream.contracts.aggregate import Bound
from raystream.flow.key import check_key_type
from raystream.operators.aggregating import RunningAggregateOperator, RunningPlan
from raystream.operators.retracting_aggregate import RetractingAggregateOperator


@dataclass(frozen=True)
class RunningAggregateSpec(RunningPlan):
    """The key columns and the aggregates, as they are after each row, batch, or all input.

    ``emit`` is ``"row"`` (in order of the rows, each at its own event time), ``"batch"`` (each
    touched key once a batch, at its latest event time in it), ``"final"`` (each key once, at the
    end of bounded input, at its latest event time) or ``"changes"`` (as ``"row"``, each an insert
    or an update of its key's row; with ``before`` the old row goes out before the new one).
    ``output`` is the wire schema. With ``signed`` the input is a changelog: rows take others back,
    and a key without rows is gone.
    Raises: PlanError where an aggregate is not defined for the type of its column, or cannot take
        rows back.
    """

    def __post_init__(self) -> None:
        # Made for its checks: what cannot be aggregated is refused before any actor starts.
        for bound in self.aggregates:
            self.rule(bound)
        for key in self.keys:
            check_key_type(self.output.field(key).type)

    @property
    def verb(self) -> str:
        return "aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(f"{bound.name}={_text(bound)}" for bound in self.aggregates)
        return f"by {', '.join(self.keys)}: {aggregates}  emit={self.emit}"

    def build(self) -> RunningAggregateOperator:
        return RetractingAggregateOperator(self) if self.signed else RunningAggregateOperator(self)


def _text(bound: Bound) -> str:
    columns = [name for name in (bound.value, bound.by) if name is not None]
    name = type(bound.function).__name__ if bound.function is not None else bound.kind
    return f"{name}({', '.join(columns)})"
