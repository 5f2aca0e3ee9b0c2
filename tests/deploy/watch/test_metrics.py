"""Figures of a run, read as Prometheus reads them."""

from __future__ import annotations

import time
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reid.deploy.cameras.camera import Counts, Frame, News
from reid.deploy.watch.events import TrackedFrame
from reid.deploy.watch.metrics import Figures, MetricsSink, host_and_port
from reid.errors import ConfigError


def read(sink: MetricsSink) -> dict[tuple[str, str], float]:
    """(name, label) -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics") as page:
        text = page.read().decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_page_has_what_the_run_has() -> None:
    counts = {"door": Counts(frames=7, dropped=2, lost=1), "yard": Counts()}
    lost = [0]
    outputs = {"mqtt": Figures(lambda: 3, lambda: lost[0])}
    image = np.zeros((8, 8, 3), np.uint8)
    with MetricsSink("127.0.0.1", 0, ["door", "yard"], lambda: counts, outputs) as sink:
        assert read(sink)["reid_watch_camera_up", "door"] == 0
        frame = Frame("door", 0, 0.0, image, time.monotonic() - 0.3)
        sink.frames([TrackedFrame(frame, [object(), object()])])  # type: ignore[list-item]
        lost[0] = 4
        found = read(sink)
        assert found["reid_watch_frames_total", "door"] == 7
        assert found["reid_watch_dropped_total", "door"] == 2
        assert found["reid_watch_undecodable_total", "door"] == 1
        assert found["reid_watch_people", "door"] == 2
        assert found["reid_watch_camera_up", "door"] == 1
        assert found["reid_watch_camera_up", "yard"] == 0
        assert found["reid_watch_waiting", "mqtt"] == 3
        assert found["reid_watch_lost_total", "mqtt"] == 4
        assert found["reid_watch_latency_seconds_count", ""] == 1
        assert 0.3 <= found["reid_watch_latency_seconds_sum", ""] < 60
        sink.news(News("door", "lost", "no more frames"))
        found = read(sink)
        assert (found["reid_watch_camera_up", "door"], found["reid_watch_people", "door"]) == (0, 0)
        sink.news(News("door", "back", "receiving frames again"))
        assert read(sink)["reid_watch_camera_up", "door"] == 1


def test_a_port_in_use_is_named() -> None:
    with (
        MetricsSink("127.0.0.1", 0, [], dict, {}) as first,
        pytest.raises(ConfigError, match=str(first.port)),
    ):
        MetricsSink("127.0.0.1", first.port, [], dict, {})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::1]:9100", ("::1", 9100)),
    ],
)
def test_a_place_is_a_host_and_a_port_or_a_port_of_this_machine(
    text: str, place: tuple[str, int]
) -> None:
    assert host_and_port(text) == place


@pytest.mark.parametrize("text", ["", "host:", "host:http", "http://host:9100/x:1", ":70000"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        host_and_port(text)
