"""Unpickle plain values alone: what a stranger wrote may be read, and runs nothing."""

from __future__ import annotations

import io
import pickle
from typing import Any

_PLAIN = {
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "builtins": {"bytearray", "complex", "frozenset", "set"},
}
"""Classes whose making does nothing beyond it."""


def plain_unpickled(data: bytes) -> Any:
    """Give a value of numbers, texts, times and containers of them.

    Raises: pickle.UnpicklingError for a value of another class.
    """
    return _PlainUnpickler(io.BytesIO(data)).load()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _PLAIN.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is no plain value")
        return super().find_class(module, name)
