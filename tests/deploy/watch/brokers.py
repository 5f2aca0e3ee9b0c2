"""A real mosquitto on loopback, and a subscriber that keeps what it hears."""

from __future__ import annotations

import json
import queue
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion


def program_named(name: str) -> str:
    """A program of mosquitto; the test is skipped where there is none."""
    found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if found is None:
        pytest.skip("needs an MQTT broker: apt-get install mosquitto")
    return found


class Broker:
    """mosquitto, which can be killed and started again; it keeps subscriptions meanwhile."""

    def __init__(self, folder: Path, *lines: str) -> None:
        program = program_named("mosquitto")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        folder.mkdir()
        self._config = folder / "mosquitto.conf"
        own = [f"listener {self.port} 127.0.0.1", *(lines or ("allow_anonymous true",))]
        own += ["user root", "persistence true", f"persistence_location {folder}/"]
        own += ["autosave_on_changes true", "autosave_interval 1"]
        self._config.write_text("\n".join(own) + "\n")
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._child = subprocess.Popen(
            [self._program, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._child.poll() is None, "mosquitto did not start"
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


class Listener:
    """Hears all topics, over restarts of the broker; (topic, value, retained) in order."""

    def __init__(self, broker: Broker, *, user: str = "", password: str = "", ca: str = "") -> None:
        self._heard: queue.Queue[tuple[str, str, bool]] = queue.Queue()
        self._ready: queue.Queue[bool] = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="tests", clean_session=False)
        client.reconnect_delay_set(1, 1)
        if user:
            client.username_pw_set(user, password)
        if ca:
            client.tls_set_context(ssl.create_default_context(cafile=ca))

        def on_connect(one: Any, *arguments: Any) -> None:
            one.subscribe("#", qos=1)

        def on_message(one: Any, data: Any, message: Any) -> None:
            self._heard.put((message.topic, message.payload.decode(), message.retain))

        client.on_connect = on_connect
        client.on_subscribe = lambda *arguments: self._ready.put(True)
        client.on_message = on_message
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        self._client = client
        self._ready.get(timeout=30)

    def until(self, topic: str, value: str | None = None) -> list[tuple[str, str, bool]]:
        """What is heard up to a topic (with this value), and that."""
        found = []
        while True:
            found.append(self._heard.get(timeout=60))
            if found[-1][0] == topic and value in (None, found[-1][1]):
                return found

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next events, of ``reid/events``, without those that come twice."""
        found: dict[str, dict[str, Any]] = {}
        while len(found) < count:
            topic, value, _ = self._heard.get(timeout=60)
            if topic == "reid/events":
                found[value] = json.loads(value)
        return list(found.values())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
