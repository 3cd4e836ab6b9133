"""Where Iceberg tables are found: a catalog, whose passwords are nowhere but in it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pyarrow as pa

from raystream.connectors.lake_types import check_columns, held_columns, held_type
from raystream.contracts.secret import Secret, check_plain, resolve
from raystream.errors import ExternalError, PlanError, RaystreamError
from raystream.flow.normal import normal_schema

_SECRET_KEY = re.compile(
    r"secret|password|token|credential|access-key|account-key|sas", re.IGNORECASE
)
_NO_SECRETS = {"oauth2-server-uri", "token-refresh-enabled", "token-exchange-enabled"}


Properties: TypeAlias = Mapping[str, str | Secret]


class Catalog:
    """A catalog by its name in pyiceberg's own configuration, or by its properties."""

    def __init__(self, given: str | Properties) -> None:
        if importlib.util.find_spec("pyiceberg") is None:
            raise PlanError(
                "Iceberg tables need the package pyiceberg", hint='pip install "raystream[iceberg]"'
            )
        if not isinstance(given, str):
            _check_plain(given)
            given = dict(given)
        self._given = given
        self._loaded: Any = None

    def load(self) -> Any:
        """Open it; secrets are read now."""
        from pyiceberg.catalog import load_catalog

        if self._loaded is None:
            if isinstance(self._given, str):
                self._loaded = load_catalog(self._given)
            else:
                # Catalogs in databases keep the tables of several, by their names.
                self._loaded = load_catalog(**{"name": "default", **self._revealed()})
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        # What is open here has secrets in it, and is of no use elsewhere.
        return {**self.__dict__, "_loaded": None}

    @property
    def secrets(self) -> list[str]:
        """What must not be said."""
        if isinstance(self._given, str):
            return []
        named = [value for value in self._given.values() if isinstance(value, Secret)]
        try:
            return [value.reveal() for value in named]
        except RaystreamError:
            return []  # what is not there cannot have been said

    def translated(self, doing: str, kind: type[ExternalError]) -> AbstractContextManager[None]:
        """Turn what the library raises into an error of ``kind``, without the secrets."""
        return _Translated(self, doing, kind)

    def _revealed(self) -> dict[str, str]:
        assert not isinstance(self._given, str), "a name has no properties"
        return {key: resolve(value) for key, value in self._given.items()}


class _Translated(AbstractContextManager[None]):
    """Turns what is raised inside into one of our errors."""

    def __init__(self, catalog: Catalog, doing: str, kind: type[ExternalError]) -> None:
        self._catalog, self._doing, self._kind = catalog, doing, kind

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, RaystreamError):
            return
        text = str(error).strip()
        said = text.splitlines()[0] if text else type(error).__name__
        held = [value for value in self._catalog.secrets if value and value in text]
        for value in held:
            said = said.replace(value, "…")
        # One that has said a secret is not shown as the cause either.
        raise self._kind(f"cannot {self._doing}: {said}") from (None if held else error)


def columns_of(table: Any) -> pa.Schema:
    """Give the columns of a table, as streams have them."""
    return normal_schema(table.schema().as_arrow())


def columns_for(schema: pa.Schema) -> pa.Schema:
    """Give the columns in which a table holds a stream.

    Raises: SinkError naming a column of a type that Iceberg has not.
    """
    return held_columns(schema, _held, "Iceberg tables")


def check_fits(given: pa.Schema, table: pa.Schema, name: str) -> None:
    """Compare the columns of a stream with those of a table.

    Raises: SinkError naming the first that does not fit.
    """
    check_columns(given, table, _held, name)


def _held(kind: pa.DataType) -> pa.DataType | None:
    small = {pa.int8(), pa.int16(), pa.uint8(), pa.uint16()}
    return pa.int32() if kind in small else held_type(kind, _held)


def _check_plain(given: Properties) -> None:
    for key, value in given.items():
        if isinstance(value, Secret):
            continue
        check_plain(value, f"catalog={{{key!r}: …}}")
        if _SECRET_KEY.search(key) and key not in _NO_SECRETS:
            raise PlanError(
                f"catalog={{{key!r}: …}} has a secret in it, which plans and logs would show",
                hint=f'name it, {{{key!r}: rs.secret("NAME")}}, or name the catalog and configure '
                "it where pyiceberg looks: its environment, or .pyiceberg.yaml",
            )
