"""A Delta table as its log tells it: its columns, its files, and what a version has added."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from raystream.connectors.file_listing import (
    File,
    PathLike,
    filesystem_of,
    is_local,
    refuse_password,
)
from raystream.connectors.lake_types import check_columns, held_columns, held_type
from raystream.errors import ExternalError, PlanError, SinkError, SourceError
from raystream.flow.normal import normal_schema

_RETRIED = "60s"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def check_installed() -> None:
    """Refuse to build a job that could not run.

    Raises: PlanError where the library is missing.
    """
    if importlib.util.find_spec("deltalake") is None:
        raise PlanError(
            "Delta tables need the package deltalake", hint='pip install "raystream[delta]"'
        )


def absolute(path: PathLike) -> str:
    """Name a table so that every process finds it, whatever folder it is in.

    Raises: PlanError for an address with a password in it.
    """
    text = os.fspath(path).rstrip("/")
    refuse_password(text)
    filesystem, inside = filesystem_of(text)
    return inside if is_local(filesystem) else text


def options() -> dict[str, str]:
    """Give what the library has to be told of the object store besides the environment."""
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    # Two who write one version at once must not both succeed, and a server without TLS is refused.
    plain = str(endpoint.startswith("http://")).lower()
    # No signal reaches the library while it waits: three minutes a request would be its own choice.
    return {"conditional_put": "etag", "allow_http": plain, "retry_timeout": _RETRIED}


def opened(url: str, version: int | None = None) -> Any:
    """Open a table at a version, or as it is now; None where there is none."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    remote = "://" in url
    try:
        return DeltaTable(url, version, options() if remote else None)
    except TableNotFoundError:
        return None


def said(error: BaseException) -> str:
    """Give what an error of the library says; below its first line it is a trace of the stack."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def columns_of(table: Any) -> pa.Schema:
    """Give the columns of a table, as streams have them."""
    return normal_schema(pa.schema(table.schema().to_arrow()))


def refuse_features(table: Any, url: str, kind: type[ExternalError]) -> None:
    """Refuse a table whose rows are not what its Parquet files say.

    Raises: an error of ``kind``.
    """
    configuration = table.metadata().configuration
    mode = configuration.get("delta.columnMapping.mode", "none")
    reasons = [] if mode == "none" else [f"maps its columns (delta.columnMapping.mode={mode})"]
    if kind is SinkError:
        reasons += [f"has the rule {key}" for key in configuration if "delta.constraints." in key]
        for field in table.schema().fields:
            rules = [key for key in field.metadata if key.startswith("delta.")]
            reasons += [f'has the rule {key} on column "{field.name}"' for key in rules]
    if reasons:
        doing = "write" if kind is SinkError else "read"
        raise kind(
            f"cannot {doing} {url}: the table {reasons[0]}, which is not kept here",
            hint="use a table without it",
        )


def columns_for(schema: pa.Schema) -> pa.Schema:
    """Give the columns in which a table holds a stream.

    Raises: SinkError naming a column of a type that Delta has not.
    """
    return held_columns(schema, _held, "Delta tables")


def check_fits(given: pa.Schema, table: pa.Schema, url: str) -> None:
    """Compare the columns of a stream with those of a table.

    Raises: SinkError naming the first that does not fit.
    """
    check_columns(given, table, _held, url)


def _held(kind: pa.DataType) -> pa.DataType | None:
    return None if pa.types.is_time(kind) else held_type(kind, _held)


def files_at(table: Any, url: str) -> list[File]:
    """List the files that make up a version, the older first.

    Raises: SourceError if rows in them are deleted by vectors.
    """
    if pa.table(table.deletion_vectors()).num_rows:
        raise _vectors(url)
    listed = pa.table(table.get_add_actions(flatten=False))
    names = listed.column_names
    values: list[Mapping[str, str | None]] = [{}] * listed.num_rows
    if "partition" in names and listed.num_rows:
        column = listed.column("partition").combine_chunks()
        kinds = [(field.name, pa.string()) for field in column.type]
        texts = [column.field(index).cast(pa.string()) for index in range(len(kinds))]
        values = [
            dict(zip([name for name, _ in kinds], row, strict=True))
            for row in zip(*(text.to_pylist() for text in texts), strict=True)
        ]
    rows = zip(
        listed.column("modification_time").to_pylist(),
        listed.column("path").to_pylist(),
        listed.column("size_bytes").to_pylist(),
        values,
        strict=True,
    )
    ordered = sorted(rows, key=lambda row: row[:2])
    return [_file(url, path, size, partition) for _, path, size, partition in ordered]


def added_by(url: str, version: int) -> list[File] | None:
    """List the files that a version has added with new rows; None: there is no such version.

    Raises: SourceError if the version took rows back.
    """
    filesystem, root = filesystem_of(url)
    path = f"{root}/_delta_log/{version:020}.json"
    try:
        text = filesystem.cat_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    actions = [json.loads(line) for line in text.splitlines() if line.strip()]
    added = [one["add"] for one in actions if one.get("add", {}).get("dataChange")]
    if any("remove" in one and one["remove"].get("dataChange", True) for one in actions):
        raise SourceError(
            f"version {version} of {url} deletes or changes rows; a source that follows a table "
            "reads what is added to it",
            hint=f"read on behind it: another job, with DeltaSource(version={version}, …)",
        )
    if any(one.get("deletionVector") for one in added):
        raise _vectors(url)
    return [_file(url, one["path"], one["size"], one["partitionValues"]) for one in added]


def checkpointed(url: str) -> int:
    """Give the newest version of which the log keeps a whole; -1: none. Older ones may be gone."""
    filesystem, root = filesystem_of(url)
    try:
        return int(
            json.loads(filesystem.cat_file(f"{root}/_delta_log/_last_checkpoint"))["version"]
        )
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise SourceError(f"cannot read the log of {url}: {error}") from error


def _vectors(url: str) -> SourceError:
    return SourceError(
        f"cannot read {url}: some of its rows are deleted by deletion vectors",
        hint="rewrite these files first: REORG TABLE … APPLY (PURGE)",
    )


def _file(url: str, path: str, size: int, partition: Mapping[str, str | None]) -> File:
    inside = unquote(path)
    whole = inside if "://" in inside or inside.startswith("/") else f"{url}/{inside}"
    return File(whole, size, "", tuple(partition.items()))
