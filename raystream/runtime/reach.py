"""Whether a node sees the folder that its job is kept in, before any row flows there.

The coordinator has written the attempt into the job's log by the time a subtask is made. Whoever
does not find it looks at another folder of the same name: a disk of its own, where the state that
it keeps would be found by nobody else, and where a restore would find nothing.
"""

from __future__ import annotations

from raystream.errors import ConfigError
from raystream.storage.codec import decode_entry
from raystream.storage.layout import LOG, log_number, log_path
from raystream.storage.store import Missing, Store

PATIENCE_S = 5.0
"""A shared disk may show a folder as it was a moment ago; NFS does so for three seconds."""


def sees(store: Store, attempt: int) -> bool:
    """Tell whether an attempt, or a later one, is in the log that ``store`` holds.

    Raises: StorageError; CorruptSnapshot if the newest entry cannot be read.
    """
    # No checkpoint is in the log of an attempt whose subtasks are only made: one entry says it.
    numbers = [number for name in store.list(LOG) if (number := log_number(name)) is not None]
    if not numbers:
        return False
    path = log_path(max(numbers))
    found = store.get(path)
    return not isinstance(found, Missing) and decode_entry(found, path).attempt >= attempt


def blind(job: str, url: str, node: str) -> ConfigError:
    """Say that a node does not see the folder of a job."""
    if url.startswith("memory://"):
        return ConfigError(
            f'job "{job}" is kept at {url}, which each process has to itself',
            hint="on Ray keep it where every node reaches it: s3://bucket/folder, or a shared disk",
        )
    return ConfigError(
        f'job "{job}" is kept at {url}, and node {node} does not see what is there: the folder '
        "lies on a disk that not all nodes of the cluster share",
        hint="keep it where every node reaches it: Checkpointing('s3://bucket/folder'), or a "
        "folder of a disk that is mounted at the same path on all nodes",
    )
