"""PostgreSQL: tables that are read once, changes that are followed, tables that are written.

>>> from raystream.connectors import postgres
>>> postgres.PostgresSink("host=db dbname=shop", "orders", key="id").describe()
'PostgresSink(host=db dbname=shop, orders, upsert by id)'
"""

from __future__ import annotations

from raystream.connectors.postgres_cdc import PostgresCdcSource
from raystream.connectors.postgres_scan import PostgresSource
from raystream.connectors.postgres_sink import PostgresSink

__all__ = ["PostgresCdcSource", "PostgresSink", "PostgresSource"]
