"""The files of a project that hold settings: ``raystream.toml``, ``[tool.raystream]``.

Each is looked for in the folder of the script and those above it, then in the folder that the
process runs in and those above that; the nearest counts.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raystream.api.setting_table import Said, in_table
from raystream.errors import ConfigError

FILE = "raystream.toml"
PYPROJECT = "pyproject.toml"
_TOOL = ("tool", "raystream")


def in_files(script: Path | None, folder: Path) -> dict[str, Said]:
    """Give what the files of a project say; ``raystream.toml`` beats ``pyproject.toml``.

    Raises: ConfigError for a file that is no TOML, or a setting that is none.
    """
    starts = [folder] if script is None else [script.parent, folder]
    found: dict[str, Said] = {}
    for name, tables in ((PYPROJECT, _TOOL), (FILE, ())):
        nearest = next(_having(starts, name, tables), None)
        if nearest is not None:
            found |= _settings(nearest, tables)
    return found


def running_script() -> Path | None:
    """Give the script that this process runs; None where that is a program that is installed."""
    named = getattr(sys.modules.get("__main__"), "__file__", None)
    if not named:
        return None
    script = Path(named).resolve()
    installed = Path(sys.prefix).resolve() in script.parents
    return None if installed else script


def _having(starts: list[Path], name: str, tables: tuple[str, ...]) -> Iterator[Path]:
    seen = set()
    for start in starts:
        for folder in (start, *start.parents):
            path = folder / name
            if path not in seen and path.is_file() and _table(_read(path), tables) is not None:
                yield path
            seen.add(path)


def _settings(path: Path, tables: tuple[str, ...]) -> dict[str, Said]:
    table = _table(_read(path), tables)
    assert table is not None, "only files that have the table are read"

    def place(inner: str, key: str) -> str:
        line = _line(path.read_text(encoding="utf-8"), [*tables, inner] if inner else tables, key)
        return f"{path}:{line}" if line else str(path)

    return in_table(table, place)


def _table(document: Mapping[str, Any], tables: tuple[str, ...]) -> Mapping[str, Any] | None:
    for name in tables:
        inner = document.get(name)
        if not isinstance(inner, Mapping):
            return None
        document = inner
    return document


def _read(path: Path) -> dict[str, Any]:
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, _changed_ns: int, _size: int) -> dict[str, Any]:
    """Read a file once, until it changes."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def _line(text: str, tables: tuple[str, ...] | list[str], key: str) -> int | None:
    """Find the line that a key stands on, 1 the first; None where it is written in another way."""
    header, section = ".".join(tables), ""
    for number, line in enumerate(text.splitlines(), 1):
        title = re.fullmatch(r"\s*\[\s*([\w.\-]+)\s*\]\s*(#.*)?", line)
        if title:
            section = title.group(1)
        elif section == header and re.match(rf'\s*["\']?{re.escape(key)}["\']?\s*[.=]', line):
            return number
    return None
