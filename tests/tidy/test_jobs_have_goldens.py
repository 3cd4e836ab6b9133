"""Every job that people run has its rows recorded or computed a second way."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_job_has_a_golden_test():
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    goldens = {path.stem for path in (ROOT / "tests" / "golden").glob("test_*.py")}
    missing = sorted(job for job in jobs if f"test_{job}" not in goldens)
    assert not missing, f"write tests/golden/test_<job>.py for {', '.join(missing)}"


def test_there_are_jobs_to_speak_of():
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} >= {
        "flight_delays",
        "nexmark",
        "word_count",
    }
