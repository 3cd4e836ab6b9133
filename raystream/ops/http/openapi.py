"""The description of the API, and the table of its routes for people: both from the routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from raystream.ops.http.routes import PREFIX, ROUTES, Route
from raystream.ops.http.schemas import SCHEMAS, ref

_PLACE = re.compile(r"\{(\w+)\}")

_REFUSALS = {
    "400": "what was sent is malformed",
    "401": "the token is missing or wrong",
    "403": "the host or the origin is wrong, or the server changes nothing",
    "404": "there is nothing of that name",
    "409": "the job is not so that it could",
    "422": "what is asked for cannot be",
    "504": "the job does not answer",
}


def places(route: Route) -> list[str]:
    """Give the names of the places in a route's path."""
    return _PLACE.findall(route.path)


def description(routes: Sequence[Route] = ROUTES) -> dict[str, Any]:
    """Describe the API in OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(f"{PREFIX}{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "raystream", "version": version("raystream")},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": SCHEMAS,
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": route.place(name)}
        for name in places(route)
    ]
    said: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.says,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "what was asked for",
                "content": {route.content: {"schema": ref(route.gives)}},
            },
            **{
                status: {
                    "description": why,
                    "content": {"application/json": {"schema": ref("Error")}},
                }
                for status, why in _REFUSALS.items()
            },
        },
    }
    if route.changes:
        body = {"type": "object", "properties": dict(route.takes), "additionalProperties": False}
        said["requestBody"] = {"content": {"application/json": {"schema": body}}}
    else:
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in route.takes.items()
        ]
    return said


def _operation_id(route: Route) -> str:
    words = [word for word in re.split(r"[^a-z]+", route.path) if word]
    return "_".join([route.method.lower(), *words])


def table(routes: Sequence[Route] = ROUTES) -> str:
    """Give the routes as a table of Markdown."""
    lines = ["| request | fields | |", "|---|---|---|"]
    for route in routes:
        fields = ", ".join(f"`{name}`" for name in route.takes)
        lines.append(f"| `{route.method} {route.path}` | {fields} | {route.says} |")
    return "\n".join(lines)
