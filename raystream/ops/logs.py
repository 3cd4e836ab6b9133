"""``raystream logs``: what the processes of a job have logged and printed, in order of time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click

from raystream.errors import NotFound
from raystream.flow.time import moment
from raystream.ops.jobs import attached, id_argument
from raystream.ops.options import address_option
from raystream.ops.printing import json_option, print_json
from raystream.runtime.journal import LogLine
from raystream.runtime.json_lines import FIELDS

LEVELS = ("debug", "info", "warning", "error")
_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "stderr": "yellow"}
_EVERY_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are asked for."""

    operator: str | None = None
    subtask: int | None = None
    level: str = "debug"

    def chains(self, known: dict[str, frozenset[str]], job: str) -> set[str]:
        """Give the chains that the operator runs in.

        Raises: NotFound naming the operators that there are.
        """
        name = self.operator
        found = {chain for chain, names in known.items() if name in names or name == chain}
        if not found:
            listed = ", ".join(sorted({one for names in known.values() for one in names}))
            raise NotFound(f'job "{job}" has no operator "{name}"', hint=f"operators: {listed}")
        return found

    def grave(self, line: LogLine) -> bool:
        """Tell whether a line is grave enough; what was printed is as grave as one may think."""
        ranks = {"print": 1, "stderr": 2, "critical": 3}
        rank = LEVELS.index(line.level) if line.level in LEVELS else ranks.get(line.level, 1)
        return rank >= LEVELS.index(self.level)


@click.command(short_help="Show what a job has logged and printed.")
@id_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the job ends.")
@click.option("--operator", metavar="NAME", help="Only from where this operator runs.")
@click.option("--subtask", type=click.IntRange(min=0), metavar="N", help="Only from subtask N.")
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="This and graver.")
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), help="Begin with the last N.")
@address_option
@json_option
def logs(
    *,
    job_id: str,
    follow: bool,
    operator: str | None,
    subtask: int | None,
    level: str,
    count: int | None,
    as_json: bool,
) -> None:
    """Show what the processes of the job ID have logged and printed, in order of time.

    The newest lines of a running job are kept, and those of one that ended for some minutes. With
    --json each line is a document; what is known of it, as of a change of state, has fields.
    """
    job = attached(job_id)
    wanted = Wanted(operator, subtask, level)
    for lines in _parts(job, wanted, follow=follow):
        shown = lines if count is None else lines[len(lines) - min(count, len(lines)) :]
        count = None  # what comes later is shown whole
        _print(shown, job.name, as_json=as_json)


def _parts(job: Any, wanted: Wanted, *, follow: bool) -> Iterator[list[LogLine]]:
    told = None
    while True:
        told = job.lines(told)
        yield _chosen(told, wanted, job.name)
        if not follow or told.over:
            return
        time.sleep(_EVERY_S)


def _chosen(told: Any, wanted: Wanted, job: str) -> list[LogLine]:
    lines: Iterable[LogLine] = told.lines
    if wanted.operator is not None:
        chains = wanted.chains(dict(told.chains), job)
        lines = (line for line in lines if line.chain in chains)
    if wanted.subtask is not None:
        lines = (line for line in lines if line.index == wanted.subtask)
    # Subtasks tell theirs about once a second: they come in order of each, not of all.
    return sorted((line for line in lines if wanted.grave(line)), key=lambda line: line.at_us)


def _print(lines: list[LogLine], name: str, *, as_json: bool) -> None:
    for line in lines:
        at = moment(line.at_us).isoformat(timespec="milliseconds")
        if as_json:
            print_json(_document(line, at, name))
            continue
        who = "coordinator" if line.index < 0 else f"{line.chain}[{line.index}]"
        level = click.style(f"{line.level:<7}", fg=_COLOURS.get(line.level))
        click.echo(f"{at.replace('+00:00', 'Z')}  {level}  {who}  {line.text}")


def _document(line: LogLine, at: str, name: str) -> dict[str, Any]:
    known = {one: getattr(line, one) for one in ("at_us", "level", "text", "chain", "index")}
    who = {"job": name, "operator": line.chain, "attempt": line.attempt}
    return {"at": at, **known, **FIELDS, **who, **line.fields}
