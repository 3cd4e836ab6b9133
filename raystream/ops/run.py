"""``raystream run`` and ``raystream explain``: a job script as a program, with flags over it."""

from __future__ import annotations

import dataclasses
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from raystream.api import overrides
from raystream.api.overrides import RUNTIMES, Overrides, overriding
from raystream.api.setting_table import AUTOSCALE
from raystream.flow.control import JobResult
from raystream.ops.options import address_option, look_for_a_cluster, quiet_option, set_option
from raystream.ops.printing import json_option, print_json

RUNTIME_MODULES = ("raystream.runtime.local", "raystream.runtime.ray.driver")

parallelism_option = click.option(
    "-p", "--parallelism", type=click.IntRange(min=1), help="Subtasks of each operator."
)
runtime_option = click.option("--runtime", type=click.Choice(RUNTIMES), help="Where subtasks run.")
checkpoint_option = click.option(
    "--checkpoint", metavar="URL", help="Where checkpoints are kept, in place of the script's."
)
from_option = click.option(
    "--from", "start", metavar="latest|PATH", help="The checkpoint or savepoint to start from."
)
dropped_option = click.option(
    "--allow-dropped-state",
    "allow_dropped",
    is_flag=True,
    help="Start also where the snapshot holds state of operators that are gone.",
)


def _bounds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not AUTOSCALE.fits(value):
        raise click.BadParameter(f"MIN..MAX is expected, as 1..8, got {value or 'nothing'}")
    return value


autoscale_option = click.option(
    "--autoscale",
    metavar="MIN..MAX",
    callback=_bounds,
    help="Let the job choose how many subtasks run each operator, between bounds.",
)
script_type = click.Path(exists=True, dir_okay=False, path_type=Path)
script_argument = click.argument("script", type=script_type)
args_argument = click.argument("args", nargs=-1, type=click.UNPROCESSED)


@click.command(short_help="Run a job script.")
@script_argument
@args_argument
@parallelism_option
@runtime_option
@checkpoint_option
@from_option
@dropped_option
@autoscale_option
@click.option("--detach", is_flag=True, help="Leave the job to the cluster, and print its id.")
@set_option
@address_option
@quiet_option
@json_option
def run(
    *,
    script: Path,
    args: tuple[str, ...],
    parallelism: int | None,
    runtime: str | None,
    checkpoint: str | None,
    start: str | None,
    allow_dropped: bool,
    autoscale: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Run the job of SCRIPT as ``python SCRIPT ARGS`` would; flags beat what the script says.

    Put ``--`` before arguments of the script that look like options. With --json how the job ended
    is printed, on a line behind what the script itself prints. Ctrl-C cancels the job.
    """
    if detach:
        look_for_a_cluster()
    flags = dataclasses.replace(
        overrides.flags(),
        detach=detach,
        ended=_print_end if as_json else _print_id if detach else None,
        parallelism=parallelism,
        runtime=runtime,
        checkpoint=checkpoint,
        start=start,
        allow_dropped=allow_dropped,
        autoscale=autoscale,
    )
    run_program(script, args, flags)


@click.command(short_help="Print the plan of a job script without running it.")
@script_argument
@args_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    show_default=True,
)
@json_option
@parallelism_option
@runtime_option
@set_option
def explain(
    *,
    script: Path,
    args: tuple[str, ...],
    form: str,
    as_json: bool,
    parallelism: int | None,
    runtime: str | None,
) -> None:
    """Print what SCRIPT wrote down and what will run where; it ends where it would run its job."""
    shown = "json" if as_json else form
    flags = dataclasses.replace(
        overrides.flags(), parallelism=parallelism, runtime=runtime, explain=shown
    )
    run_program(script, args, flags)


def run_script(
    script: Path, args: Sequence[str], *, parallelism: int | None, runtime: str | None
) -> None:
    """Run a job script; its ``run()`` shows progress on stderr."""
    flags = dataclasses.replace(overrides.flags(), parallelism=parallelism, runtime=runtime)
    run_program(script, args, flags)


def run_program(script: Path, args: Sequence[str], flags: Overrides) -> None:
    """Run a script as ``__main__`` under flags.

    Raises: UsageError if it ran no job.
    """
    before = _runtime_loaded()
    with overriding(flags), _as_program(script, args):
        runpy.run_path(str(script), run_name="__main__")
    # Where a plan is printed, that ends the script.
    if flags.explain is not None or not (before or _runtime_loaded()):
        raise click.UsageError(
            f"the script ran no job: {script}\n"
            '  hint: call job.run() under `if __name__ == "__main__":`'
        )


def _print_id(_: str, handle: Any) -> None:
    click.echo(handle.id)


def _print_end(job: str, how: Any) -> None:
    if isinstance(how, JobResult):
        print_json({"name": job, **dataclasses.asdict(how)})
    else:
        print_json({"name": job, "id": how.id})


def _runtime_loaded() -> bool:
    """A runtime is loaded when a script first runs, submits or looks for a job, never before."""
    return any(module in sys.modules for module in RUNTIME_MODULES)


@contextmanager
def _as_program(script: Path, args: Sequence[str]) -> Iterator[None]:
    """Let a script see the arguments and the folder that Python itself would give it."""
    argv, path = sys.argv, sys.path[:]
    sys.argv = [str(script), *args]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


def of_script(error: BaseException) -> bool:
    """Tell whether an exception came out of a script that was run here."""
    return _from_script(error.__traceback__) is not None


def show_from_script(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an exception without the frames that stand before the script's own."""
    ran = _from_script(trace)
    first = trace if ran is None else _behind_runpy(ran.tb_next)
    traceback.print_exception(kind, error, first)


def _from_script(trace: TracebackType | None) -> TracebackType | None:
    """Find the innermost frame that ran a script."""
    found = None
    while trace is not None:
        if trace.tb_frame.f_code is run_program.__code__:
            found = trace
        trace = trace.tb_next
    return found


def _behind_runpy(trace: TracebackType | None) -> TracebackType | None:
    """Skip the frames of runpy: nothing is left of a script that is no Python at all."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == runpy.__name__:
        trace = trace.tb_next
    return trace
