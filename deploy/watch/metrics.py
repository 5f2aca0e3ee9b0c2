"""Figures of a run for Prometheus: cameras, frames, latency, people, what waits and what is lost.

    reid_watch_frames_total{camera}      frames that were looked at
    reid_watch_dropped_total{camera}     frames dropped for newer ones
    reid_watch_undecodable_total{camera} frames that could not be decoded
    reid_watch_camera_up{camera}         1 while frames come, 0 while it is lost or over
    reid_watch_people{camera}            people in the newest frame
    reid_watch_latency_seconds           from a frame's arrival until its events are written
    reid_watch_waiting{output}           events or frames that wait for an output
    reid_watch_lost_total{output}        events or frames that an output lost

No figure names a person, and no label holds an address.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from reid.closing import Closeable
from reid.errors import ConfigError

from ..cameras.camera import Counts, News
from .events import TrackedFrame

_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Figures(NamedTuple):
    """What an output says of itself: how much waits, and how much it has lost."""

    waiting: Callable[[], int]
    lost: Callable[[], int]


class MetricsSink(Closeable):
    """A sink that serves the figures on ``http://host:port/metrics``. A context manager.

    ``counts`` are the cameras' own, and ``outputs`` are asked when the page is. Raises ConfigError
    if it cannot listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        cameras: Sequence[str],
        counts: Callable[[], Mapping[str, Counts]],
        outputs: Mapping[str, Figures],
    ) -> None:
        registry = CollectorRegistry()
        self._up = Gauge("reid_watch_camera_up", "1: frames come", ["camera"], registry=registry)
        self._people = Gauge(
            "reid_watch_people", "People in the newest frame", ["camera"], registry=registry
        )
        self._latency = Histogram(
            "reid_watch_latency_seconds",
            "From a frame's arrival until its events are written",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        for name in cameras:
            self._up.labels(name).set(0)
            self._people.labels(name).set(0)
        registry.register(_Asked(counts, outputs))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
            raise ConfigError(
                f"cannot serve metrics on port {port} of {host}: {reason}; choose another"
            ) from None
        except OverflowError:
            raise ConfigError(f"a port is 0 to 65535, found {port}") from None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round; call it as the last sink, for the latency."""
        now_s = time.monotonic()
        for one in seen:
            self._up.labels(one.frame.camera).set(1)
            self._people.labels(one.frame.camera).set(len(one.tracks))
            self._latency.observe(max(0.0, now_s - one.frame.ready_s))

    def news(self, news: News) -> None:
        """A camera was lost, came back, or ended."""
        self._up.labels(news.camera).set(1 if news.state == "back" else 0)
        if news.state != "back":
            self._people.labels(news.camera).set(0)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Asked(Collector):
    """The figures that are asked for when the page is."""

    def __init__(
        self, counts: Callable[[], Mapping[str, Counts]], outputs: Mapping[str, Figures]
    ) -> None:
        self._counts, self._outputs = counts, outputs

    def collect(self) -> Iterable[Any]:
        counts = self._counts()
        for name, words, field in (
            ("frames", "Frames that were looked at", "frames"),
            ("dropped", "Frames dropped for newer ones", "dropped"),
            ("undecodable", "Frames that could not be decoded", "lost"),
        ):
            family = CounterMetricFamily(f"reid_watch_{name}", words, labels=["camera"])
            for camera, count in counts.items():
                family.add_metric([camera], getattr(count, field))
            yield family
        waiting = GaugeMetricFamily("reid_watch_waiting", "What waits", labels=["output"])
        lost = CounterMetricFamily("reid_watch_lost", "What was lost", labels=["output"])
        for name, figures in self._outputs.items():
            waiting.add_metric([name], figures.waiting())
            lost.add_metric([name], figures.lost())
        yield waiting
        yield lost


def host_and_port(text: str) -> tuple[str, int]:
    """``127.0.0.1:9100``, ``[::1]:9100`` or ``9100``, which is this machine alone.

    Raises ConfigError for anything else.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdecimal() or not port.isascii() or int(port) > 65535 or "/" in host:
        raise ConfigError(f"metrics: expected HOST:PORT or PORT, found {text!r}")
    return host, int(port)
