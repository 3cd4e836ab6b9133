"""Commands on jobs of the cluster: list them, look at one, make a savepoint, stop it."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

import raystream as rs
from raystream.coordinator.diagnosis import diagnose
from raystream.coordinator.metrics import by_operator
from raystream.ops.options import address_option, look_for_a_cluster
from raystream.ops.printing import json_option, print_json, print_table

id_argument = click.argument("job_id", metavar="ID")


def attached(job_id: str) -> Any:
    """Find a job of the cluster.

    Raises: NotFound, ClusterError.
    """
    look_for_a_cluster()
    return rs.attach(job_id)


_SHOWN = {
    "rows_in": "rows_in",
    "rows_out": "rows_out",
    "late_rows": "late_rows",
    "failed_rows": "failed_rows",
    "num_records_in_per_second": "in/s",
    "num_records_out_per_second": "out/s",
    "busy_time_ms_per_second": "busy ms/s",
    "back_pressured_time_ms_per_second": "held ms/s",
}
"""Of all metrics what fits on a screen, and what it is called there."""


def _plain(value: Any) -> Any:
    return round(value) if isinstance(value, float) else value


@click.command("list", short_help="List the jobs of the cluster.")
@address_option
@json_option
def list_jobs(*, as_json: bool) -> None:
    """List the jobs that run, or ended a short while ago."""
    look_for_a_cluster()
    jobs = [{"id": one.id, "name": one.name, "status": one.status()} for one in rs.list_jobs()]
    if as_json:
        print_json(jobs)
    else:
        print_table(("id", "name", "status"), [tuple(job.values()) for job in jobs])


@click.command(short_help="Show what a job is at.")
@id_argument
@address_option
@json_option
def status(*, job_id: str, as_json: bool) -> None:
    """Show the state of the job ID (a name or an id), its operators, and what holds it up.

    Of a job that chooses its size it says why it has the one that it has.
    """
    job = attached(job_id)
    report = job.report()
    figures, said = by_operator(report), diagnose(report)
    if as_json:
        found = {"id": job.id, "name": job.name, "status": job.status(), "operators": figures}
        print_json(
            {
                **found,
                "diagnosis": str(said).split("\n"),
                "scaling": report.status.scaling,
                "rescalings": [dataclasses.asdict(one) for one in job.rescalings()],
            }
        )
        return
    click.echo(f"{job.name} ({job.id}): {job.status()}")
    if report.status.scaling:
        click.echo(f"scaling: {report.status.scaling}")
    known = {name for one in figures.values() for name in one}
    columns = [name for name in _SHOWN if name in known]
    rows = [
        (name, *(_plain(one.get(column, "")) for column in columns))
        for name, one in figures.items()
    ]
    print_table(("operator", *(_SHOWN[column] for column in columns)), rows)
    if report.status.state == "running":
        click.echo(f"\n{said}")


@click.command(short_help="Show a job's newest checkpoints.")
@id_argument
@address_option
@json_option
def checkpoints(*, job_id: str, as_json: bool) -> None:
    """Show how the newest checkpoints of the job ID went."""
    made = [dataclasses.asdict(one) for one in attached(job_id).checkpoints()]
    if as_json:
        print_json(made)
        return
    names = ("checkpoint_id", "status", "duration_us", "bytes", "savepoint", "reason")
    print_table(names, [[one[name] for name in names] for one in made])


@click.command(short_help="Make a savepoint of a running job.")
@id_argument
@click.argument("path", required=False)
@address_option
@json_option
def savepoint(*, job_id: str, path: str | None, as_json: bool) -> None:
    """Make a savepoint of the job ID, at PATH or beside its checkpoints, and print where it is."""
    _say({"savepoint": attached(job_id).savepoint(path)}, as_json)


@click.command(short_help="Stop a job behind a savepoint.")
@id_argument
@click.option("--drain", is_flag=True, help="End the input first, as if the sources had.")
@click.option("--savepoint", "target", metavar="URL", help="Where the savepoint is to be.")
@click.option("--no-savepoint", is_flag=True, help="Make none.")
@address_option
@json_option
def stop(
    *, job_id: str, drain: bool, target: str | None, no_savepoint: bool, as_json: bool
) -> None:
    """Stop the job ID; what it has written becomes visible, and its savepoint is printed."""
    if no_savepoint and target is not None:
        raise click.UsageError("--no-savepoint and --savepoint URL exclude each other")
    wanted: Any = target if target is not None else not no_savepoint
    _say({"savepoint": attached(job_id).stop(savepoint=wanted, drain=drain)}, as_json)


@click.command(short_help="Change a running job's parallelism.")
@id_argument
@click.argument("sizes", metavar="N | OPERATOR=N …", nargs=-1, required=True)
@address_option
@json_option
def rescale(*, job_id: str, sizes: tuple[str, ...], as_json: bool) -> None:
    """Run the job ID with N subtasks, or some of its OPERATORs, by name or uid.

    It goes on meanwhile; the command ends when rows flow at the new size.
    """
    wanted = _sizes(sizes)
    job = attached(job_id)
    job.rescale(wanted)
    if as_json:
        print_json({"rescaled": job.name, "to": wanted})
    else:
        click.echo(job.name)


def _sizes(words: tuple[str, ...]) -> int | dict[str, int]:
    if len(words) == 1 and "=" not in words[0]:
        return _count(words[0])
    wanted: dict[str, int] = {}
    for word in words:
        name, there, count = word.rpartition("=")
        if not there or not name or name in wanted:
            raise click.UsageError(f"OPERATOR=N is expected, each operator once, got {word}")
        wanted[name] = _count(count)
    return wanted


def _count(word: str) -> int:
    if not word.isdecimal() or not int(word):
        raise click.UsageError(f"a parallelism is a number of at least 1, got {word or 'nothing'}")
    return int(word)


@click.command(short_help="End a job where it stands.")
@id_argument
@address_option
@json_option
def cancel(*, job_id: str, as_json: bool) -> None:
    """End the job ID where it stands; what was not committed does not become visible."""
    job = attached(job_id)
    job.cancel()
    _say({"canceled": job.name}, as_json)


def _say(said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(said)
    else:
        click.echo("\n".join(str(value) for value in said.values() if value is not None))
