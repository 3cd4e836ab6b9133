"""What a failure of a command looks like from a shell: one clear message, and an exit code."""

from __future__ import annotations

import difflib
import errno
import json
import traceback
from typing import Any

import click

from raystream.api.reporting import report
from raystream.errors import (
    ClusterError,
    InternalError,
    JobFailed,
    NotFound,
    RaystreamError,
    RestoreRefused,
    UserError,
)
from raystream.ops.run import of_script

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_REFUSED = 5
EXIT_TIMEOUT = 6
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

EXITS = {
    EXIT_DONE: "done",
    EXIT_FAILED: "the job failed",
    EXIT_WRONG_USE: "wrong use: a flag, a setting or the plan",
    EXIT_UNREACHABLE: "the cluster cannot be reached",
    EXIT_NOT_FOUND: "there is no such job, snapshot or operator",
    EXIT_REFUSED: "a snapshot does not fit the job, and was refused",
    EXIT_TIMEOUT: "it took longer than was allowed",
    EXIT_BUG: "a bug of raystream",
    EXIT_INTERRUPTED: "interrupted",
}
"""Every code that a command of ours ends with; a script of yours may choose others."""

_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What newer releases of click raise where help is wanted, which is no failure of ours."""


_AS_JSON = "raystream.as_json"


class Commands(click.Group):
    """Turns every failure into one clear message, or JSON under ``--json``, and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = args[: args.index("--") if "--" in args else None]
        ctx.meta[_AS_JSON] = "--json" in ours
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        as_json = ctx.meta[_AS_JSON]
        try:
            return super().invoke(ctx)
        except _HELP:
            raise
        except click.ClickException as error:
            _tell_use(error, as_json=as_json)
            ctx.exit(error.exit_code)
        except (RaystreamError, TimeoutError) as error:
            code = exit_code(error)
            _tell(error, code, as_json=as_json)
            ctx.exit(code)
        except KeyboardInterrupt:
            if as_json:
                _print({"kind": "Interrupted", "message": "interrupted", "exit": EXIT_INTERRUPTED})
            else:
                click.echo("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            # What a script raises is the script's; click knows what a closed pipe means.
            if of_script(error) or click_knows(error):
                raise
            bug = InternalError(f"{type(error).__name__}: {error}")
            bug.__cause__ = error
            _tell(bug, EXIT_BUG, as_json=as_json)
            ctx.exit(EXIT_BUG)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            also = f'; did you mean "{close[0]}"?' if close else ""
            ctx.fail(f'there is no command "{name}"{also}')
        return super().resolve_command(ctx, args)


def click_knows(error: Exception) -> bool:
    """Tell what click ends a program for by itself."""
    if isinstance(error, (click.exceptions.Exit, click.Abort)):
        return True
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def exit_code(error: Exception) -> int:
    """What a shell learns from a failure.

    A bug of ours and a cluster out of reach keep their codes when they are why a job failed.
    """
    if isinstance(error, TimeoutError):
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


def _tell(error: RaystreamError | TimeoutError, code: int, *, as_json: bool) -> None:
    if not isinstance(error, RaystreamError):
        error = RaystreamError(str(error))
    if not as_json:
        report(error)
        return
    told = {
        "kind": type(error).__name__,
        "message": error.message,
        "where": error.where,
        "hint": error.hint,
        "exit": code,
    }
    shown = getattr(error, "user_traceback", "")
    if isinstance(error, InternalError):
        shown = "".join(traceback.format_exception(error))
    _print(told | ({"traceback": shown} if shown else {}))


def _tell_use(error: click.ClickException, *, as_json: bool) -> None:
    """Say what is wrong with a command line, and how it is written."""
    ctx = getattr(error, "ctx", None)
    hint = None if ctx is None else f"{ctx.command_path} --help"
    message = error.format_message().rstrip(".")
    if as_json:
        _print({"kind": "WrongUse", "message": message, "hint": hint, "exit": error.exit_code})
        return
    lines = [f"error: {message}"]
    if ctx is not None:
        usage = " ".join(ctx.get_usage().split()).removeprefix("Usage: ")
        lines += [f"  usage: {usage}", f"  hint: {hint}"]
    click.echo("\n".join(lines), err=True)


def _print(told: dict[str, Any]) -> None:
    """Print an error as one document, on stderr: results alone stand on stdout."""
    click.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)
