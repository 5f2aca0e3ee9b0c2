"""A site with a real broker and a real web server: what the cameras see arrives at both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from reid.cli import main
from reid.deploy.api import watching
from tests.deploy.watch.brokers import Broker, Listener
from tests.deploy.watch.conftest import RED, WHITE, ColourDetector, frame_of
from tests.deploy.watch.test_site import site
from tests.deploy.watch.web_server import web_server

OUTPUTS = """
mask = [[[0, 0], [0.4, 0], [0.4, 1], [0, 1]]]
[camera.zones]
ramp = [[0.6, 0.5], [1, 0.5], [1, 1], [0.6, 1]]
[mqtt]
host = "127.0.0.1"
port = {port}
[webhook]
url = "{url}"
[events]
tracks = "tracks.jsonl"
"""


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "open_detector", lambda *arguments: ColourDetector())


def scene(folder: Path) -> None:
    """Someone in white behind the mask, someone in red who stands and leaves."""
    for number in range(40):
        people = {WHITE: 10, RED: 110} if number < 25 else {WHITE: 10}
        cv2.imwrite(str(folder / "yard" / f"{number}.png"), frame_of(people))


@pytest.mark.services
def test_a_broker_and_a_web_server_hear_of_each_person_and_of_no_one_behind_a_mask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Broker(tmp_path / "broker") as broker, web_server([503]) as server:
        heard = Listener(broker)
        path = site(tmp_path, OUTPUTS.format(port=broker.port, url=server.url))
        scene(tmp_path)
        assert main(["watch", "--config", str(path)]) == 0, capsys.readouterr().err
        first, *later = heard.until("reid/available", "offline")
        heard.close()
        posted: list[dict[str, Any]] = [one for one in server.until(3) if one["event"] == "track"]
    assert first[:2] == ("reid/available", "online")
    published = [json.loads(value) for topic, value, _ in later if topic == "reid/events"]
    assert [one["after"]["reid"] for one in published] == posted
    assert [one["type"] for one in published][:: len(published) - 1] == ["new", "end"]
    assert posted[0]["state"] == "entered"
    assert posted[-1]["state"] == "left"
    assert {one["track"] for one in posted} == {1}
    assert all(one["zones"] == ["ramp"] for one in posted)
    assert all(one["box"][0] >= 100 for one in posted)
    assert (tmp_path / "tracks.jsonl").read_text().count('"track"') >= len(posted)


def test_what_an_output_could_not_deliver_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid.deploy.watch import mqtt, webhook

    monkeypatch.setattr(mqtt, "CLOSING_S", 0.1)
    monkeypatch.setattr(webhook, "CLOSING_S", 0.1)
    path = site(tmp_path, OUTPUTS.format(port=1, url="http://127.0.0.1:1/"))
    scene(tmp_path)
    assert main(["watch", "--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert "for mqtt" in said
    assert "for webhook" in said
