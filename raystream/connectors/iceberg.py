"""Iceberg tables, in both directions: ``from raystream.connectors import iceberg``.

Importing this needs no library; a source or sink that is made needs ``pyiceberg``
(``pip install raystream[iceberg]``).
"""

from __future__ import annotations

from raystream.connectors.iceberg_sink import IcebergSink
from raystream.connectors.iceberg_source import IcebergSource

__all__ = ["IcebergSink", "IcebergSource"]
