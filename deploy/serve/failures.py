"""Wrong tokens are slowed down, for each client address on its own."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

AT_ONCE = 10
"""Wrong tokens from one address before it has to wait (a choice)."""

EACH_S = 6.0
"""Seconds after which one more is allowed (a choice): ten in a minute."""

_MAX_KEPT = 10_000
_IPV6_PREFIX = 64
"""A customer's network: its addresses count as one."""


class Failures:
    """A bucket of wrong tokens for each address; safe in all threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._accepted: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def wait_s(self, client: str, token: str) -> int:
        """Whole seconds to wait; 0 where the token was accepted from there before."""
        key = _network_of(client)
        with self._lock:
            level, _ = self._level(key)
            if level <= AT_ONCE - 1 or (key, _digest(token)) in self._accepted:
                return 0
            return max(1, math.ceil((level - AT_ONCE + 1) * EACH_S))

    def add(self, client: str) -> None:
        """Count a wrong token."""
        key = _network_of(client)
        with self._lock:
            level, now = self._level(key)
            self._buckets[key] = (level + 1, now)
            self._buckets.move_to_end(key)
            while len(self._buckets) > _MAX_KEPT:
                self._buckets.popitem(last=False)

    def accepted(self, client: str, token: str) -> None:
        """Remember that this token is this client's, so that others' failures do not stop it."""
        key = (_network_of(client), _digest(token))
        with self._lock:
            self._accepted[key] = None
            self._accepted.move_to_end(key)
            while len(self._accepted) > _MAX_KEPT:
                self._accepted.popitem(last=False)

    def _level(self, key: str) -> tuple[float, float]:
        now = self._clock()
        level, since = self._buckets.get(key, (0.0, now))
        return max(0.0, level - (now - since) / EACH_S), now


def _network_of(client: str) -> str:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:100]
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
