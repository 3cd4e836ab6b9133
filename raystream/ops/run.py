"""``raystream run`` and ``raystream explain``: a job script as a program, with flags over it."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from raystream.api.overrides import RUNTIMES, Overrides, overriding

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


def _bounds(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, int | None] | None:
    if value is None:
        return None
    least, dots, most = value.partition("..")
    fits = dots and least.isdecimal() and (not most or most.isdecimal())
    if not fits or not 1 <= int(least) <= int(most or least):
        raise click.BadParameter(f"MIN..MAX is expected, as 1..8, got {value or 'nothing'}")
    return int(least), int(most) if most else None


autoscale_option = click.option(
    "--autoscale",
    metavar="MIN..MAX",
    callback=_bounds,
    help="Let the job choose how many subtasks run each operator, between bounds.",
)
script_argument = click.argument(
    "script", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
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
def run(
    *,
    script: Path,
    args: tuple[str, ...],
    parallelism: int | None,
    runtime: str | None,
    checkpoint: str | None,
    start: str | None,
    allow_dropped: bool,
    autoscale: tuple[int, int | None] | None,
) -> None:
    """Run the job of SCRIPT as ``python SCRIPT ARGS`` would; flags beat what the script says.

    Put ``--`` before arguments of the script that look like options.
    """
    flags = Overrides(
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
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@parallelism_option
@runtime_option
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
    run_program(script, args, Overrides(parallelism=parallelism, runtime=runtime, explain=shown))


def run_script(
    script: Path, args: Sequence[str], *, parallelism: int | None, runtime: str | None
) -> None:
    """Run a job script; its ``run()`` shows progress on stderr."""
    run_program(script, args, Overrides(parallelism=parallelism, runtime=runtime))


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
