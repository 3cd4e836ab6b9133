"""A part of a source that one reader reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a source that one reader reads.

    ``id`` is unique in its source and the same in every run. ``earliest`` gives, by column, a lower
    bound of the values in the split, where that is known without reading it: timestamps in
    microseconds, integers as they are. The watermark then need not wait for the first row.
    """

    id: str
    payload: Any = None
    earliest: Mapping[str, int] = field(default_factory=dict)
