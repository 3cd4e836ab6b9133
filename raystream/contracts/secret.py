"""What must not be written down: a job names a password, and reads it where it is used."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from raystream.errors import ConfigError, PlanError

_IN_URL = re.compile(r"://[^@\s]*:[^\s]*@")
_AS_FIELD = re.compile(r"(?:^|[?&;,\s])(?:\w*password|passwd|pwd)\s*=", re.IGNORECASE)


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Names a secret; what it holds is nowhere in it. Made by ``rs.secret``."""

    name: str | None = None
    file: str | None = None

    def __repr__(self) -> str:
        """Say its name, which is all that plans, logs and checkpoints may hold."""
        return f"secret({self.name!r})" if self.file is None else f"secret(file={self.file!r})"

    def reveal(self) -> str:
        """Read what it holds, in the process and at the moment in which it is used.

        Raises: ConfigError where there is nothing.
        """
        held = self._read()
        if not held:
            raise ConfigError(
                f"{self!r} holds nothing where it is used",
                hint=f"set the environment variable {self.name} on every node"
                if self.file is None
                else "the file must be there, and readable, on every node",
            )
        return held

    @property
    def is_there(self) -> bool:
        """Whether this process could read it."""
        return bool(self._read())

    def _read(self) -> str:
        if self.file is None:
            return os.environ.get(self.name or "", "")
        try:
            # Files end with a line break that no password has.
            return Path(self.file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            return ""


def secret(name: str | None = None, *, file: str | os.PathLike[str] | None = None) -> Secret:
    """Name a secret: an environment variable, or a file that holds nothing else.

    It is read when a subtask opens what needs it, on the node where it runs. Plans, checkpoints,
    logs, errors and ``explain`` hold the name alone.

    Raises: PlanError unless exactly one of the two is given.

    >>> import raystream as rs
    >>> rs.secret("PG_PASSWORD")
    secret('PG_PASSWORD')
    """
    if (name is None) == (file is None):
        raise PlanError("secret() takes the name of an environment variable, or file=, not both")
    if file is not None:
        return Secret(file=os.fspath(file))
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        # What it was given may be the secret itself: it is not repeated here.
        raise PlanError(
            "secret() takes the name of an environment variable: letters, digits and _",
            hint="the secret itself does not belong into a job",
        )
    return Secret(name)


def resolve(value: str | Secret) -> str:
    """Give a text as it is used: as it stands, or as the secret holds it."""
    return value.reveal() if isinstance(value, Secret) else value


def check_plain(value: str | Secret, what: str) -> None:
    """Refuse a text that has a password in it: it would be written into plans and logs.

    ``what`` is what the user calls it. Raises: PlanError, which does not repeat the text.
    """
    if isinstance(value, Secret):
        return
    if not isinstance(value, str):
        raise PlanError(f"{what} takes a text or a rs.secret(…), got a {type(value).__name__}")
    if _IN_URL.search(value) or _AS_FIELD.search(value):
        raise PlanError(
            f"{what} has a password in it, which plans and logs would show",
            hint='keep it in the environment or in a file: rs.secret("NAME"), rs.secret(file=…)',
        )
