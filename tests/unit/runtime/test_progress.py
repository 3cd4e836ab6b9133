from __future__ import annotations

import io

import pytest
from rich.console import Console

from raystream.clock import ManualClock
from raystream.flow.control import JobStatus, OperatorStatus
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import micros
from raystream.runtime.progress import (
    LiveProgress,
    PlainProgress,
    Rates,
    progress_for,
    show_count,
    show_seconds,
    show_watermark,
)

NOW_US = 1_700_000_000_000_000


def status(uptime_s: float, rows: int = 0, state: str = "running", **fields) -> JobStatus:
    source = OperatorStatus("source bids", 2, 0, rows, watermark_us=NOW_US - 2_500_000)
    window = OperatorStatus(
        "window#1", 4, rows, rows // 10, NOW_US - 3_500_000, busy=0.75, backpressured=0.25, **fields
    )
    return JobStatus("hot items", state, uptime_s, (source, window))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_stream_that_is_no_terminal_gets_a_line_every_ten_seconds():
    out = io.StringIO()
    with progress_for(out, clock=ManualClock(NOW_US)) as show:
        for second in range(26):
            show(status(float(second), rows=second * 1_000, late_rows=7))
    first, second = out.getvalue().splitlines()
    assert first == (
        "job=hot_items state=running uptime_s=10 source_bids.in_per_s=0 source_bids.out_per_s=1000 "
        "window#1.in_per_s=1000 window#1.out_per_s=100 watermark=-3.5_s busiest=window#1 busy=0.75 "
        "backpressured=0.25 late=7 failed=0"
    )
    assert second.startswith("job=hot_items state=running uptime_s=20 ")


def test_only_a_state_that_nobody_expects_is_written_at_once():
    out = io.StringIO()
    show = PlainProgress(out, ManualClock())
    for second, state in enumerate(["starting", "running", "restarting", "restarting", "running"]):
        show(status(float(second), state=state))
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["state=restarting"]


def test_a_job_without_operators_has_a_line_too():
    out = io.StringIO()
    PlainProgress(out, ManualClock())(JobStatus("j", "starting", 12.0, ()))
    assert out.getvalue() == "job=j state=starting uptime_s=12\n"


def test_a_terminal_gets_a_table_with_every_operator(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    with progress_for(out, clock=ManualClock(NOW_US)) as show:
        assert isinstance(show, LiveProgress)
        show(status(4.0, rows=8_000_000, late_rows=3))
    text = out.getvalue()
    for word in ("hot items", "window#1", "2 M", "200 k", "-3.5 s", "75%", "25%", "watermark"):
        assert word in text
    assert "\x1b[33m" in text, "late rows stand out"


def test_on_a_narrow_terminal_names_are_cut_and_figures_are_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    name = "aggregate bids by auction and bidder"
    operator = OperatorStatus(name, 12, 123_456_000, 99_900, NOW_US - micros("2d"), 1.0, 0.0, 1.0)
    with progress_for(out, clock=ManualClock(NOW_US)) as show:
        show(JobStatus("j", "running", 1.0, (operator,)))
    line = next(line for line in out.getvalue().splitlines() if "aggr" in line)
    name, figures = line.split("…")
    assert " ".join(figures.split()) == "12 123 M 99.9 k 2023-11-12 22:13 100% 0% 100% 0"


def test_no_color_takes_the_colours_and_leaves_the_table(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with progress_for(out, clock=ManualClock(NOW_US)) as show:
        show(status(4.0, rows=100, late_rows=3))
    assert "\x1b[33m" not in out.getvalue()
    assert "window#1" in out.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_for(Terminal()), PlainProgress)


def test_the_table_is_left_where_the_job_ends(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    show = progress_for(out, clock=ManualClock(NOW_US))
    show(status(1.0, rows=1))
    assert out.getvalue().count("\x1b[?25l") == 1, "the cursor hides when the first status comes"
    show(status(2.0, rows=2, state="finished"))
    assert out.getvalue().endswith("\x1b[?25h")


def test_leaving_before_any_status_writes_nothing():
    out = Terminal()
    with LiveProgress(Console(file=out, force_terminal=True), ManualClock()):
        pass
    assert not out.getvalue()


def test_rates_are_between_two_statuses_and_begin_again_after_a_restart():
    rates = Rates()
    assert rates.update(status(2.0, rows=1_000))["window#1"] == (500.0, 50.0)
    assert rates.update(status(4.0, rows=1_000))["window#1"] == (0.0, 0.0)
    assert rates.update(status(5.0, rows=100))["window#1"] == (100.0, 10.0)
    assert rates.update(status(5.0, rows=200))["window#1"] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999.4, "999"), (999.6, "1 k"), (12_345, "12.3 k"), (999_999, "1 M"), (5e9, "5 G")],
)
def test_counts_have_three_digits_and_a_unit(count, shown):
    assert show_count(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.4, "4 s"), (125, "2 m 5 s"), (3_600 * 26 + 61, "1 day, 2:01:01")],
)
def test_lengths_of_time_are_read_at_a_glance(seconds, shown):
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("watermark_us", "shown"),
    [
        (None, "-"),
        (MIN_TIME, "-"),
        (MAX_TIME, "end"),
        (NOW_US - 1_500_000, "-1.5 s"),
        (NOW_US + 2_000_000, "+2.0 s"),
        (NOW_US - micros("2d"), "2023-11-12 22:13"),
        (MAX_TIME - 1, f"{MAX_TIME - 1} us"),
    ],
)
def test_a_watermark_is_a_lag_or_a_date(watermark_us, shown):
    assert show_watermark(watermark_us, NOW_US) == shown
