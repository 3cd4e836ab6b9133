"""What operators share that give their rows as they change, or once, where the input ends."""

from __future__ import annotations

from collections.abc import Iterator

from raystream.errors import RestoreRefused
from raystream.flow.element import MAX_TIME
from raystream.operators.operator import Operator, Output


class EmittingOperator(Operator):
    """An operator with ``emit=``: with ``"final"`` all rows go out in ``on_end``."""

    def __init__(self, emit: str) -> None:
        self._final = emit == "final"

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        return self.on_end() if time_us == MAX_TIME else iter(())

    def output_watermark(self, time_us: int) -> int | None:
        # Rows that go out at the end have event times of the past: until then nothing is promised.
        return None if self._final and time_us != MAX_TIME else time_us


def no_rows_kept(operator: str) -> RestoreRefused:
    """Say that rows were not kept which are now to be taken back: nobody had needed it."""
    return RestoreRefused(
        f'"{operator}" kept no rows, and what stands behind it now needs those that are replaced',
        hint="read its changes as before, or give the operator another uid",
    )
