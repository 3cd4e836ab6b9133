"""A job that sizes itself on Ray: it grows when more comes than it can do, and shrinks again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tide import tide, turn, wrongs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

SOON_S = 150


def until(holds: Any, handle: Any) -> None:
    """Wait for something, looking whenever the job says something new."""
    give_up_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < give_up_s, (handle.scaling(), handle.rescalings())
        handle._published(0.5)


@pytest.mark.timeout(400)
def test_a_job_grows_under_load_and_shrinks_when_it_is_gone(tmp_path):
    tap = tmp_path / "rate"
    turn(tap, 100)
    handle = tide(tmp_path, tap).submit()

    def size() -> int:
        return next(o.parallelism for o in handle.figures().operators if o.name == "count")

    try:
        until(handle.checkpoints, handle)
        assert size() == 1
        turn(tap, 700)
        until(lambda: size() == 2 and handle.status() == "running", handle)
        turn(tap, 50)
        until(lambda: size() == 1 and handle.status() == "running", handle)
        done = [one for one in handle.rescalings() if one.outcome == "done"]
        grown, shrunk = done[0], done[-1]
        assert 2 <= len(done) <= 4  # reading needs less than counting does: it may go first
        assert "1 → 2, for " in grown.reason
        assert "2 → 1, busy " in shrunk.reason
        assert grown.pause_us is not None
        assert grown.pause_us < 10_000_000
        assert handle.scaling()
        handle.stop(savepoint=False, drain=True)
        assert wrongs(tmp_path) == []
    finally:
        handle.end()
