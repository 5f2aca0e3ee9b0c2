"""Track events for an MQTT broker, in topics that follow Frigate's.

    PREFIX/available            online or offline, retained; offline is also the last will
    PREFIX/events               {"type": "new|update|end", "before": {...}, "after": {...}}
    PREFIX/CAMERA/person        people in view, retained
    PREFIX/ZONE/person          the same for a zone
    PREFIX/CAMERA/status/detect online or offline, retained

``before`` and ``after`` have Frigate's fields (``id``, ``camera``, ``label``, ``frame_time``,
``box`` as left, top, right, bottom, ``current_zones``, ``start_time``, ``end_time``...), and
``reid``: the track event itself. ``sub_label`` is a name only where a user has confirmed it.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from reid.closing import Closeable
from reid.errors import ConfigError
from reid.progress import Say

from ..cameras.camera import News

QUEUE = 10_000
"""Events that wait for the broker, at most (a choice: some 10 MB)."""

MOST_QUEUED = 50_000
"""The largest queue: MQTT numbers messages in 16 bits."""

CLOSING_S = 5.0
"""How long the end waits for the broker to take what is left."""

LONGEST_DELAY_S = 30
"""Longest delay before another attempt to connect; the first is a second."""

KEEPALIVE_S = 20
"""After one and a half times this without a word the broker says that we are offline."""

_TYPES = {"entered": "new", "left": "end"}
_NO_TOPIC = re.compile(r"[+#/\0$]")
_PASSES = (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN)


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """A broker. With ``tls`` its certificate must be the system's or of the authorities in ``ca``.

    ``queue`` is how many events wait while the broker is away.
    """

    host: str
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    prefix: str = "reid"
    tls: bool = False
    ca: Path | None = None
    queue: int = QUEUE

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.usual_port}"

    @property
    def usual_port(self) -> int:
        """The port, by default 1883, with TLS 8883."""
        return self.port or (8883 if self.tls else 1883)

    def check(self) -> None:
        """Raises ConfigError for what cannot be used."""
        if not self.host:
            raise ConfigError("MQTT: the broker's host is empty; expected a name or an address")
        if not self.prefix or re.search(r"[+#\0]|^\$|^/|/$", self.prefix):
            raise ConfigError(
                f"MQTT: {self.prefix!r} cannot begin a topic; expected one as in reid"
            )
        if self.password and not self.user:
            raise ConfigError("MQTT: there is a password and no user; expected both")
        if not 1 <= self.queue <= MOST_QUEUED:
            raise ConfigError(
                f"MQTT: queue must be from 1 to {MOST_QUEUED:,}, found {self.queue:,}"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"MQTT: port must be from 1 to 65535, found {self.port}")
        if self.ca is not None and not self.tls:
            raise ConfigError("MQTT: a ca is given without TLS; expected mqtts:// (tls = true)")

    def context(self) -> ssl.SSLContext:
        """What checks the broker's certificate. Raises ConfigError."""
        try:
            return ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"MQTT: {self.ca}: expected certificates (PEM): {reason}") from None


class MqttSink(Closeable):
    """Publishes track events, each at least once (QoS 1). A context manager.

    Nothing waits for the broker: while it is away events are queued, up to ``settings.queue``;
    newer ones beyond that are lost, which is counted and said. Raises ConfigError.
    """

    def __init__(self, settings: MqttSettings, cameras: Sequence[str], say: Say) -> None:
        settings.check()
        self.lost = 0
        """Events that the broker did not get."""
        self._settings, self._say = settings, say
        self._tracks: dict[tuple[str, Any], dict[str, Any]] = {}
        self._states = {self._topic(name, "status", "detect"): "online" for name in cameras}
        self._lock = threading.Lock()  # of _states; never held while something is published
        self._pending: set[int] = set()
        self._acknowledged: deque[int] = deque()
        self._waiting = 0
        self._told = ""
        self._full = False
        self._closing = False
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(settings.queue)
        client.reconnect_delay_set(1, LONGEST_DELAY_S)
        client.will_set(self._topic("available"), "offline", qos=1, retain=True)
        if settings.user:
            client.username_pw_set(settings.user, settings.password or None)
        if settings.tls:
            client.tls_set_context(settings.context())
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._client = client
        try:
            client.connect_async(settings.host, settings.usual_port, KEEPALIVE_S)
        except ValueError as error:
            raise ConfigError(f"MQTT: {settings.address}: {error}") from None
        client.loop_start()

    @property
    def waiting(self) -> int:
        """Events that the broker has not acknowledged."""
        return self._waiting

    def tracks(self, events: Sequence[dict[str, Any]]) -> None:
        """Queue the events of one round, and publish the counts that they change."""
        for event in events:
            key = (event["camera"], event["track"])
            before = self._tracks.get(key)
            after = _frigate(event, before)
            kind = _TYPES.get(event["state"], "update" if before else "new")
            if kind == "end":
                self._tracks.pop(key, None)
            else:
                self._tracks[key] = after
            self._publish({"type": kind, "before": before or after, "after": after})
        if events:
            self._publish_states()

    def news(self, news: News) -> None:
        """A camera was lost, came back, or ended."""
        with self._lock:
            self._states[self._topic(news.camera, "status", "detect")] = (
                "online" if news.state == "back" else "offline"
            )
        if news.state in ("ended", "failed"):
            for key in [key for key in self._tracks if key[0] == news.camera]:
                del self._tracks[key]
        self._publish_states()

    def close(self) -> None:
        """Say offline, and wait a little for what the broker has not acknowledged."""
        if self._closing:
            return
        self._closing = True
        deadline = time.monotonic() + CLOSING_S
        while self._count_waiting() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._client.is_connected():
            self._tracks.clear()
            with self._lock:
                self._states |= dict.fromkeys(filter(_is_status, self._states), "offline")
            self._publish_states()
            said = self._client.publish(self._topic("available"), "offline", qos=1, retain=True)
            if said.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                said.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()
        left = self._count_waiting()
        if left:
            self.lost += left
            self._say(f"reid: MQTT {self._settings.address}: {left} events were not delivered")

    def _publish(self, message: dict[str, Any]) -> None:
        info = self._client.publish(self._topic("events"), json.dumps(message), qos=1)
        full = info.rc not in _PASSES
        if full:
            self.lost += 1
        else:
            self._pending.add(info.mid)
        self._count_waiting()
        if full and not self._full:
            self._say(
                f"reid: MQTT {self._settings.address}: {self._settings.queue} events wait, newer "
                "ones are lost until the broker is back"
            )
        self._full = full

    def _count_waiting(self) -> int:
        """Take the acknowledged events off, in the thread that adds them."""
        while self._acknowledged:
            self._pending.discard(self._acknowledged.popleft())
        self._waiting = len(self._pending)
        return self._waiting

    def _publish_states(self) -> None:
        """Counts and states, newest only: what changes while the broker is away is not queued."""
        with self._lock:
            found = self._counts()
            changed = {
                topic: value for topic, value in found.items() if self._states.get(topic) != value
            }
            self._states.update(changed)
            states = dict(self._states)
        if self._client.is_connected():
            for topic in {*changed, *filter(_is_status, states)}:
                self._client.publish(topic, states[topic], qos=0, retain=True)

    def _counts(self) -> dict[str, str]:
        """Topic -> people in view; topics that had some stay, with 0."""
        counts = {topic: 0 for topic in self._states if topic.endswith("/person")}
        for (camera, _), track in self._tracks.items():
            for place in (camera, *track["current_zones"]):
                topic = self._topic(place, "person")
                counts[topic] = counts.get(topic, 0) + 1
        return {topic: str(count) for topic, count in counts.items()}

    def _topic(self, *parts: str) -> str:
        return "/".join([self._settings.prefix, *(_NO_TOPIC.sub("_", part) for part in parts)])

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._tell(f"refused us: {str(reason).lower()}; trying again")
            return
        self._tell("connected")
        client.publish(self._topic("available"), "online", qos=1, retain=True)
        with self._lock:
            states = dict(self._states)
        for topic, value in states.items():
            client.publish(topic, value, qos=0, retain=True)

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        trust = ", or its certificate is not trusted" if self._settings.tls else ""
        self._tell(f"cannot be reached{trust}; trying again, events wait")

    def _on_disconnect(
        self, client: Any, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if not self._closing and self._told == "connected":
            self._tell("is lost; reconnecting, events wait")

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        # Called with paho's own lock held: taking another one here could wait for ever.
        self._acknowledged.append(mid)

    def _tell(self, words: str) -> None:
        if words != self._told:
            self._told = words
            self._say(f"reid: MQTT {self._settings.address} {words}")


def _is_status(topic: str) -> bool:
    return topic.endswith("/status/detect")


def _frigate(event: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A track event in the fields of Frigate's."""
    now_s = event["unix_time"] or time.time()  # of a recording its start may not be known
    zones = list(event.get("zones") or [])
    entered = list(before["entered_zones"]) if before else []
    left, top, width, height = event["box"]
    return {
        "id": f"{event['run']}-{event['camera']}-{event['track']}",
        "camera": event["camera"],
        "label": "person",
        "sub_label": event.get("person"),
        "frame_time": now_s,
        "start_time": before["start_time"] if before else now_s,
        "end_time": now_s if event["state"] == "left" else None,
        "score": event["score"],
        "top_score": max(event["score"], before["top_score"] if before else 0.0),
        "false_positive": False,
        "box": [left, top, left + width, top + height],
        "area": width * height,
        "current_zones": zones,
        "entered_zones": entered + [zone for zone in zones if zone not in entered],
        "reid": dict(event),
    }
