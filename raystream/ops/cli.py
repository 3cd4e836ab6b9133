"""The command ``raystream``: its subcommands."""

from __future__ import annotations

import os
import sys

import click

from raystream.ops.completion import completion
from raystream.ops.configuration import config
from raystream.ops.dashboard import dashboard, profile
from raystream.ops.doctor import doctor
from raystream.ops.failures import Commands
from raystream.ops.jobs import cancel, checkpoints, list_jobs, rescale, savepoint, status, stop
from raystream.ops.logs import logs
from raystream.ops.nexmark import nexmark
from raystream.ops.project import init
from raystream.ops.run import explain, run, show_from_script
from raystream.ops.state import state
from raystream.ops.top import top


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raystream")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Stateful stream processing in Python on Ray."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


for command in (
    run,
    explain,
    list_jobs,
    status,
    top,
    logs,
    checkpoints,
    savepoint,
    stop,
    cancel,
    rescale,
    state,
    nexmark,
    dashboard,
    profile,
    init,
    config,
    doctor,
    completion,
):
    commands.add_command(command)


def main() -> None:
    """Run the command line; the entry point ``raystream``."""
    # Whatever a script itself raises is shown from its first line on.
    sys.excepthook = show_from_script
    commands(prog_name="raystream")


if __name__ == "__main__":
    main()
