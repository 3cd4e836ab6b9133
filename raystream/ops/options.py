"""Flags that many commands take; what they say holds until the command ends."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import click

from raystream.api import overrides

_ADDRESS = "RAY_ADDRESS"


def _hold(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        flags = dataclasses.replace(overrides.flags(), **{str(param.name): value})
        ctx.with_resource(overrides.overriding(flags))


address_option = click.option(
    "--address",
    metavar="HOST:PORT",
    expose_value=False,
    callback=_hold,
    help="The Ray cluster, in place of RAYSTREAM_ADDRESS and RAY_ADDRESS.",
)
set_option = click.option(
    "--set",
    "sets",
    metavar="NAME=VALUE",
    multiple=True,
    expose_value=False,
    callback=_hold,
    help="A setting by name; `raystream config` lists them.",
)
quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_hold,
    help="Show no progress.",
)


def look_for_a_cluster() -> None:
    """Let Ray find the cluster of this machine where no address is set, and not start one."""
    if overrides.current().address is None:
        os.environ.setdefault(_ADDRESS, "auto")
