"""HTTP: rows that are posted to somebody, and rows that others post to a job.

>>> from raystream.connectors import http
>>> http.HttpSink("https://shop.example/orders").describe()
'HttpSink(POST https://shop.example/orders)'
"""

from __future__ import annotations

from raystream.connectors.http_sink import HttpSink
from raystream.connectors.webhook import WebhookSource

__all__ = ["HttpSink", "WebhookSource"]
