"""``raystream config``: what every setting is, and who said so."""

from __future__ import annotations

import os
from pathlib import Path

import click

from raystream.api import overrides
from raystream.api.setting_table import SETTINGS
from raystream.ops.options import set_option
from raystream.ops.printing import json_option, print_json, print_table
from raystream.ops.run import script_type

DEFAULT = "default"


@click.command(short_help="Show each setting, and where it comes from.")
@click.argument("script", required=False, type=script_type)
@click.option("--said", is_flag=True, help="Only those that somebody has set.")
@set_option
@json_option
def config(*, script: Path | None, said: bool, as_json: bool) -> None:
    """Show what flags, environment and files say, for SCRIPT or for this folder.

    Flags beat the environment, that beats raystream.toml, that [tool.raystream] of pyproject.toml,
    and that beats what the script itself says. A default holds where the script says nothing.
    """
    sets = overrides.flags().sets
    path = None if script is None else script.resolve()
    found = overrides.all_said(os.environ, sets, path)
    shown = []
    for setting in SETTINGS:
        one = found.get(setting.name)
        if one is None and said:
            continue
        value, origin = (setting.default, DEFAULT) if one is None else (one.value, one.where)
        shown.append((setting, value, origin))
    if as_json:
        print_json(
            [
                {
                    "name": setting.name,
                    "value": value,
                    "from": origin,
                    "takes": setting.kind.says,
                    "variable": setting.variables[0],
                    "flag": setting.flag or f"--set {setting.name}=",
                    "doc": setting.doc,
                }
                for setting, value, origin in shown
            ]
        )
        return
    rows = [(setting.name, _shown(value), origin) for setting, value, origin in shown]
    print_table(("setting", "value", "from"), rows)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)
