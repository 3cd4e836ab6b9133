"""Tell apart what users may hand over; types say what is right, these say what came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.errors import PlanError, RaystreamError
from raystream.flow.time import micros


def is_count(value: object, least: int = 1) -> bool:
    """Tell whether a value is an int of at least ``least``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_amount(value: object) -> bool:
    """Tell whether a value is a number of at least 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def is_text(value: object) -> bool:
    """Tell whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value.strip())


def is_rows(value: object) -> bool:
    """Tell whether a value is a table or gives rows; a data frame would give its columns."""
    if isinstance(value, (pa.Table, pa.RecordBatch)):
        return True
    if hasattr(value, "__arrow_c_stream__") and hasattr(value, "columns"):
        return False
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def instants(timestamps: Any, verb: str, where: str) -> list[int]:
    """Read points in time of any form as microseconds.

    Raises: PlanError for what is none.
    """
    if isinstance(timestamps, str) or not isinstance(timestamps, Iterable):
        raise PlanError(
            f"{verb}(timestamps=) takes points in time, one a row, got {timestamps!r:.60}",
            where=where,
        )
    return [_instant(one, verb, where) for one in timestamps]


def _instant(value: Any, verb: str, where: str) -> int:
    plain = value.astype("M8[us]").item() if isinstance(value, np.datetime64) else value
    try:
        time_us: object = micros(plain)
    except RaystreamError:
        time_us = None
    if not isinstance(time_us, int):  # pandas' NaT is a datetime, and no point in time
        raise PlanError(
            f"{verb}(): {value!r:.60} is no point in time",
            where=where,
            hint="give datetimes, or ints of microseconds since the epoch",
        )
    return time_us
