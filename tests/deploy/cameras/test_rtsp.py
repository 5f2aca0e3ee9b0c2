"""A real RTSP camera on the loopback, pulled out and plugged in again, with a password."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from reid.deploy.cameras import camera as camera_module
from reid.deploy.cameras.camera import Frame
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.readers import Decoded, Frames, read_source
from reid.deploy.cameras.sources import CameraSource, parse_sources
from tests.deploy.cameras.rtsp_server import HEIGHT, WIDTH, RtspCamera

LIMIT_S = 60


@pytest.fixture
def quick_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts every few hundredths of a second."""
    monkeypatch.setattr(camera_module, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(camera_module, "LONGEST_DELAY_S", 0.05)


@pytest.mark.usefixtures("quick_back_off")
def test_a_camera_that_is_pulled_out_comes_back_and_the_other_loses_nothing() -> None:
    other = CameraSource("door", "video", "door", "door", live=False)

    def read(source: CameraSource) -> Frames:
        """The camera as it is; the file goes on for as long as the test looks."""
        if source.name == "yard":
            yield from read_source(source)
        while source.name == "door":
            yield Decoded(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 0.0)

    door: list[int] = []
    yard: list[Frame] = []
    states: list[str] = []
    deadline = time.monotonic() + LIMIT_S
    with RtspCamera("admin", "hunter2") as plugged:
        address = f"yard=rtsp://admin:hunter2@127.0.0.1:{plugged.port}/live"
        with Cameras([*parse_sources([address]), other], read) as cameras:
            for frames in cameras.rounds():
                door += [frame.number for frame in frames if frame.camera == "door"]
                yard += [frame for frame in frames if frame.camera == "yard"]
                states += [news.state for news in cameras.news()]
                if len(yard) == 5 and plugged.plugged and not states:
                    plugged.pull_out()
                if states == ["lost"] and not plugged.plugged:
                    plugged.plug_in()
                if "back" in states or time.monotonic() > deadline:
                    break
    assert states == ["lost", "back"]
    assert len(yard) > 5
    assert yard[0].image.shape == (HEIGHT, WIDTH, 3)
    assert door == list(range(len(door)))
    assert len(door) > 10


def test_a_password_is_never_printed_whatever_the_decoder_says() -> None:
    # A process of its own, as FFmpeg reads its log level once; a user who asked for more is
    # refused it, for FFmpeg names whole addresses.
    code = """
import os
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "56"
os.environ["OPENCV_FFMPEG_DEBUG"] = "1"
os.environ["OPENCV_LOG_LEVEL"] = "DEBUG"
from reid.deploy.cameras.cameras import Cameras
from reid.deploy.cameras.sources import parse_sources
words = ["a=rtsp://admin:hunter2@127.0.0.1:PORT/hunter2?pwd=hunter2",
         "b=http://u:hunter2@127.0.0.1:1/x"]
with Cameras(parse_sources(words)) as cameras:
    lost = []
    for frames in cameras.rounds():
        lost += cameras.news()
        if len(lost) == 2:
            break
print(*lost, sep="\\n")
"""
    with RtspCamera("admin", "another") as camera:
        done = subprocess.run(
            [sys.executable, "-c", code.replace("PORT", str(camera.port))],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "hunter2" not in said
    assert f"a (rtsp://127.0.0.1:{camera.port}) cannot be opened; check the URL" in said
    assert "b (http://127.0.0.1:1) cannot be opened" in said


def test_a_password_with_signs_of_an_address_opens_its_camera() -> None:
    password = "pa#s/s?@:%"
    with RtspCamera("admin", password) as plugged:
        host = f"127.0.0.1:{plugged.port}"
        words = [
            f"a=rtsp://admin:{password.rstrip('%')}%25@{host}/x",
            f"b=rtsp://${{CAM}}@{host}/x",
        ]
        for source in parse_sources(words, environment={"CAM": f"admin:{password}"}):
            frame = next(read_source(source))
            assert isinstance(frame, Decoded)
            assert frame.image.shape == (HEIGHT, WIDTH, 3)
