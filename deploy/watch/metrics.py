"""Figures of a running `reid watch` for Prometheus, and whether it is well. No person is named.

``/metrics`` has Prometheus' text; ``/healthz`` is 200 while the main loop goes round, and
``/readyz`` once a camera has given a frame and as long as one is not lost; 503 otherwise.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reid.closing import Closeable
from reid.errors import ConfigError

from ..cameras.camera import Counts, News
from .events import TrackedFrame

STILL_S = 60.0
"""After so long without a round the main loop is not well (a choice)."""

LATENCIES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_REQUEST_S = 10.0

Figures = Callable[[], Mapping[str, float]]
"""Output -> a count."""


class MetricsSink(Closeable):
    """A sink that serves metrics on ``host`` and ``port`` (0: any free one). A context manager.

    ``counts`` gives the cameras' frame counts, ``queues`` what waits in each output, ``lost`` what
    each output has lost. Raises ConfigError for an address that cannot be served on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        counts: Callable[[], Mapping[str, Counts]],
        queues: Figures,
        lost: Figures,
    ) -> None:
        registry = CollectorRegistry()
        registry.register(_Pulled(counts, queues, lost))
        self._people = Gauge("reid_people", "People in view", ["camera"], registry=registry)
        self._up = Gauge("reid_camera_up", "1, or 0 if lost", ["camera"], registry=registry)
        self._latency = Histogram(
            "reid_latency_seconds",
            "From a frame's arrival to its events",
            buckets=LATENCIES_S,
            registry=registry,
        )
        self._rounds = Counter("reid_rounds", "Rounds of frames", registry=registry)
        self._page = make_wsgi_app(registry)
        self._alive_s = time.monotonic()
        self._cameras: dict[str, bool] = {}
        try:
            self._server = make_server(host, port, self._answer, _Server, _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"metrics cannot be served on {host}:{port}: {reason}") from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def alive(self) -> None:
        """The main loop goes round."""
        self._alive_s = time.monotonic()

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        now_s = time.monotonic()
        self._alive_s = now_s
        self._rounds.inc()
        for one in seen:
            self._set_up(one.frame.camera, True)
            self._people.labels(one.frame.camera).set(len(one.tracks))
            self._latency.observe(max(0.0, now_s - one.frame.ready_s))

    def news(self, news: News) -> None:
        """A camera's state."""
        self._set_up(news.camera, news.state == "back")
        if news.state != "back":
            self._people.labels(news.camera).set(0)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _set_up(self, camera: str, up: bool) -> None:
        if self._cameras.get(camera) != up:
            self._cameras[camera] = up
            self._up.labels(camera).set(up)

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            page: Iterable[bytes] = self._page(environ, start)
            return page
        alive = time.monotonic() - self._alive_s < STILL_S
        states = {"/healthz": alive, "/readyz": alive and any([*self._cameras.values()])}
        if path not in states:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"expected /metrics, /healthz or /readyz\n"]
        status = "200 OK" if states[path] else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain")])
        return [b"ok\n" if states[path] else b"not now\n"]


class _Pulled(Collector):
    """Figures that are kept elsewhere, read when they are asked for."""

    def __init__(
        self, counts: Callable[[], Mapping[str, Counts]], queues: Figures, lost: Figures
    ) -> None:
        self._counts, self._queues, self._lost = counts, queues, lost

    def collect(self) -> Iterable[Metric]:
        cameras = self._counts()
        for name, words in (
            ("frames", "Frames that were looked at"),
            ("dropped", "Frames dropped for newer ones"),
            ("lost", "Frames that could not be decoded"),
            ("breaks", "Lost connections"),
        ):
            family = CounterMetricFamily(f"reid_camera_{name}", words, labels=["camera"])
            for camera, counts in cameras.items():
                family.add_metric([camera], getattr(counts, name))
            yield family
        waiting = GaugeMetricFamily("reid_queue", "What waits for an output", labels=["output"])
        for output, count in self._queues().items():
            waiting.add_metric([output], count)
        yield waiting
        lost = CounterMetricFamily("reid_output_lost", "Lost by an output", labels=["output"])
        for output, count in self._lost().items():
            lost.add_metric([output], count)
        yield lost


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_S

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: Prometheus asks every few seconds."""
