"""Tell apart what users may hand over; types say what is right, these say what came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa


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
