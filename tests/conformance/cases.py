"""Every operator that has a spec, and the cases that it must pass in every mode."""

from __future__ import annotations

import cases_async
import cases_changes
import cases_ends
import cases_failing
import cases_grids
import cases_interval_join
import cases_joins
import cases_keyed
import cases_per_key
import cases_process
import cases_retracting
import cases_rows
import cases_sessions
import cases_upserts
import cases_window_join
import cases_window_rows
import cases_windows

CASES = {
    **cases_async.CASES,
    **cases_ends.CASES,
    **cases_interval_join.CASES,
    **cases_joins.CASES,
    **cases_keyed.CASES,
    **cases_per_key.CASES,
    **cases_process.CASES,
    **cases_rows.CASES,
    **cases_sessions.CASES,
    **cases_upserts.CASES,
    **cases_window_join.CASES,
    **cases_window_rows.CASES,
    **cases_windows.CASES,
}
"""By module of ``raystream.operators``."""

for some in (
    cases_changes.CASES,
    cases_grids.CASES,
    cases_failing.CASES,
    cases_retracting.CASES,
):
    for module, more in some.items():
        CASES[module] = [*CASES.get(module, ()), *more]
