"""The command ``raystream``: its subcommands, and what a failure looks like from a shell."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from types import TracebackType
from typing import Any

import click

from raystream.api.reporting import report
from raystream.errors import (
    ClusterError,
    InternalError,
    JobFailed,
    JobTimeout,
    NotFound,
    RaystreamError,
    RestoreRefused,
    UserError,
)
from raystream.ops.dashboard import dashboard, profile
from raystream.ops.doctor import doctor
from raystream.ops.jobs import cancel, checkpoints, list_jobs, rescale, savepoint, status, stop
from raystream.ops.nexmark import nexmark
from raystream.ops.run import explain, run, run_program
from raystream.ops.state import state

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_REFUSED = 5
EXIT_TIMEOUT = 6
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class Commands(click.Group):
    """Turns every failure that raystream knows into one clear message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RaystreamError as error:
            report(error)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raystream")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Stateful stream processing in Python on Ray."""
    if "NO_COLOR" in os.environ:
        ctx.color = False


for command in (run, explain, list_jobs, status, checkpoints, savepoint, stop, cancel, state):
    commands.add_command(command)
for command in (rescale, nexmark, doctor, dashboard, profile):
    commands.add_command(command)


def main() -> None:
    """Run the command line; the entry point ``raystream``."""
    # Whatever a script itself raises is shown from its first line on.
    sys.excepthook = show_from_script
    commands(prog_name="raystream")


def exit_code(error: RaystreamError) -> int:
    """What a shell learns from a failure.

    A bug of ours and a cluster out of reach keep their codes when they are why a job failed.
    """
    if isinstance(error, JobTimeout):
        return EXIT_TIMEOUT
    reason = error.__cause__ if isinstance(error, JobFailed) else error
    if isinstance(reason, InternalError):
        return EXIT_BUG
    if isinstance(reason, ClusterError):
        return EXIT_UNREACHABLE
    if isinstance(reason, RestoreRefused):
        return EXIT_REFUSED
    if isinstance(reason, NotFound):
        return EXIT_NOT_FOUND
    return EXIT_WRONG_USE if isinstance(error, UserError) else EXIT_FAILED


def show_from_script(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an exception without the frames that stand before the script's own."""
    frame, first = trace, trace
    while frame is not None:
        if frame.tb_frame.f_code is run_program.__code__:
            first = _behind_runpy(frame.tb_next)
        frame = frame.tb_next
    traceback.print_exception(kind, error, first)


def _behind_runpy(trace: TracebackType | None) -> TracebackType | None:
    """Skip the frames of runpy: nothing is left of a script that is no Python at all."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == runpy.__name__:
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    main()
