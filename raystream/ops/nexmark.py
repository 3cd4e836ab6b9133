"""``raystream nexmark``: run a query of the Nexmark benchmark, on events made on the spot."""

from __future__ import annotations

from pathlib import Path

import click

import raystream
from raystream.errors import ConfigError
from raystream.ops.options import address_option, quiet_option, set_option
from raystream.ops.printing import json_option
from raystream.ops.run import parallelism_option, run_script, runtime_option


def script_path() -> Path:
    """Find the job: it is ``jobs/nexmark.py`` of a checkout, and a wheel has a copy of it."""
    package = Path(raystream.__file__).parent
    for folder in (package, package.parent):
        script = folder / "jobs" / "nexmark.py"
        if script.is_file():
            return script
    raise ConfigError(
        "this installation of raystream has no jobs/nexmark.py",
        hint="install the wheel, or run from a checkout",
    )


@click.command(short_help="Run a query of the Nexmark benchmark.")
@click.argument("query")
@click.option("--events", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--rate", type=click.IntRange(min=1), help="Events a second of event time.")
@parallelism_option
@runtime_option
@set_option
@address_option
@quiet_option
@json_option
def nexmark(
    *,
    query: str,
    events: int,
    rate: int | None,
    parallelism: int | None,
    runtime: str | None,
    as_json: bool,
) -> None:
    """Run a Nexmark QUERY (q0 to q22, q6_ordered, q12_event) on generated events.

    It says how many events a second the answer took.
    """
    args = [query, "--events", str(events)]
    if rate is not None:
        args += ["--rate", str(rate)]
    if as_json:
        args.append("--json")
    run_script(script_path(), args, parallelism=parallelism, runtime=runtime)
