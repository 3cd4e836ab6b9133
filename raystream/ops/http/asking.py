"""What comes in: text becomes the values that a route describes, or is refused with its place.

Only JSON and URLs are read. Values are checked against the part of JSON Schema that the table of
routes uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from raystream.ops.http.answers import Refused
from raystream.ops.http.schemas import Schema

BODY_BYTES_MAX = 64 * 1024


def read_body(data: bytes, content_type: str) -> dict[str, Any]:
    """Read a JSON object; no bytes at all are an empty one, also without a content type.

    Raises: Refused.
    """
    if content_type != "application/json":
        # A form of another site can send text/plain without being asked about it; never this.
        raise Refused(
            415, "not_json", "a body is JSON", hint="send `Content-Type: application/json`"
        )
    if not data:
        return {}
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "malformed", f"the body is no JSON: {_short(str(error))}") from error
    if not isinstance(value, dict):
        raise Refused(400, "malformed", "the body is a JSON object")
    return value


def read_text(schema: Schema, text: str) -> Any:
    """Read one value of a URL in the type that its schema names.

    Raises: Refused.
    """
    kind = schema.get("type")
    if kind == "integer" and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if kind == "number" and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text):
        return float(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    return text  # where it is to be something else, the check says so


def read_query(known: Mapping[str, Schema], pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read what stands behind the question mark; what is not given takes its default.

    Raises: Refused for names that are not known, and for what is given twice.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        schema = known.get(name)
        if schema is None:
            listed = ", ".join(known) or "none"
            raise Refused(
                400, "unknown_field", f'no field "{_short(name)}" is known', hint=f"known: {listed}"
            )
        if schema.get("type") == "array":
            values.setdefault(name, []).append(read_text(schema["items"], text))
        elif name in values:
            raise Refused(400, "malformed", f'"{name}" is given twice')
        else:
            values[name] = read_text(schema, text)
    return values


def with_defaults(known: Mapping[str, Schema], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every field its value; None where there is neither one nor a default."""
    return {name: given.get(name, schema.get("default")) for name, schema in known.items()}


def check(schema: Schema, value: Any, where: str) -> None:
    """Hold a value against its schema.

    Raises: Refused, naming where it differs.
    """
    match schema["type"]:
        case "string":
            _ask(isinstance(value, str), where, "a text")
            _check_text(schema, value, where)
        case "boolean":
            _ask(isinstance(value, bool), where, "true or false")
        case "integer":
            _ask(isinstance(value, int) and not isinstance(value, bool), where, "a whole number")
            _check_bounds(schema, value, where)
        case "number":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _ask(number, where, "a number")
            _check_bounds(schema, value, where)
        case "array":
            _ask(isinstance(value, list), where, "a list")
            _ask(len(value) <= schema["maxItems"], where, f"of at most {schema['maxItems']}")
            for place, one in enumerate(value):
                check(schema["items"], one, f"{where}[{place}]")
        case _:
            _ask(isinstance(value, dict), where, "an object")
            _check_object(schema, value, where)


def _check_text(schema: Schema, value: str, where: str) -> None:
    most = schema["maxLength"]
    _ask(len(value) <= most, where, f"of at most {most} characters")
    _ask(_is_text(value), where, "a text without control characters")
    pattern = schema.get("pattern")
    if pattern is not None:
        _ask(re.search(pattern, value) is not None, where, schema.get("description", pattern))


def _check_bounds(schema: Schema, value: float, where: str) -> None:
    least, most = schema["minimum"], schema["maximum"]
    _ask(least <= value <= most, where, f"between {least} and {most}")


def _check_object(schema: Schema, value: Mapping[str, Any], where: str) -> None:
    fields: Mapping[str, Schema] = schema.get("properties", {})
    others: Schema | None = schema.get("additionalProperties")
    most = schema.get("maxProperties", len(fields))
    _ask(len(value) <= max(most, len(fields)), where, f"of at most {most} fields")
    for name in schema.get("required", ()):
        _ask(name in value, f"{where}.{name}", "given")
    for name, one in value.items():
        inner = fields.get(name, others)
        if inner is None:
            listed = ", ".join(fields) or "none"
            raise Refused(
                400, "unknown_field", f'no field "{_short(name)}" is known', hint=f"known: {listed}"
            )
        _ask(_is_text(name), where, "named by texts without control characters")
        check(inner, one, f"{where}.{_short(name)}")


def _ask(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise Refused(400, "malformed", f"{where} is to be {what}")


def _is_text(value: str) -> bool:
    """Tell whether it may be a name: no control characters, no halves of characters."""
    return not any(one < " " or one == "\x7f" or "\ud800" <= one <= "\udfff" for one in value)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _short(text: str) -> str:
    """Show what somebody sent: not all of it."""
    shown = text.encode("ascii", "backslashreplace").decode("ascii")
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
