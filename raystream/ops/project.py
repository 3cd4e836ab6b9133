"""``raystream init``: a folder with a job that runs, its test and its settings."""

from __future__ import annotations

import re
from pathlib import Path

import click

from raystream.errors import ConfigError
from raystream.ops.printing import json_option, print_json
from raystream.ops.templates import FILES

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?")


@click.command(short_help="Make a new project.")
@click.argument("name", metavar="NAME")
@json_option
def init(*, name: str, as_json: bool) -> None:
    """Make the folder NAME with a job, a test of it and its settings; nothing is overwritten."""
    folder = Path(name)
    made = make_project(folder)
    if as_json:
        print_json({"project": folder.name, "folder": str(folder.resolve()), "files": made})
        return
    click.echo(f"made {folder}: {', '.join(made)}")
    click.echo(f"next: cd {folder} && raystream run job.py")


def make_project(folder: Path) -> list[str]:
    """Write the files of a new project, and name them.

    Raises: ConfigError for a name that no package may have, or a folder that is not empty.
    """
    if not _NAME.fullmatch(folder.name):
        raise ConfigError(
            f'"{folder.name}" is no name for a project',
            hint="letters, digits, - and _, a letter first",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is there already, and not empty", hint="give a name that is free"
        )
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(name=folder.name), encoding="utf-8")
    return list(FILES)
