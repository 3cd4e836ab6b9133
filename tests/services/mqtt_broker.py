"""An MQTT broker for the tests: RAYSTREAM_TEST_MQTT (host:port), else rumqttd by iotcore."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from children import Child, free_port, listens


@dataclass
class Mqtt:
    """A broker; ``child`` is one of our own, which can be killed and started again."""

    host: str
    port: int
    child: Child | None = None

    def publish(self, topic: str, values, qos: int = 1) -> None:
        """Publish values, and wait until the broker has them."""
        import paho.mqtt.client as paho

        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.connect(self.host, self.port)
        client.loop_start()
        sent = [client.publish(topic, value, qos) for value in values]
        for one in sent:
            one.wait_for_publish(20)
            assert one.is_published()
        client.disconnect()
        client.loop_stop()

    def restarting(self, patch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Give what lets it die and come back, and waits until a source has subscribed again.

        It keeps sessions in memory: until they are made anew it keeps messages for nobody.
        """
        from raystream.connectors.mqtt import _Inbox

        assert self.child is not None, "one that is not ours is not killed"
        child, subscribed, told = self.child, threading.Event(), _Inbox._subscribed

        def tell(inbox, *answer):
            told(inbox, *answer)
            subscribed.set()

        patch.setattr(_Inbox, "_subscribed", tell)

        def restart() -> None:
            child.kill()
            subscribed.clear()
            child.start()
            assert subscribed.wait(60), "it is not subscribed to again"

        return restart


@pytest.fixture(scope="session")
def mqtt_broker() -> Iterator[Mqtt]:
    """One broker for all tests of a session."""
    pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")
    given = os.environ.get("RAYSTREAM_TEST_MQTT")
    if given:
        host, _, port = given.partition(":")
        yield Mqtt(host, int(port or 1883))
        return
    if importlib.util.find_spec("iotcore") is None:
        pytest.skip("no broker: set RAYSTREAM_TEST_MQTT, or pip install iotcore")
    with tempfile.TemporaryDirectory(prefix="rs-mqtt-") as name:
        port = free_port()
        command = [sys.executable, "-m", "iotcore", "--listen", "127.0.0.1", "--port", str(port)]
        child = Child(command, Path(name), lambda: listens(port))
        child.start()
        yield Mqtt("127.0.0.1", port, child)
        child.kill()
