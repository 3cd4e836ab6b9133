"""Where files appear whole: written where nobody looks, then given their name.

A folder renames; a bucket of S3, which cannot, completes an upload of parts.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from raystream.connectors.file_listing import filesystem_of, is_local
from raystream.errors import SinkError

HIDDEN = "_tmp-"
"""What names begin with until their rows are committed; readers skip names that begin with _."""

_PART_BYTES = 5 * 1024 * 1024
"""What S3 takes at the least as a part that is not the last; every open file keeps as much."""

_PARTS_A_SIZE = 1_000
"""S3 takes 10,000 parts: after so many they become twice as large, which is room for terabytes."""


@dataclass(frozen=True, slots=True)
class FileName:
    """What tells a file from all others: ``token`` is of one writer of one attempt."""

    folder: str
    subtask: int
    number: int
    token: str
    extension: str

    @property
    def hidden(self) -> str:
        return f"{HIDDEN}{self.token}-{self.subtask:04}-{self.number:06}"

    def final(self, checkpoint_id: int | None = None) -> str:
        """Give the name to appear under, below the place of the sink."""
        epoch = "" if checkpoint_id is None else f"{checkpoint_id:06}-"
        name = f"part-{self.subtask:04}-{epoch}{self.number:06}-{self.token}.{self.extension}"
        return f"{self.folder}/{name}" if self.folder else name


class UnseenFile(Protocol):
    """A file that is written, and that nobody sees."""

    @property
    def out(self) -> BinaryIO:
        """Take its bytes."""

    def seal(self) -> None:
        """End it, so that it outlives a crash of the machine."""

    def committable(self, checkpoint_id: int) -> Any:
        """Give what ``Place.publish`` needs, in any process."""

    def remove(self) -> None:
        """Throw it away, ended or not."""


class Place(Protocol):
    """Where the files of a sink appear."""

    def make(self) -> None:
        """Make what files need to lie in."""

    def create(self, name: FileName) -> UnseenFile:
        """Begin a file."""

    def publish(self, committables: Iterable[Any]) -> None:
        """Let files appear; those that have appeared are left alone.

        Raises: SinkError for one that is nowhere.
        """

    def remove(self, committables: Iterable[Any]) -> None:
        """Throw files away that may be gone already; those that have appeared stay."""


def place_of(url: str) -> Place:
    """Give the place that an address means."""
    filesystem, path = filesystem_of(url)
    if hasattr(filesystem, "call_s3"):
        return _Bucket(filesystem, path)
    return _Folder(filesystem, path, url)


class _Folder:
    """A folder: committables are pairs of names in it, the one of now and the one to come."""

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self._filesystem, self._root = filesystem, root
        self._local = is_local(filesystem)
        self._url = url

    def make(self) -> None:
        try:
            self._filesystem.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot write to {self._url}: {error}") from error

    def create(self, name: FileName) -> UnseenFile:
        path = f"{self._root}/{name.hidden}"
        try:
            out = (  # closed by whoever writes the file
                Path(path).open("xb") if self._local else self._filesystem.open(path, "wb")  # noqa: SIM115
            )
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error}") from error
        return _Hidden(self, name, out)

    def publish(self, committables: Iterable[Any]) -> None:
        renames = [(f"{self._root}/{old}", f"{self._root}/{new}") for old, new in committables]
        folders = {folder for _, new in renames for folder in self._folders(new)}
        for folder in sorted(folders):
            self._filesystem.makedirs(folder, exist_ok=True)
        for old, new in renames:
            self._rename(old, new)
        self.sync(folders)

    def remove(self, committables: Iterable[Any]) -> None:
        for old, _ in committables:
            self.remove_one(old)

    def remove_one(self, name: str) -> None:
        """Delete a file that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(f"{self._root}/{name}")

    def sync(self, folders: Iterable[str] = ()) -> None:
        """Let names outlive a crash of the machine, those of the folder itself at least."""
        if self._local:
            for folder in sorted({self._root, *folders}):
                handle = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def _folders(self, path: str) -> Iterator[str]:
        """Give the folders that a file lies in, up to that of the sink."""
        while len(path) > len(self._root) and (path := path.rpartition("/")[0]):
            yield path

    def _rename(self, old: str, new: str) -> None:
        try:
            if self._local:
                Path(old).replace(new)
            else:
                self._filesystem.mv(old, new)
        except FileNotFoundError as error:
            # A commit that is repeated, or runs twice at once, finds the work done.
            self._filesystem.invalidate_cache()
            if not self._filesystem.exists(new):
                raise _lost(old, new) from error


class _Hidden:
    """A file of a folder, under a name that begins with ``_tmp-``."""

    def __init__(self, place: _Folder, name: FileName, out: BinaryIO) -> None:
        self._place, self._name = place, name
        self.out = out

    def seal(self) -> None:
        if isinstance(self.out, io.BufferedWriter):  # a file of this machine
            self.out.flush()
            os.fsync(self.out.fileno())
        self.out.close()
        self._place.sync()

    def committable(self, checkpoint_id: int) -> tuple[str, str]:
        return self._name.hidden, self._name.final(checkpoint_id)

    def remove(self) -> None:
        self.out.close()
        self._place.remove_one(self._name.hidden)


class _Bucket:
    """Below a key of S3: committables are (bucket, key, upload, ((number, etag), …), bytes).

    An object that an upload of parts makes appears when the upload is completed, and whole.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._bucket, self._prefix, _ = filesystem.split_path(root)

    def make(self) -> None:
        """Do nothing: a bucket has no folders, and is made by whoever owns it."""

    def create(self, name: FileName) -> UnseenFile:
        # The key must be known before the checkpoint is, so that its number is not in it.
        return _Upload(self._filesystem, self._bucket, f"{self._prefix}/{name.final()}".lstrip("/"))

    def publish(self, committables: Iterable[Any]) -> None:
        for bucket, key, upload, parts, size in committables:
            listed = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
            try:
                self._filesystem.call_s3(
                    "complete_multipart_upload",
                    Bucket=bucket,
                    Key=key,
                    UploadId=upload,
                    MultipartUpload={"Parts": listed},
                )
            except OSError as error:
                # A commit that is repeated, runs twice at once, or was cut off from the answer
                # finds the work done.
                if self._size(bucket, key) == size:
                    continue
                target = f"s3://{bucket}/{key}"
                if self._is_gone(bucket, key, upload):
                    raise _lost(f"upload {upload} of {target}", target) from error
                raise SinkError(f"cannot complete {target}: {error}") from error
        self._filesystem.invalidate_cache()

    def remove(self, committables: Iterable[Any]) -> None:
        for bucket, key, upload, _, _ in committables:
            _forget(self._filesystem, bucket, key, upload)

    def _size(self, bucket: str, key: str) -> int | None:
        try:
            found = self._filesystem.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return int(found["ContentLength"])

    def _is_gone(self, bucket: str, key: str, upload: str) -> bool:
        try:
            self._filesystem.call_s3("list_parts", Bucket=bucket, Key=key, UploadId=upload)
        except FileNotFoundError:
            return True
        return False


class _Upload(io.BufferedIOBase, BinaryIO):
    """An object on its way: what was written is kept until it makes a part."""

    def __init__(self, filesystem: Any, bucket: str, key: str) -> None:
        self._filesystem, self._bucket, self._key = filesystem, bucket, key
        self._upload: str | None = None
        self._parts: list[tuple[int, str]] = []
        self._kept = bytearray()
        self._size = 0

    @property
    def out(self) -> BinaryIO:
        return self

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._kept += view
        self._size += view.nbytes
        size = _PART_BYTES << (len(self._parts) // _PARTS_A_SIZE)
        while len(self._kept) >= size:
            self._send(size)
        return view.nbytes

    def tell(self) -> int:
        return self._size

    def seal(self) -> None:
        if self._kept or not self._parts:
            self._send(len(self._kept))

    def committable(self, checkpoint_id: int) -> Any:
        return self._bucket, self._key, self._upload, tuple(self._parts), self._size

    def remove(self) -> None:
        self._kept.clear()
        if self._upload is not None:
            _forget(self._filesystem, self._bucket, self._key, self._upload)

    def _send(self, size: int) -> None:
        at = {"Bucket": self._bucket, "Key": self._key}
        try:
            if self._upload is None:
                begun = self._filesystem.call_s3("create_multipart_upload", **at)
                self._upload = str(begun["UploadId"])
            number = len(self._parts) + 1
            sent = self._filesystem.call_s3(
                "upload_part",
                **at,
                UploadId=self._upload,
                PartNumber=number,
                Body=bytes(self._kept[:size]),
            )
        except OSError as error:
            raise SinkError(f"cannot write s3://{self._bucket}/{self._key}: {error}") from error
        self._parts.append((number, str(sent["ETag"])))
        del self._kept[:size]


def _forget(filesystem: Any, bucket: str, key: str, upload: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        filesystem.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)


def _lost(source: str, target: str) -> SinkError:
    return SinkError(
        f"{source} was prepared and is gone, and {target} is not there",
        hint="did something else clean up? What a checkpoint has prepared must stay until then",
    )
