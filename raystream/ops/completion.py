"""``raystream completion``: what a shell needs to complete commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from raystream.ops.printing import json_option, print_json

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_RAYSTREAM_COMPLETE"


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def completion(ctx: click.Context, *, shell: str, as_json: bool) -> None:
    """Print what SHELL must read to complete commands, flags and files.

    For bash: eval "$(raystream completion bash)" in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all shells that may be chosen"
    made = kind(ctx.find_root().command, {}, "raystream", VARIABLE)
    # Its own source() also asks the shell of this machine for its version.
    script = made.source_template % made.source_vars()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
