"""Every operator that has a spec, and the cases that it must pass in every mode."""

from __future__ import annotations

import cases_async
import cases_ends
import cases_failing
import cases_grids
import cases_keyed
import cases_per_key
import cases_process
import cases_retracting
import cases_rows
import cases_sessions
import cases_window_rows
import cases_windows

CASES = {
    **cases_async.CASES,
    **cases_ends.CASES,
    **cases_keyed.CASES,
    **cases_per_key.CASES,
    **cases_process.CASES,
    **cases_rows.CASES,
    **cases_sessions.CASES,
    **cases_window_rows.CASES,
    **cases_windows.CASES,
}
"""By module of ``raystream.operators``."""

for module, more in [
    *cases_grids.CASES.items(),
    *cases_failing.CASES.items(),
    *cases_retracting.CASES.items(),
]:
    CASES[module] = [*CASES[module], *more]
