"""Which objects nobody needs any more: only what a retired manifest names, never by a listing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from raystream.flow.snapshots import Manifest, Part

_ATTEMPT = re.compile(r"chunks/(\d+)-")


def chunks_of(manifests: Iterable[Manifest]) -> set[str]:
    """Give the chunks that manifests name."""
    return {
        part.chunk
        for manifest in manifests
        for snapshot in manifest.subtasks
        for part in snapshot.parts
    }


def unneeded(
    retired: Iterable[Manifest], kept: Iterable[Manifest], live: Iterable[Part]
) -> list[str]:
    """Give the chunks of retired checkpoints that neither kept ones nor live subtasks name."""
    needed = chunks_of(kept) | {part.chunk for part in live}
    return sorted(chunks_of(retired) - needed)


def left_behind(listed: Collection[str], kept: Iterable[Manifest], attempt: int) -> list[str]:
    """Give the chunks of attempts before this one that no kept checkpoint names."""
    needed = chunks_of(kept)
    found = []
    for name in listed:
        match = _ATTEMPT.match(name)
        if match is not None and int(match.group(1)) < attempt and name not in needed:
            found.append(name)
    return found
