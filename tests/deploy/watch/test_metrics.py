"""The figures of a run, read as Prometheus reads them, and whether the run is well."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reid.deploy.cameras.camera import Counts, Frame, News
from reid.deploy.watch import metrics
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.metrics import MetricsSink
from reid.errors import ConfigError

LOST = News("door", "lost", "no more frames")
BACK = News("door", "back", "receiving frames again")


def status(sink: MetricsSink, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}{path}") as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code


def figures(sink: MetricsSink) -> dict[tuple[str, str], float]:
    """(name, label) -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics") as page:
        text = page.read().decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def seen(num_tracks: int, late_s: float = 0.0) -> list[TrackedFrame]:
    image = np.zeros((8, 8, 3), np.uint8)
    frame = Frame("door", 0, 0.0, image, time.monotonic() - late_s)
    return [TrackedFrame(frame, [object()] * num_tracks)]  # type: ignore[list-item]


def sink(
    counts: dict[str, Counts], waiting: dict[str, float], lost: dict[str, float]
) -> MetricsSink:
    return MetricsSink(
        "127.0.0.1", 0, counts=lambda: counts, queues=lambda: waiting, lost=lambda: lost
    )


def test_the_page_has_what_the_run_has_at_that_moment() -> None:
    counts = {"door": Counts(frames=7, dropped=2, lost=1, breaks=3)}
    waiting, lost = {"mqtt": 3.0}, {"mqtt": 0.0}
    with sink(counts, waiting, lost) as served:
        served.frames(seen(2, late_s=0.3))
        lost["mqtt"], counts["door"].frames = 4.0, 8
        found = figures(served)
        assert found["reid_camera_frames_total", "door"] == 8
        assert found["reid_camera_dropped_total", "door"] == 2
        assert found["reid_camera_lost_total", "door"] == 1
        assert found["reid_camera_breaks_total", "door"] == 3
        assert found["reid_people", "door"] == 2
        assert found["reid_camera_up", "door"] == 1
        assert (found["reid_queue", "mqtt"], found["reid_output_lost_total", "mqtt"]) == (3, 4)
        assert found["reid_rounds_total", ""] == found["reid_latency_seconds_count", ""] == 1
        assert 0.3 <= found["reid_latency_seconds_sum", ""] < 60
        served.news(LOST)
        found = figures(served)
        assert (found["reid_camera_up", "door"], found["reid_people", "door"]) == (0, 0)


def test_a_run_is_ready_while_one_camera_gives_frames() -> None:
    with sink({}, {}, {}) as served:
        assert (status(served, "/healthz"), status(served, "/readyz")) == (200, 503)
        served.frames(seen(0))
        assert status(served, "/readyz") == 200
        served.news(LOST)
        assert status(served, "/readyz") == 503
        served.news(BACK)
        assert status(served, "/readyz") == 200
        assert status(served, "/other") == 404


def test_a_main_loop_that_stands_still_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with sink({}, {}, {}) as served:
        monkeypatch.setattr(metrics, "STILL_S", 0.0)
        assert status(served, "/healthz") == 503
        monkeypatch.setattr(metrics, "STILL_S", 60.0)
        served.alive()
        assert status(served, "/healthz") == 200


def test_a_port_in_use_is_named() -> None:
    with sink({}, {}, {}) as first, pytest.raises(ConfigError, match=str(first.port)):
        MetricsSink("127.0.0.1", first.port, counts=dict, queues=dict, lost=dict)
