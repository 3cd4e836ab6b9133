"""Hand the spans of a job to OpenTelemetry, where ``tracing="otel"`` asks for it.

A process that has set up a tracer provider of its own keeps it. Elsewhere, as in the coordinator
of a job on Ray, one is made of what the environment says, as OpenTelemetry's own tools do:
``OTEL_TRACES_EXPORTER`` names an installed exporter (``otlp`` by default), which reads the rest.

Source: OpenTelemetry specification, "Environment Variable Specification".
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from raystream.config import Limits
from raystream.errors import ConfigError
from raystream.runtime.spans import Span

_LOG = logging.getLogger("raystream")

_FLUSH_S = 2.0
"""A job's end waits no longer than this for whoever collects its spans."""


class Tracing:
    """Gives spans to OpenTelemetry; what it cannot take is no business of the job's."""

    def __init__(self, tracer: Any, flush: Callable[[], Any]) -> None:
        self._tracer = tracer
        self._flush = flush

    def give(self, spans: Iterable[Span]) -> None:
        """Hand over traces that are over."""
        for span in spans:
            self._give(span, None)

    def close(self) -> None:
        """Send what has not been sent, for a moment: whoever collects it may be gone."""
        thread = threading.Thread(target=self._flush, daemon=True)
        thread.start()
        thread.join(_FLUSH_S)

    def _give(self, span: Span, parent: Any) -> None:
        from opentelemetry import trace

        # A trace of its own, whatever is current where the job was started.
        context = trace.set_span_in_context(trace.INVALID_SPAN if parent is None else parent)
        attributes = {f"raystream.{name}": value for name, value in span.attributes.items()}
        begun = self._tracer.start_span(
            f"raystream.{span.name}",
            context,
            attributes=attributes,
            start_time=span.start_us * 1_000,
        )
        for child in span.children:
            self._give(child, begun)
        if span.error:
            begun.set_status(trace.Status(trace.StatusCode.ERROR, span.error))
        begun.end(span.end_us * 1_000)


def tracing_of(limits: Limits) -> Tracing | None:
    """Give who takes the spans of a job; None where nobody has asked for them.

    Raises: ConfigError where the packages that this needs are not there.
    """
    if limits.tracing == "off":
        return None
    _check_packages()
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider: Any = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = _made()
    return Tracing(provider.get_tracer("raystream"), provider.force_flush)


def check_tracing(limits: Limits) -> None:
    """Refuse what another process with the same packages could not do.

    Raises: ConfigError.
    """
    if limits.tracing != "off":
        _check_packages()
        _exporter()


def try_tracing(limits: Limits, job: str) -> Tracing | None:
    """Give who takes the spans of a job that goes on without, where nobody can."""
    try:
        return tracing_of(limits)
    except ConfigError as error:
        _LOG.warning("job %s is not traced: %s", job, error)
        return None


def _check_packages() -> None:
    try:
        importlib.import_module("opentelemetry.sdk.trace")
    except ImportError as error:
        raise ConfigError(
            'tracing="otel" needs the packages opentelemetry-api and opentelemetry-sdk',
            hint="pip install 'raystream[otel]', here and on every node",
        ) from error


def _exporter() -> metadata.EntryPoint | None:
    name = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "none":
        return None
    found = list(metadata.entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise ConfigError(
            f'tracing="otel": OpenTelemetry has no exporter "{name}"',
            hint="pip install opentelemetry-exporter-otlp, or name one that is installed in "
            "OTEL_TRACES_EXPORTER",
        )
    return found[0]


def _made() -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = _exporter()
    provider = TracerProvider(resource=Resource.create(_service()))
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
    return provider


def _service() -> dict[str, str]:
    # What the environment says of the service counts before this.
    said = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in said
    return {} if named else {"service.name": "raystream"}
