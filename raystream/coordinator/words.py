"""How quantities are said in a sentence for a person."""

from __future__ import annotations

from datetime import timedelta

from raystream.coordinator.report import OperatorRates
from raystream.flow.ids import SubtaskId
from raystream.flow.time import EPOCH


def percent(share: float) -> str:
    """Say a share: ``61 %``."""
    return f"{share * 100:.0f} %"


def seconds(us: int) -> str:
    """Say a length of time: ``7 s``, ``3 min``."""
    if us < 1_000_000:
        return f"{us / 1_000:.0f} ms"
    return f"{us / 1e6:.0f} s" if us < 180_000_000 else f"{us / 60e6:.0f} min"


def time_a_row(rates: OperatorRates) -> str:
    """Say what a row costs an operator: ``1.2 ms``."""
    us = rates.busy * 1e6 / rates.rows_in_per_s if rates.rows_in_per_s else 0.0
    if us >= 1_000_000:
        return f"{us / 1e6:.1f} s"
    return f"{us / 1_000:.1f} ms" if us >= 1_000 else f"{us:.1f} µs"


def rows_per_s(rate: float) -> str:
    """Say a rate: ``1,234 rows/s``."""
    return f"{rate:,.0f} rows/s"


def subtask_name(subtask: SubtaskId) -> str:
    """Say which subtask of its chain: ``subtask 3 of 4``, counted from 0."""
    return f"subtask {subtask.index} of {subtask.parallelism}"


def moment(us: int | None) -> str:
    """Say an event time: ``2024-05-01 12:00:03``."""
    if us is None:
        return "its beginning"
    try:
        return (EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:  # a date that no calendar has
        return f"{us} us"
