"""Kafka, in both directions: ``from raystream.connectors import kafka``.

Importing this needs no client library; what is made here opens one where it runs
(``pip install raystream[kafka]``, and ``[avro]`` or ``[protobuf]`` for these formats).
"""

from __future__ import annotations

from raystream.connectors.avro_records import Avro
from raystream.connectors.kafka_sink import KafkaSink
from raystream.connectors.kafka_source import KafkaSource
from raystream.connectors.protobuf_records import Protobuf
from raystream.connectors.schema_registry import Registry

__all__ = ["Avro", "KafkaSink", "KafkaSource", "Protobuf", "Registry"]
