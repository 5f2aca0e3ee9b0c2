"""MQTT: events for a real broker, whatever happens to it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reid.deploy.cameras.camera import News
from reid.deploy.watch import mqtt
from reid.deploy.watch.mqtt import MqttSettings, MqttSink
from reid.errors import ConfigError
from tests.deploy.watch.brokers import Broker, Listener, program_named

services = pytest.mark.services
CERTIFICATES = Path(__file__).parents[1] / "cameras" / "certificates"


def event(state: str, track: int = 1, frame: int = 0, **others: Any) -> dict[str, Any]:
    """A track event."""
    return {
        "event": "track",
        "state": state,
        "camera": "door",
        "time": frame / 10,
        "unix_time": 1_777_638_600 + frame / 10,
        "frame": frame,
        "seconds": frame / 10,
        "track": track,
        "identity": 1,
        "run": "r1",
        "box": [10, 20, 30, 80],
        "score": 0.9,
        "distance": None,
        "candidate": {"person": "anna", "distance": 0.4, "margin": None, "looks": 4},
        "zones": [],
        "crop": None,
        **others,
    }


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as found:
        yield found


@pytest.fixture
def heard(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker)
    yield listener
    listener.close()


def ignore(line: str) -> None:
    """Say nothing."""


def sink_for(broker: Broker, say: Any = ignore, **others: Any) -> MqttSink:
    return MqttSink(MqttSettings("127.0.0.1", broker.port, **others), ["door"], say)


@services
def test_events_and_counts_arrive_in_frigate_s_topics(broker: Broker, heard: Listener) -> None:
    with sink_for(broker) as sink:
        heard.until("reid/available", "online")
        sink.tracks([event("entered"), event("entered", 2)])
        sink.tracks([event("seen", frame=20, zones=["entrance"], score=0.7)])
        sink.tracks([event("left", frame=30)])
        new, other, update, end = heard.events(4)
        assert [one["type"] for one in (new, other, update, end)] == ["new", "new", "update", "end"]
        assert new["after"]["id"] == end["after"]["id"] == "r1-door-1"
        assert new["after"]["box"] == [10, 20, 40, 100]
        assert new["after"]["sub_label"] is None  # a proposal is no name
        assert update["before"] == new["after"]
        assert update["after"]["current_zones"] == ["entrance"]
        assert (end["after"]["start_time"], end["after"]["end_time"]) == (
            1_777_638_600,
            1_777_638_603,
        )
        assert end["after"]["entered_zones"] == ["entrance"]
        assert end["after"]["top_score"] == 0.9
        assert end["after"]["reid"] == event("left", frame=30)
        heard.until("reid/door/person", "1")
    heard.until("reid/door/person", "0")
    heard.until("reid/available", "offline")
    assert sink.lost == 0


@services
def test_a_confirmed_name_is_the_sub_label(broker: Broker, heard: Listener) -> None:
    with sink_for(broker) as sink:
        sink.tracks([event("named", person="ann")])
        (found,) = heard.events(1)
    assert found["after"]["sub_label"] == "ann"


@services
def test_a_lost_camera_is_offline_and_who_comes_later_knows(
    broker: Broker, heard: Listener
) -> None:
    with sink_for(broker) as sink:
        heard.until("reid/door/status/detect", "online")
        sink.news(News("door", "lost", "no more frames"))
        heard.until("reid/door/status/detect", "offline")
        late = subprocess.run(
            ["mosquitto_sub", "-p", str(broker.port), "-t", "reid/+/status/detect", "-C", "1"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert late.stdout == "offline\n"  # retained
        sink.news(News("door", "back", "receiving frames again"))
        heard.until("reid/door/status/detect", "online")


@services
def test_a_broker_that_is_killed_and_started_again_gets_every_event(
    broker: Broker, heard: Listener
) -> None:
    said: list[str] = []
    with sink_for(broker, said.append) as sink:
        sink.tracks([event("seen", frame=0)])
        heard.until("reid/events")
        time.sleep(1.5)  # until the broker has kept the subscription: it does so each second
        broker.kill()
        for frame in range(1, 200):
            sink.tracks([event("seen", frame=frame)])
        waiting = sink.waiting
        broker.start()
        found = heard.events(199)
        sink.tracks([event("left", frame=200)])
        heard.events(1)
    assert [one["after"]["reid"]["frame"] for one in found] == list(range(1, 200))
    assert waiting >= 199
    assert sink.lost == 0
    states = [line.partition(f"{broker.port} ")[2].split(";")[0] for line in said]
    assert states[0] == "connected"
    assert states[1] == "is lost"
    assert states[-1] == "connected"


@services
def test_a_killed_process_leaves_offline_as_its_last_will(broker: Broker, heard: Listener) -> None:
    program = (
        "import sys, time\n"
        "from reid.deploy.watch.mqtt import MqttSettings, MqttSink\n"
        "MqttSink(MqttSettings('127.0.0.1', int(sys.argv[1])), [], print)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(broker.port)]) as child:
        heard.until("reid/available", "online")
        child.kill()
        heard.until("reid/available", "offline")


@services
def test_a_user_with_a_password_is_let_in_and_a_wrong_one_is_said(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    program = program_named("mosquitto_passwd")
    subprocess.run([program, "-c", "-b", passwords, "anna", "s3cret"], check=True)
    passwords.chmod(0o644)
    said: list[str] = []
    lines = ("allow_anonymous false", f"password_file {passwords}")
    with Broker(tmp_path / "broker", *lines) as broker:
        listener = Listener(broker, user="anna", password="s3cret")
        with sink_for(broker, user="anna", password="s3cret") as sink:
            sink.tracks([event("entered")])
            listener.events(1)
        with sink_for(broker, said.append, user="anna", password="wr0ng") as sink:
            deadline = time.monotonic() + 30
            while not said and time.monotonic() < deadline:
                time.sleep(0.02)
        listener.close()
    assert "refused" in said[0]
    assert "wr0ng" not in "".join(said)
    assert "wr0ng" not in repr(MqttSettings("x", password="wr0ng", user="anna"))


@services
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")  # paho's
def test_a_broker_s_certificate_is_checked(tmp_path: Path) -> None:
    certificates = CERTIFICATES
    lines = ["allow_anonymous true", f"cafile {certificates / 'authority.pem'}"]
    lines += [f"certfile {certificates / 'camera.pem'}", f"keyfile {certificates / 'camera.key'}"]
    said: list[str] = []
    with Broker(tmp_path / "broker", *lines) as broker:
        authority = certificates / "authority.pem"
        listener = Listener(broker, ca=str(authority))
        with sink_for(broker, tls=True, ca=authority) as sink:
            sink.tracks([event("entered")])
            listener.events(1)
        with sink_for(broker, said.append, tls=True) as stranger:
            deadline = time.monotonic() + 30
            while not said and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not stranger.waiting
        listener.close()
    assert "certificate" in said[0]


def test_a_broker_that_is_not_there_stops_nothing_and_what_is_lost_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt, "CLOSING_S", 0.1)
    said: list[str] = []
    settings = MqttSettings("127.0.0.1", 1, queue=10)  # where nothing listens
    with MqttSink(settings, ["door"], said.append) as sink:
        for frame in range(15):
            sink.tracks([event("seen", frame=frame)])
        assert sink.waiting == 10
        assert sink.lost == 5
    assert sink.lost == 15
    assert sum("10 events wait" in line for line in said) == 1
    assert "10 events were not delivered" in said[-1]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"host": ""}, "host"),
        ({"prefix": "a/#"}, "a/#"),
        ({"password": "secret"}, "user"),
        ({"ca": Path("ca.pem")}, "TLS"),
        ({"ca": Path("ca.pem"), "tls": True}, "ca.pem"),
        ({"queue": 0}, "queue"),
        ({"port": 70_000}, "port"),
    ],
)
def test_settings_that_cannot_be_used_are_named(wrong: dict[str, Any], named: str) -> None:
    settings = MqttSettings(**{"host": "127.0.0.1", **wrong})
    with pytest.raises(ConfigError, match=named) as caught:
        MqttSink(settings, [], ignore)
    assert "secret" not in str(caught.value)
