"""Addresses of brokers and of pages as a user writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reid.errors import ConfigError

from ..cameras.secrets import expanded
from ..watch.mqtt import MqttSettings
from ..watch.webhook import WebhookSettings


def mqtt_from_url(
    text: str, ca: Path | None = None, environment: Mapping[str, str] = os.environ
) -> MqttSettings:
    """``mqtt[s]://[user:password@]host[:port][/prefix]``; ``${NAME}`` is of the environment.

    Raises ConfigError, which shows no password.

    >>> mqtt_from_url("mqtts://broker:8884/site", environment={}).address
    'broker:8884'
    """
    try:
        parts = urlsplit(expanded(text, environment))
        host, port = parts.hostname, parts.port or 0
    except ValueError:
        host = None
    if not host or parts.scheme not in ("mqtt", "mqtts") or parts.query or parts.fragment:
        raise ConfigError(
            "MQTT: malformed address; expected mqtt://host, or mqtts://user:password@host:port/prefix"
        )
    settings = MqttSettings(
        host,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        parts.path.strip("/") or "reid",
        parts.scheme == "mqtts",
        ca,
    )
    settings.check()
    return settings


def webhook_from_url(
    text: str, secret: str = "", environment: Mapping[str, str] = os.environ
) -> WebhookSettings:
    """A webhook; ``${NAME}`` in the URL and the secret is of the environment.

    Raises ConfigError, which shows neither.
    """
    settings = WebhookSettings(expanded(text, environment), expanded(secret, environment))
    settings.check()
    return settings


def listen_from(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises ConfigError.

    >>> listen_from("127.0.0.1:9100")
    ('127.0.0.1', 9100)
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"expected HOST:PORT, as 127.0.0.1:9100, found {text}")
    return host.strip("[]"), int(port)
