"""Delta tables, in both directions: ``from raystream.connectors import delta``.

Importing this needs no library; a source or sink that is made needs ``deltalake``
(``pip install raystream[delta]``).
"""

from __future__ import annotations

from raystream.connectors.delta_sink import DeltaSink
from raystream.connectors.delta_source import DeltaSource

__all__ = ["DeltaSink", "DeltaSource"]
