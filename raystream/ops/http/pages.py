"""The files of the pages: those of one folder, of known kinds, and nothing outside of it."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "static"

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".woff2": "font/woff2",
}

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def page(folder: Path, path: str) -> tuple[bytes, str] | None:
    """Give a file of the folder and its kind; None where there is none.

    A path is split here: its parts are plain names, and none is hidden.
    """
    parts = path.split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        return None
    kind = KINDS.get(Path(parts[-1]).suffix)
    file = folder.joinpath(*parts)
    if kind is None or not file.is_file():
        return None
    if not file.resolve().is_relative_to(folder.resolve()):  # a link that leads out
        return None
    return file.read_bytes(), kind
