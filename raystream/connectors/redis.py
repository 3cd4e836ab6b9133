"""Redis: keys that follow a stream or a table, and streams that are read and written.

>>> from raystream.connectors import redis
>>> redis.RedisSink("redis://cache:6379", "order:{id}").describe()
'RedisSink(redis://cache:6379, hash order:{id})'
"""

from __future__ import annotations

from raystream.connectors.redis_sink import RedisSink
from raystream.connectors.redis_stream import RedisStreamSource

__all__ = ["RedisSink", "RedisStreamSource"]
