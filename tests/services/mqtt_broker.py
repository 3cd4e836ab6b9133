"""An MQTT broker for the tests: RAYSTREAM_TEST_MQTT (host:port), else rumqttd by iotcore.

RAYSTREAM_TEST_MQTT=mosquitto starts one that is installed, and keeps sessions on disk.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
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

    def save(self) -> None:
        """Let one of our own that keeps sessions on disk write down all that it knows."""
        database, looking = self.child.folder / "mosquitto.db", threading.Event()
        before = database.stat().st_ino if database.exists() else None
        self.child.process.send_signal(signal.SIGUSR1)
        for _ in range(1_000):
            if database.exists() and database.stat().st_ino != before:
                return
            looking.wait(0.02)
        raise AssertionError("it writes nothing down")

    def restarting(self, patch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Give what lets it die and come back, and waits until a source has subscribed again.

        One that keeps sessions in memory keeps messages for nobody until they are made anew.
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
    if given == "mosquitto":
        yield from mosquitto()
        return
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


MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 0
persistence true
persistence_location {folder}/
"""


def mosquitto() -> Iterator[Mqtt]:
    """Start a broker that writes sessions to disk."""
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.skip("no broker that keeps sessions on disk: install mosquitto")
    with tempfile.TemporaryDirectory(prefix="rs-mqtt-") as name:
        port, settings = free_port(), Path(name, "settings")
        Path(name).chmod(0o777)  # it does not stay root
        settings.write_text(MOSQUITTO.format(port=port, folder=name))
        child = Child([program, "-c", str(settings)], Path(name), lambda: listens(port))
        child.start()
        yield Mqtt("127.0.0.1", port, child)
        child.kill()


lasting_broker = pytest.fixture(scope="session")(mosquitto)
