"""All servers, each started where a case asks for it."""

from __future__ import annotations

from elasticsearch_server import running_elasticsearch, search  # noqa: F401  fixtures
from mqtt_broker import mqtt_broker  # noqa: F401  a fixture
from nats_server import nats_server, running_nats  # noqa: F401  fixtures
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures
from redis_server import redis_server, running_redis  # noqa: F401  fixtures
from servers_at_hand import at, bucket, s3_endpoint  # noqa: F401  fixtures
