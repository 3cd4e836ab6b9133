"""Where things lie: ``<directory>/<job>/<id>/`` is a job's root, with its log and its chunks.

::

    <job>/<id>/log/0000000007.json          one entry of the log
    <job>/<id>/chunks/<attempt>-<chain>-<index>-<seq>.arrow
    <job>/<id>/manifest-<attempt>-<checkpoint>.json
    <job>/savepoints/<id>/manifest.json     a savepoint stands alone: chunks/ beside it
    <job>/staged/                           what sinks keep until they commit it: theirs to delete
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from raystream.flow.ids import SubtaskId

LOG = "log"
CHUNKS = "chunks"
SAVEPOINTS = "savepoints"
STAGED = "staged"
SAVEPOINT_MANIFEST = "manifest.json"

_ENTRY = re.compile(r"([0-9]{10,18})\.json")
_CHUNK = re.compile(r"([0-9]{1,18})-.*-[0-9]+-[0-9]+\.arrow")
_CHECKPOINT = re.compile(r"manifest-[0-9]+-[0-9]+\.json")

_NAME_MAX = 100


def log_path(number: int) -> str:
    """Give the path of a log entry; names sort as their numbers do."""
    return f"{LOG}/{number:010d}.json"


def log_number(name: str) -> int | None:
    """Give the number of an entry by its name in the log's folder; None for any other name."""
    found = _ENTRY.fullmatch(name)
    return int(found[1]) if found else None


def is_manifest(name: str) -> bool:
    """Tell whether a name is that of a manifest, of a checkpoint or a savepoint."""
    return name == SAVEPOINT_MANIFEST or _CHECKPOINT.fullmatch(name) is not None


def chunk_path(attempt: int, subtask: SubtaskId, seq: int) -> str:
    """Name a chunk: no two of one root have the same name."""
    return f"{CHUNKS}/{attempt}-{safe_name(subtask.chain)}-{subtask.index}-{seq}.arrow"


def chunk_attempt(name: str) -> int | None:
    """Give the attempt that wrote a chunk, finished or not, by its name in the chunks' folder."""
    found = _CHUNK.match(name)
    return int(found[1]) if found else None


def safe_name(text: str) -> str:
    """Make a name of a file out of any text: different texts, different names.

    >>> safe_name("hot items/2")
    'hot%20items%2F2'
    """
    name = quote(text, safe="", errors="surrogatepass")
    if name.strip(".") == "":
        name = name.replace(".", "%2E")
    if len(name) <= _NAME_MAX:
        return name
    # A file's name has at most 255 bytes, and ours get numbers behind it; cut ones stay longer
    # than any that is not.
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{name[:_NAME_MAX]}~~{digest[:16]}"
