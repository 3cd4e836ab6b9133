"""Show a running job: a live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

from typing_extensions import Self

from raystream.clock import Clock, SystemClock
from raystream.flow.control import JobStatus, OperatorStatus
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import EPOCH

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

LINE_EVERY_S = 10.0
"""How often a plain line is written: a log of a day stays readable."""

ENDED = frozenset({"finished", "stopped", "canceled", "failed"})
"""States after which nothing more is shown."""

NO_NEWS = ENDED | {"starting", "running"}
"""States that every job goes through; how it ended is said by others."""

LAG_SHOWN_MAX_US = 24 * 3_600_000_000
"""A watermark further back than this is shown as a date: the job reads history."""


class Progress(Protocol):
    """Takes the status of a job about once a second, between entering and leaving."""

    def __call__(self, status: JobStatus) -> None:
        """Show a status."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it should be."""


def progress_for(stream: TextIO | None = None, *, clock: Clock | None = None) -> Progress:
    """Choose how progress is shown on a stream, stderr if none is given.

    A terminal gets a table that is drawn anew, everything else, a dumb terminal included, gets
    lines of ``key=value``. Colours follow NO_COLOR.
    """
    from rich.console import Console

    out = sys.stderr if stream is None else stream
    clock = SystemClock() if clock is None else clock
    console = Console(file=out)
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveProgress(console, clock) if live else PlainProgress(out, clock)


class Rates:
    """Rows per second of each operator, between one status and the next."""

    def __init__(self) -> None:
        self._before: dict[str, OperatorStatus] = {}
        self._uptime_s = 0.0

    def update(self, status: JobStatus) -> dict[str, tuple[float, float]]:
        """Give rows in and rows out per second by operator; a restarted count begins again."""
        passed_s = status.uptime_s - self._uptime_s
        rates = {}
        for now in status.operators:
            before = self._before.get(now.name)
            if before is None or before.rows_in > now.rows_in or before.rows_out > now.rows_out:
                before = OperatorStatus(now.name, now.parallelism, 0, 0)
            per_s = 1.0 / passed_s if passed_s > 0 else 0.0
            rates[now.name] = (
                (now.rows_in - before.rows_in) * per_s,
                (now.rows_out - before.rows_out) * per_s,
            )
        self._before = {operator.name: operator for operator in status.operators}
        self._uptime_s = status.uptime_s
        return rates


class PlainProgress:
    """Writes a line of ``key=value`` every ten seconds, and one when something is amiss."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._rates = Rates()
        self._state: str | None = None
        self._next_s = LINE_EVERY_S

    def __call__(self, status: JobStatus) -> None:
        news = status.state != self._state and status.state not in NO_NEWS
        self._state = status.state
        if status.uptime_s < self._next_s and not news:
            return
        self._next_s = status.uptime_s + LINE_EVERY_S
        line = plain_line(status, self._rates.update(status), self._clock.now_us())
        self._stream.write(line + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left open."""


def plain_line(status: JobStatus, rates: dict[str, tuple[float, float]], now_us: int) -> str:
    """Say everything about a job in one line that a person and ``grep`` can read."""
    words = [
        f"job={_word(status.job)}",
        f"state={status.state}",
        f"uptime_s={status.uptime_s:.0f}",
    ]
    for operator in status.operators:
        name = _word(operator.name)
        rows_in, rows_out = rates[operator.name]
        words.append(f"{name}.in_per_s={rows_in:.0f}")
        words.append(f"{name}.out_per_s={rows_out:.0f}")
    if status.operators:
        busiest = max(status.operators, key=lambda operator: operator.busy)
        held = max(operator.backpressured for operator in status.operators)
        watermark_us = _job_watermark_us(status)
        words.append(f"watermark={_word(show_watermark(watermark_us, now_us))}")
        words.append(f"busiest={_word(busiest.name)}")
        words.append(f"busy={busiest.busy:.2f}")
        words.append(f"backpressured={held:.2f}")
        words.append(f"late={sum(operator.late_rows for operator in status.operators)}")
        words.append(f"failed={sum(operator.failed_rows for operator in status.operators)}")
    return " ".join(words)


class LiveProgress:
    """Draws a table of the operators, anew with each status, from the first to the last."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._rates = Rates()
        self._live: Live | None = None
        self.caption = ""

    def __call__(self, status: JobStatus) -> None:
        rates, now_us = self._rates.update(status), self._clock.now_us()
        table = status_table(status, rates, now_us, self.caption)
        self._drawn().update(table, refresh=True)
        if status.state in ENDED:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _drawn(self) -> Live:
        from rich.live import Live

        if self._live is None:
            # What the job prints meanwhile scrolls by above the table.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self._live

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def status_table(
    status: JobStatus, rates: dict[str, tuple[float, float]], now_us: int, caption: str = ""
) -> Table:
    """Draw a job: one row an operator, and below them what else is known."""
    from rich.table import Table
    from rich.text import Text

    title = f"{status.job} · {status.state} · {show_seconds(status.uptime_s)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.caption, table.caption_justify = Text(caption) if caption else None, "left"
    # On a narrow terminal names are cut, figures never.
    table.add_column("operator", min_width=8)
    for heading in (
        "p",
        "in/s",
        "out/s",
        "watermark",
        "busy",
        "idle",
        "backpressured",
        "late",
        "failed",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for operator in status.operators:
        rows_in, rows_out = rates[operator.name]
        table.add_row(
            Text(operator.name, no_wrap=True, overflow="ellipsis"),
            str(operator.parallelism),
            show_count(rows_in),
            show_count(rows_out),
            show_watermark(operator.watermark_us, now_us),
            f"{operator.busy:.0%}",
            f"{operator.idle:.0%}",
            Text(f"{operator.backpressured:.0%}", "red" if operator.backpressured > 0.5 else ""),
            Text(show_count(operator.late_rows), "yellow" if operator.late_rows else ""),
            Text(show_count(operator.failed_rows), "red" if operator.failed_rows else ""),
        )
    return table


def show_count(count: float) -> str:
    """Three digits and a unit: ``1.23 M``."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size * 0.9995:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def show_bytes(count: int) -> str:
    """A size: ``12 B``, ``3.4 MiB``."""
    if count < 1_024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1_024
        if size < 1_000:
            return f"{size:.3g} {unit}"
    return f"{size / 1_024:.3g} TiB"


def show_seconds(seconds: float) -> str:
    """A length of time: ``4 s``, ``2 m 5 s``, ``1 day, 2:03:04``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3_600:
        return f"{int(seconds) // 60} m {int(seconds) % 60} s"
    return str(timedelta(seconds=int(seconds)))


def show_watermark(watermark_us: int | None, now_us: int) -> str:
    """How far event time is behind the clock, or its date where a job reads history."""
    if watermark_us is None or watermark_us == MIN_TIME:
        return "-"
    if watermark_us == MAX_TIME:
        return "end"
    lag_us = now_us - watermark_us
    if abs(lag_us) < LAG_SHOWN_MAX_US:
        return f"{-lag_us / 1_000_000:+.1f} s"
    try:
        return (EPOCH + timedelta(microseconds=watermark_us)).strftime("%Y-%m-%d %H:%M")
    except OverflowError:  # a date that no calendar has
        return f"{watermark_us} us"


def _job_watermark_us(status: JobStatus) -> int | None:
    known = [o.watermark_us for o in status.operators if o.watermark_us is not None]
    return min(known) if known else None


def _word(text: str) -> str:
    """One word of a line, whatever is in it."""
    return "_".join(text.split()) or "-"
