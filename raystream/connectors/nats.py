"""NATS JetStream: streams that are read from a sequence number on, and subjects that are written.

>>> from raystream.connectors import nats
>>> nats.NatsSink("nats://broker:4222", "orders.{region}").describe()
'NatsSink(orders.{region} at nats://broker:4222)'
"""

from __future__ import annotations

from raystream.connectors.nats_sink import NatsSink
from raystream.connectors.nats_source import NatsSource

__all__ = ["NatsSink", "NatsSource"]
