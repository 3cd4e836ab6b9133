"""Every setting that may be said outside of a script: its name, what it takes, and what it is for.

One rule names them: the setting ``checkpoint_every`` is ``RAYSTREAM_CHECKPOINT_EVERY`` in the
environment, ``checkpoint_every`` or ``[checkpoint] every`` in ``raystream.toml`` and in
``[tool.raystream]`` of ``pyproject.toml``, and ``--set checkpoint_every=…`` on the command line.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raystream.config import WORDS, Limits
from raystream.contracts.checkpointing import MODES
from raystream.errors import ConfigError
from raystream.flow.time import micros

RUNTIMES = ("ray", "local")
PREFIX = "RAYSTREAM_"
LIMITS = "config"
"""The table of a file that holds limits, as ``Job(config=…)`` does."""

_NO_SETTINGS = ("EXPLAIN", "TRACEBACK")
"""Variables of the environment that say something else."""

_ALMOST = 0.85
"""A variable that is so close to a setting is a slip of the pen; other programs have theirs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a setting takes: ``read`` makes a value of text, ``fits`` looks at one of a file."""

    says: str
    read: Callable[[str], Any]
    fits: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; ``group`` is what it is a part of, ``key`` what it is called there."""

    name: str
    kind: Kind
    doc: str
    default: Any = None
    flag: str = ""
    group: str = ""
    key: str = ""
    also: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        """Names in the environment, the first that is set counts."""
        return (PREFIX + self.name.upper(), *self.also)

    def value(self, given: Any, place: str) -> Any:
        """Look at a value that a file has.

        Raises: ConfigError that says where, and what was valid.
        """
        if not self.kind.fits(given):
            raise ConfigError(f"{self.name} is {self.kind.says}, got {given!r:.60}", where=place)
        return given

    def of_text(self, text: str, name: str) -> Any:
        """Read a value out of text.

        Raises: ConfigError that names the variable or the flag, and what was valid.
        """
        value = self.kind.read(text)
        if not self.kind.fits(value):
            raise ConfigError(f"{name} is {self.kind.says}, got {text!r:.60}")
        return value


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _truth(text: str) -> bool | str:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return known.get(text.lower(), text)


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_duration(value: Any) -> bool:
    try:
        return isinstance(value, str) and micros(value) >= 0
    except ConfigError:
        return False


def _one_of(*words: str) -> Kind:
    return Kind(f"one of {', '.join(words)}", str, lambda value: value in words)


def _is_bounds(value: Any) -> bool:
    try:
        least, most = read_bounds(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return 1 <= least <= (least if most is None else most)


def read_bounds(text: str) -> tuple[int, int | None]:
    """Read ``MIN..MAX``, of which MAX may be left out.

    Raises: ValueError for anything else.
    """
    found = re.fullmatch(r"(\d+)\.\.(\d*)", text, re.ASCII)
    if found is None:
        raise ValueError(text)
    return int(found[1]), int(found[2]) if found[2] else None


AUTOSCALE = Kind('"MIN..MAX", such as "1..8"', str, _is_bounds)
COUNT = Kind("a positive int", _number, lambda value: _is_int(value, 1))
AMOUNT = Kind("an int of at least 0", _number, lambda value: _is_int(value, 0))
TEXT = Kind("text", str, lambda value: isinstance(value, str) and bool(value))
DURATION = Kind('a duration such as "10s"', str, _is_duration)
TRUTH = Kind("true or false", _truth, lambda value: isinstance(value, bool))


def _checkpointing(name: str, kind: Kind, doc: str, default: Any) -> Setting:
    return Setting(f"checkpoint_{name}", kind, doc, default, group="checkpointing", key=name)


def _limits() -> Iterable[Setting]:
    for field in dataclasses.fields(Limits):
        kind = _one_of(*WORDS[field.name]) if field.name in WORDS else COUNT
        doc = f"A limit of each subtask; Job(config={{'{field.name}': …}}) in a script."
        yield Setting(field.name, kind, doc, field.default, group="limits", key=field.name)


SETTINGS: tuple[Setting, ...] = (
    Setting("parallelism", COUNT, "Subtasks of each operator that says no other.", 1, "-p"),
    Setting("max_parallelism", COUNT, "Key groups: a job keeps their number for life.", 128),
    Setting(
        "autoscale",
        AUTOSCALE,
        "Let the job choose how many subtasks run each operator, between bounds.",
        flag="--autoscale",
    ),
    Setting("runtime", _one_of(*RUNTIMES), "Where subtasks run.", "ray", "--runtime"),
    Setting(
        "address",
        TEXT,
        "The Ray cluster: host:port, ray://host:port or auto.",
        flag="--address",
        also=("RAY_ADDRESS",),
    ),
    Setting("checkpoint", TEXT, "Path or URL where checkpoints are kept.", flag="--checkpoint"),
    _checkpointing("every", DURATION, "How often a checkpoint is begun.", "10s"),
    _checkpointing("mode", _one_of(*MODES), "Whether channels wait for barriers.", "exactly_once"),
    _checkpointing("timeout", DURATION, "After how long a checkpoint is given up.", "10m"),
    _checkpointing("keep", COUNT, "How many checkpoints are kept.", 3),
    _checkpointing("min_pause", DURATION, "What lies between one checkpoint and the next.", "0s"),
    _checkpointing(
        "tolerate_failures",
        AMOUNT,
        "How many checkpoints in a row may fail before the job does.",
        0,
    ),
    _checkpointing(
        "unaligned_after", DURATION, "After how long waiting for barriers is given up.", None
    ),
    Setting("from", TEXT, "The snapshot to start from: a path, or latest.", flag="--from"),
    Setting(
        "allow_dropped_state",
        TRUTH,
        "Start also where the snapshot holds state of operators that are gone.",
        default=False,
        flag="--allow-dropped-state",
    ),
    *_limits(),
)

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Said:
    """A value that somebody gave, and where."""

    value: Any
    where: str


def in_flags(flags: Iterable[str]) -> dict[str, Said]:
    """Read ``NAME=VALUE``, as ``--set`` takes it.

    Raises: ConfigError for what is no setting, or a value that does not fit.
    """
    found = {}
    for flag in flags:
        name, _, text = flag.partition("=")
        setting = BY_NAME.get(name)
        if setting is None:
            raise unknown(name, "--set", BY_NAME)
        found[name] = Said(setting.of_text(text, f"--set {name}"), f"flag --set {name}")
    return found


def in_environment(environment: Mapping[str, str]) -> dict[str, Said]:
    """Read what the environment says; an empty variable says nothing.

    Raises: ConfigError for a value that does not fit, or a variable that is nearly a setting's.
    """
    found = {}
    for setting in SETTINGS:
        variable = next((name for name in setting.variables if environment.get(name)), None)
        if variable is not None:
            value = setting.of_text(environment[variable], variable)
            found[setting.name] = Said(value, f"environment {variable}")
    _refuse_slips(environment)
    return found


def _refuse_slips(environment: Mapping[str, str]) -> None:
    known = {setting.name.upper() for setting in SETTINGS} | set(_NO_SETTINGS)
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if variable == name or name in known:
            continue
        close = difflib.get_close_matches(name, known, 1, _ALMOST)
        if close:
            raise ConfigError(
                f"{variable} is no setting", hint=f'did you mean "{PREFIX}{close[0]}"?'
            )


def in_table(table: Mapping[str, Any], place: Callable[[str, str], str]) -> dict[str, Said]:
    """Read the settings of a file; ``place`` tells where a key of a table stands.

    ``[checkpoint]`` may be a table of its own, and ``[config]`` holds limits.

    Raises: ConfigError for a key that is none, with the close match, or a value that does not fit.
    """
    found: dict[str, Said] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and key in ("checkpoint", LIMITS):
            for inner, given in value.items():
                where = place(key, inner)
                found[_full(key, inner, where)] = Said(given, where)
        else:
            found[key] = Said(value, place("", key))
    for name, said in found.items():
        if name not in BY_NAME:
            raise unknown(name, said.where, [*BY_NAME, LIMITS])
        BY_NAME[name].value(said.value, said.where)
    return found


def _full(table: str, key: str, where: str) -> str:
    if table == LIMITS:
        limits = {setting.name for setting in SETTINGS if setting.group == "limits"}
        if key not in limits:
            raise unknown(key, where, limits)
        return key
    if key == "directory":
        return "checkpoint"
    parts = {setting.key for setting in SETTINGS if setting.group == "checkpointing"}
    if key not in parts:
        raise unknown(key, where, {"directory", *parts})
    return f"checkpoint_{key}"


def unknown(name: str, where: str, known: Iterable[str]) -> ConfigError:
    """Name a key that is no setting, and what was probably meant."""
    close = difflib.get_close_matches(name, sorted(known), 1)
    hint = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(sorted(known))}"
    return ConfigError(f'there is no setting "{name}"', where=where, hint=hint)
