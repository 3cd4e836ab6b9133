"""Fields of a JSON object: each of the type that its reader expects, or a word about it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from raystream.errors import CorruptSnapshot
from raystream.storage.store import is_inside

T = TypeVar("T")

_INT64_MAX = 2**63 - 1


class Fields:
    """The fields of one JSON object of a ``what`` that came from ``url``."""

    def __init__(self, value: object, what: str, url: str, place: str = "") -> None:
        self._what = what
        self._url = url
        self._place = place
        if not isinstance(value, dict):
            raise self._error(place or "the document", "an object")
        self._values: dict[str, object] = value

    def broken(self, name: str, expected: str) -> CorruptSnapshot:
        """Say that a field is not what it should be; the caller raises it."""
        return self._error(self._at(name), expected)

    def has(self, name: str) -> bool:
        """Tell whether there is such a field."""
        return name in self._values

    def is_null(self, name: str) -> bool:
        """Tell whether a field is there, and says that there is nothing."""
        return self._value(name) is None

    def text(self, name: str) -> str:
        """Give a text."""
        return self._a_text(name, self._value(name))

    def path(self, name: str) -> str:
        """Give a path that stays inside of its root."""
        value = self.text(name)
        if not is_inside(value):
            raise self.broken(name, "a path inside of its folder")
        return value

    def flag(self, name: str) -> bool:
        """Give true or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            raise self.broken(name, "true or false")
        return value

    def number(self, name: str) -> int:
        """Give a whole number of 64 bits."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _INT64_MAX:
            raise self.broken(name, "a whole number of 64 bits")
        return value

    def count(self, name: str) -> int:
        """Give a whole number that is not negative."""
        value = self.number(name)
        if value < 0:
            raise self.broken(name, "not negative")
        return value

    def binary(self, name: str) -> bytes:
        """Give bytes, which were written as base64."""
        try:
            return base64.b64decode(self.text(name), validate=True)
        except ValueError as error:
            raise self.broken(name, "base64") from error

    def texts(self, name: str) -> tuple[str, ...]:
        """Give a list of texts."""
        return tuple(self._a_text(name, value) for value in self._list(name))

    def items(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """Give a list of objects, each as ``read`` reads it."""
        return tuple(
            read(Fields(value, self._what, self._url, f"{self._at(name)}[{place}]"))
            for place, value in enumerate(self._list(name))
        )

    def item(self, name: str, read: Callable[[Fields], T]) -> T:
        """Give an object, as ``read`` reads it."""
        return read(Fields(self._value(name), self._what, self._url, self._at(name)))

    def mapping(self, name: str, read: Callable[[Fields, str], T]) -> Mapping[str, T]:
        """Give an object's fields by their names, each as ``read`` reads it."""
        inside = Fields(self._value(name), self._what, self._url, self._at(name))
        return {each: read(inside, each) for each in inside._values}

    def _list(self, name: str) -> list[Any]:
        value = self._value(name)
        if not isinstance(value, list):
            raise self.broken(name, "a list")
        return value

    def _a_text(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.broken(name, "a text")
        return value

    def _value(self, name: str) -> object:
        if name not in self._values:
            raise self.broken(name, "there")
        return self._values[name]

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def _error(self, place: str, expected: str) -> CorruptSnapshot:
        return CorruptSnapshot(
            f"a {self._what} cannot be read: {place} should be {expected}",
            where=self._url,
            hint="something outside of raystream changed or cut it",
        )
