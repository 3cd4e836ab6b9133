"""``raystream top``: a running job as it is now, drawn anew about once a second."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console

from raystream.clock import SystemClock
from raystream.coordinator.diagnosis import diagnose
from raystream.coordinator.report import JobReport
from raystream.flow.control import JobStatus
from raystream.ops.jobs import attached, id_argument
from raystream.ops.options import address_option
from raystream.ops.printing import json_option, print_json
from raystream.runtime.progress import ENDED, LiveProgress, Rates, show_bytes, status_table


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """A job at one moment: its figures, and what else is worth a line."""

    status: JobStatus
    notes: tuple[str, ...]


@click.command(short_help="Watch a running job.")
@id_argument
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option(
    "--interval",
    "every_s",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds between one look and the next.",
)
@address_option
@json_option
def top(*, job_id: str, once: bool, every_s: float, as_json: bool) -> None:
    """Watch the operators of the job ID: rows a second, busy or held back, how late they are.

    It ends with the job, or with Ctrl-C, and the job goes on. Where stdout is no terminal it looks
    once; with --json it prints a line of JSON each time.
    """
    job = attached(job_id)
    console = Console(no_color=_no_color())
    live = console.is_terminal and not console.is_dumb_terminal
    if as_json:
        _print_lines(_looks(job, every_s, once=once))
    elif live and not once:
        with LiveProgress(console, SystemClock()) as drawn:
            for look in _looks(job, every_s, once=False):
                drawn.caption = "\n".join(look.notes)
                drawn(look.status)
    else:
        _draw_once(console, _looks(job, every_s, once=True))


def _looks(job: Any, every_s: float, *, once: bool) -> Iterator[Look]:
    """Look again and again, at least twice where the job runs: a rate is between two looks."""
    looked = 0
    while True:
        look = _look(job)
        yield look
        looked += 1
        if look.status.state in ENDED or (once and looked > 1):
            return
        time.sleep(every_s)


def _look(job: Any) -> Look:
    report = job.report()
    status = dataclasses.replace(report.status, state=job.status())
    return Look(status, tuple(_notes(report)))


def _notes(report: JobReport) -> Iterator[str]:
    found = diagnose(report)
    if found.bottleneck is not None:
        yield found.bottleneck.sentence
    yield from found.watermark
    if report.checkpoints:
        last = report.checkpoints[-1]
        kind = "savepoint" if last.savepoint else "checkpoint"
        ago_s = (report.at_us - last.triggered_us) / 1e6
        took = f"in {last.duration_us / 1e6:.3f} s, {show_bytes(last.bytes)}"
        why = f": {last.reason}" if last.reason else ""
        yield f"{kind} {last.checkpoint_id} {last.status} {took}, begun {ago_s:.0f} s ago{why}"
    if report.restarts:
        yield f"attempt {report.attempt}, restarts {report.restarts}"
    if report.failures:
        last_failure = report.failures[-1]
        subtask = f" in {last_failure.subtask}" if last_failure.subtask else ""
        first = next(iter(last_failure.message.splitlines()), "")
        yield f"last failure{subtask}: {last_failure.kind}: {first}"


def _print_lines(looks: Iterator[Look]) -> None:
    rates = Rates()
    for look in looks:
        per_s = rates.update(look.status)
        document = dataclasses.asdict(look.status)
        for operator in document["operators"]:
            operator["in_per_s"], operator["out_per_s"] = per_s[operator["name"]]
        print_json({**document, "notes": look.notes})


def _draw_once(console: Console, looks: Iterator[Look]) -> None:
    rates, now_us = Rates(), SystemClock().now_us()
    drawn = None
    for look in looks:
        per_s = rates.update(look.status)
        drawn = status_table(look.status, per_s, now_us, "\n".join(look.notes))
    if console.is_terminal:
        console.print(drawn)
        return
    # A pipe has no width to fit in.
    wide = Console(file=sys.stdout, width=200, no_color=True)
    wide.print(drawn)


def _no_color() -> bool:
    ctx = click.get_current_context()
    return ctx.color is False
