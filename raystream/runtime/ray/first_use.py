"""What is loaded when it is first used, loaded in a new process before a job is silent for it.

Arrow imports pandas, where there is one, when it is first given an array, and its engine when it
first filters a table; Ray imports an actor's class when a handle of it first comes: here that of
the coordinator. Together that is half a second of a core.
"""

from __future__ import annotations

import importlib

import numpy as np
import pyarrow as pa


def load_what_is_used() -> None:
    """Load it; what is loaded already costs nothing."""
    importlib.import_module("pyarrow.acero")
    importlib.import_module("raystream.runtime.ray.coordinator_actor")
    pa.array(np.zeros(1))
