"""``raystream dashboard`` serves the HTTP API of a cluster's jobs; ``profile`` looks at one."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import click

from raystream.errors import ConfigError
from raystream.ops.http.cluster import ClusterJobs
from raystream.ops.http.security import door, new_token
from raystream.ops.http.server import Api
from raystream.ops.http.serving import DEFAULT_PORT, serve_until_told
from raystream.ops.jobs import attached, id_argument
from raystream.ops.options import address_option, look_for_a_cluster
from raystream.ops.printing import json_option, print_json, print_table
from raystream.runtime import profiler
from raystream.runtime.native_profile import native_share


@click.command(short_help="Serve the HTTP API of the cluster's jobs.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to bind to.")
@click.option("--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the token is read from, or, where nothing is, written to.",
)
@click.option("--no-token", is_flag=True, help="Let this machine's users read; nobody changes.")
@click.option(
    "--allow-host", "allowed", metavar="NAME", multiple=True, help="Answer to this name, too."
)
@click.option("--job", metavar="NAME", help="Serve this job alone.")
@address_option
@json_option
def dashboard(
    *,
    host: str,
    port: int,
    token_file: Path | None,
    no_token: bool,
    allowed: tuple[str, ...],
    job: str | None,
    as_json: bool,
) -> None:
    """Serve the HTTP API of the jobs of the cluster, until it is interrupted.

    Whoever has the printed address may change jobs: it holds the token.
    """
    if no_token and token_file is not None:
        raise click.UsageError("--no-token and --token-file exclude each other")
    token = None if no_token else token_of(token_file)
    guarded = door(host, token, allowed)
    look_for_a_cluster()
    jobs = ClusterJobs(job)
    jobs.list()  # a cluster that cannot be reached is told now, not to the first who asks

    def listening(url: str) -> None:
        if as_json:
            print_json({"url": url, "token": token})
        else:
            click.echo(url if token is None else f"{url}/#token={token}")

    asyncio.run(serve_until_told(Api(jobs, guarded), host, port, listening))


def token_of(file: Path | None) -> str:
    """Read the token of a file, or make one and write it where there is no file yet.

    Raises: ConfigError for a file that others may read, or that holds none.
    """
    if file is None:
        return new_token()
    try:
        # Made readable to its owner alone before anything is in it.
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_token(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    token = new_token()
    with os.fdopen(made, "w", encoding="ascii") as out:
        out.write(token + "\n")
    return token


def _read_token(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read a token from {file}: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"others may read {file}", hint=f"chmod 600 {file}")
    return token


@click.command(short_help="Profile a subtask while it runs.")
@id_argument
@click.argument("subtask", metavar="OPERATOR[:SUBTASK]")
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=5.0, show_default=True)
@click.option(
    "-o",
    "out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a file for speedscope.app, or, named *.txt, collapsed stacks.",
)
@click.option("--native", is_flag=True, help="With frames of compiled code; needs py-spy there.")
@address_option
@json_option
def profile(
    *,
    job_id: str,
    subtask: str,
    seconds: float,
    out: Path | None,
    native: bool,
    as_json: bool,
) -> None:
    """Show where a subtask of an operator of the job ID spends its time.

    It is looked at a hundred times a second, and goes on meanwhile; subtask 0 if none is named.
    With --native what Arrow, NumPy and other compiled code do is told from what Python does.
    """
    operator, index = _subtask(subtask)
    asked = {"native": True} if native else {}
    seen = attached(job_id).profile(operator, index, seconds=seconds, **asked)
    share = native_share(seen) if native else None
    if out is not None:
        plain = out.suffix == ".txt"
        text = profiler.collapsed(seen) if plain else json.dumps(profiler.speedscope(seen))
        out.write_text(text, encoding="utf-8")
    found = profiler.top(seen)
    if as_json:
        told = {"what": seen.what, "seconds": seen.seconds, "top": found}
        print_json(told if share is None else {**told, "native_share": round(share, 4)})
        return
    kind = "time on a CPU" if seen.cpu_known else "time"
    click.echo(f"{seen.what}: {kind} in {seen.seconds:.1f} s, {seen.samples} samples")
    if share is not None:
        click.echo(f"{share:.1%} of it in compiled code")
    rows = [
        (
            f"{one['own_share']:.1%}",
            f"{one['total_share']:.1%}",
            one["function"],
            f"{one['file']}:{one['line']}",
        )
        for one in found
    ]
    print_table(("own", "total", "function", "where"), rows)


def _subtask(word: str) -> tuple[str, int]:
    operator, colon, index = word.rpartition(":")
    if colon and index.isdecimal():
        return operator, int(index)
    return word, 0
