"""What users test their jobs with: ``rs.testing``."""

from raystream.testing.harness import Harness, harness
from raystream.testing.items import (
    MAX,
    Active,
    Advance,
    At,
    Checkpoint,
    Crash,
    Idle,
    Open,
    Watermark,
)
from raystream.testing.run import Run, run
from raystream.testing.source import Source

__all__ = [
    "MAX",
    "Active",
    "Advance",
    "At",
    "Checkpoint",
    "Crash",
    "Harness",
    "Idle",
    "Open",
    "Run",
    "Source",
    "Watermark",
    "harness",
    "run",
]
