"""Counts and times for Prometheus; no label names a person, a query or a user."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "reid_serve_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "reid_serve_request_seconds",
            "Seconds from a request's header to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "reid_serve_refused",
            "Requests and connections refused, by status.",
            ("status",),
            registry=self.registry,
        )
        self.log_failures = Counter(
            "reid_serve_access_log_failures",
            "Lines that the access log could not keep.",
            registry=self.registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; ``route`` is the path's pattern, never the path."""
        known = method if method in ("GET", "POST") else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, status: int) -> None:
        """Count a refusal."""
        self._refused.labels(str(status)).inc()

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Show what ``value`` gives whenever the metrics are read."""
        Gauge(name, words, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
