"""From a manifest to what one subtask restores: only its share is fetched, and all is verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from raystream.errors import CorruptSnapshot
from raystream.flow.ids import SubtaskId
from raystream.flow.keygroup import key_group_range
from raystream.flow.snapshots import Kept, Manifest, Part
from raystream.keyed.snapshot import Section, Share, Snapshot, merged, of_groups, share
from raystream.storage.cache import Copies
from raystream.storage.chunks import corrupt, decoded
from raystream.storage.store import Missing, Store, joined

READS_AT_ONCE = 8
"""Requests that one subtask has under way: a store's bandwidth comes from several."""

GAP_BYTES_MAX = 64 * 1024
"""Bytes between two parts that are read along: fewer than a request costs."""

READ_BYTES_MAX = 32 * 1024 * 1024
"""Where one request ends and the next begins, unless a part is larger."""

STORE = "the store"
"""How the store is told of, beside the places that have copies."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """One section of one subtask of the attempt that was kept."""

    subtask: SubtaskId
    kept: Kept


@dataclass(frozen=True, slots=True)
class _Needed:
    """Who holds something of one section for a subtask; ``all_of`` it where nothing is divided."""

    holders: tuple[_Holder, ...]
    all_of: bool = False


def load(
    manifest: Manifest,
    store: Store,
    uids: Iterable[str],
    index: int,
    parallelism: int,
    *,
    copies: Sequence[Copies] = (),
    read: Counter[str] | None = None,
) -> dict[str, Snapshot]:
    """Give what subtask ``index`` of ``parallelism`` restores, for each uid that was kept.

    ``store`` is the root that holds the manifest; it is asked where none of the ``copies``, in
    their order, has what was written. ``read`` is told how many bytes came from where.
    Raises: StorageError; CorruptSnapshot naming the chunk that is missing or does not verify.
    """
    found = _found(manifest, uids, index, parallelism)
    tables = _fetched(_parts(found), store, copies, Counter() if read is None else read)
    most = manifest.max_parallelism
    return {
        uid: tuple(_restored(each, tables, index, parallelism, most) for each in sections)
        for uid, sections in found.items()
    }


def chunks_needed(
    manifest: Manifest, uids: Iterable[str], index: int, parallelism: int
) -> set[str]:
    """Name the chunks that ``load`` would read."""
    return {part.chunk for part in _parts(_found(manifest, uids, index, parallelism))}


def _found(
    manifest: Manifest, uids: Iterable[str], index: int, parallelism: int
) -> dict[str, list[_Needed]]:
    wanted = {uid: _needed(manifest, uid, index, parallelism) for uid in dict.fromkeys(uids)}
    return {uid: sections for uid, sections in wanted.items() if sections is not None}


def _parts(found: dict[str, list[_Needed]]) -> list[Part]:
    holders = [one for sections in found.values() for each in sections for one in each.holders]
    return list(dict.fromkeys(part for one in holders for part in one.kept.parts))


def _needed(manifest: Manifest, uid: str, index: int, parallelism: int) -> list[_Needed] | None:
    """Give those who hold something for a subtask, by section; None where nobody kept the uid."""
    snapshots = [one for one in manifest.subtasks if uid in one.operators]
    if not snapshots:
        return None
    sections: dict[str, list[_Holder]] = {}
    for one in sorted(snapshots, key=lambda one: one.subtask):
        for kept in one.operators[uid]:
            sections.setdefault(kept.name, []).append(_Holder(one.subtask, kept))
    most = manifest.max_parallelism
    needed = [_useful(tuple(each), index, parallelism, most) for each in sections.values()]
    # Where only some kept a section, none of them may own what this subtask does.
    return [one for one in needed if one.holders]


def _useful(
    holders: tuple[_Holder, ...], index: int, parallelism: int, max_parallelism: int
) -> _Needed:
    """Leave out the holders that ``share`` would take nothing from."""
    shares = {one.kept.share for one in holders}
    if len(shares) > 1:
        return _Needed(holders)  # which ``share`` refuses
    match Share(holders[0].kept.share):
        case Share.BROADCAST:
            return _Needed((holders[index % len(holders)],), all_of=True)
        case Share.SPLIT if len(holders) == parallelism:
            return _Needed((holders[index],), all_of=True)
        case Share.SPLIT | Share.UNION:
            return _Needed(holders)
        case Share.KEYED:
            mine = key_group_range(index, parallelism, max_parallelism)
            near = (one for one in holders if _overlap(mine, _owned(one, max_parallelism)))
            return _Needed(tuple(near))


def _owned(one: _Holder, max_parallelism: int) -> range:
    """Give the key groups of a holder: it kept no others, which its uploader has seen to."""
    return key_group_range(one.subtask.index, one.subtask.parallelism, max_parallelism)


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _restored(
    needed: _Needed,
    tables: dict[Part, pa.Table],
    index: int,
    parallelism: int,
    max_parallelism: int,
) -> Section:
    mine = key_group_range(index, parallelism, max_parallelism)

    def table(kept: Kept) -> pa.Table:
        parts = [tables[part] for part in kept.parts]
        if kept.key and kept.share == Share.KEYED.value:
            # Rows with keys of their own take the place of others of their group alone.
            parts = [of_groups(part, mine) for part in parts]
        return merged(parts, kept.key)

    sections = [
        Section(one.kept.name, table(one.kept), Share(one.kept.share)) for one in needed.holders
    ]
    if needed.all_of:
        return sections[0]
    return share([(one,) for one in sections], index, parallelism, max_parallelism)[0]


def _fetched(
    parts: Sequence[Part], store: Store, copies: Sequence[Copies], read: Counter[str]
) -> dict[Part, pa.Table]:
    tables: dict[Part, pa.Table] = {}
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for place, some in pool.map(lambda parts: _read(parts, store, copies), _reads(parts)):
            read[place] += sum(part.length for part in some)
            tables |= some
    return tables


def _reads(parts: Sequence[Part]) -> list[list[Part]]:
    """Put parts together that one request reads: neighbours in one chunk."""
    reads: list[list[Part]] = []
    end = 0
    for part in sorted(parts, key=lambda part: (part.chunk, part.offset)):
        last = reads[-1][0] if reads else None
        near = last is not None and last.chunk == part.chunk and part.offset - end <= GAP_BYTES_MAX
        if last is not None and near and part.offset + part.length - last.offset <= READ_BYTES_MAX:
            reads[-1].append(part)
            end = max(end, part.offset + part.length)
        else:
            reads.append([part])
            end = part.offset + part.length
    return reads


def _read(
    parts: Sequence[Part], store: Store, copies: Sequence[Copies]
) -> tuple[str, dict[Part, pa.Table]]:
    """Give the place that has what was written, and what that is."""
    chunk, start = parts[0].chunk, parts[0].offset
    length = max(part.offset + part.length for part in parts) - start
    url = joined(store.url, chunk)
    for place in copies:
        data = place.read(store.url, chunk, start, length)
        if data is not None:
            with suppress(CorruptSnapshot):
                return place.name, _tables(data, parts, start, url)
    there = store.get(chunk, start, length)
    if isinstance(there, Missing):
        raise corrupt(parts[0], url, "there is no such object")
    return STORE, _tables(there, parts, start, url)


def _tables(data: bytes, parts: Sequence[Part], start: int, url: str) -> dict[Part, pa.Table]:
    view = memoryview(data)
    offsets = {part: part.offset - start for part in parts}
    return {p: decoded(view[at : at + p.length], p, url) for p, at in offsets.items()}
