"""A site's file: read whole, checked whole, and run by real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.deploy.api.site import read_site, serving_from, site_problems
from reid.deploy.cameras.masks import blackened, crosses_itself
from reid.deploy.site.site import SiteError
from reid.deploy.watch.recordings import segments
from tests.deploy.watch.conftest import RED, WHITE, frame_of, write_model

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "site.toml"
SECRETS = {
    "DOOR_LOGIN": "anna:d00r/secret",
    "YARD_LOGIN": "anna:yard",
    "RAMP_LOGIN": "anna:ramp",
    "MQTT_PASSWORD": "m0squito",
    "WEBHOOK_SECRET": "h00k",
    "REID_TOKEN": "t0ken-of-sixteen-letters",
}


def site(folder: Path, more: str = "", top: str = "") -> Path:
    """A file with one camera, a folder of images."""
    write_model(folder)
    (folder / "yard").mkdir(exist_ok=True)
    for number in range(40):
        cv2.imwrite(str(folder / "yard" / f"{number}.png"), frame_of({RED: 10 + number}))
    path = folder / "site.toml"
    camera = '[[camera]]\nname = "yard"\nurl = "yard"\n'
    path.write_text(f'model = "mean.onnx"\ndevice = "cpu"\n{top}\n{camera}{more}')
    return path


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models")
    for suffix in ("", ".json"):
        shutil.copy(
            tmp_path / "models" / f"mean.onnx{suffix}",
            tmp_path / "models" / f"msp_cnn.pixels.fp32.onnx{suffix}",
        )
    (tmp_path / "models" / "yolox_nano.onnx").touch()
    return Path(shutil.copy(EXAMPLE, tmp_path))


def test_the_example_has_no_problems_and_says_all(example: Path) -> None:
    assert main(["check-config", str(example)]) == 0
    found = read_site(example)
    watch, outputs = found.watch, found.watch.outputs
    assert len(watch.sources) == 4
    assert watch.keep_days == 7
    assert watch.enrol
    assert watch.keep_frames == example.parent / "frames"
    assert outputs.record is not None
    assert outputs.record.keep_days == outputs.events_keep_days == 7
    assert outputs.mqtt.password == "m0squito"
    assert outputs.webhook.secret == "h00k"
    assert outputs.metrics == ("127.0.0.1", 9100)
    assert len(outputs.masks["door"]) == 1
    assert [*outputs.zones["door"]] == ["entrance"]
    _, gallery, serve = serving_from(example)
    assert gallery.name == str(example.parent / "people.gallery")
    assert serve.token == SECRETS["REID_TOKEN"]
    assert serve.recordings == outputs.record.folder
    shown = repr(found.watch.outputs) + repr(serve)
    assert not any(secret in shown for secret in ("m0squito", "h00k", SECRETS["REID_TOKEN"]))


def test_every_problem_is_one_line_with_its_place_and_no_secret(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAMP_LOGIN")
    text = example.read_text()
    for old, new in (
        ('device = "auto"', "devise = 3"),
        ("looks = 3", "looks = 99"),
        ('name = "hall"', 'name = "yard"'),
        ("[0.3, 0.4]", "[300, 0.4]"),
        ("[0.7, 0.5], [0.7, 1.0], [0.4, 1.0]", "[0.7, 1.0], [0.7, 0.5], [0.4, 1.0]"),
        ("keep_days = 7", ""),
        ('listen = "127.0.0.1:9100"', 'listen = "9100"'),
        ("https://alarm", "ftp://alarm"),
        ("models/yolox_nano.onnx", "models/none.onnx"),
        ("port = 8080", 'port = "m0squito"'),
    ):
        assert old in text
        text = text.replace(old, new)
    example.write_text(text)
    assert main(["check-config", str(example)]) == 2
    lines = capsys.readouterr().err.splitlines()
    for place in (
        r"devise: .*'device'",
        r"enrol\.looks: .*99",
        "camera: .*'yard'",
        r"camera\[1\]\.mask\[1\]: .*300",
        r"camera\[1\]\.zones\.entrance: .*cross",
        r"record\.keep_days",
        r"metrics\.listen: .*9100",
        "webhook: ",
        r"detector: .*none\.onnx",
        r"serve\.port: ",
        r"camera\[4\]\.url: .*RAMP_LOGIN",
        "enrol: .*keep",
    ):
        assert len([line for line in lines if re.search(f"toml: {place}", line)]) == 1, place
    assert len(lines) == 12, lines
    assert "m0squito" not in "".join(lines)
    assert "d00r" not in "".join(lines)


@pytest.mark.parametrize(
    "content", [b"= 3", b"\xff", b"a = " + b"[" * 5000, b"x" * (1 << 21), b""], ids=range(5)
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(content)
    if content:
        with pytest.raises(SiteError, match=r"site\.toml"):
            read_site(path)
    else:
        assert {problem.split(":")[0] for problem in site_problems(path)} == {"model", "camera"}


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("fr0m a file\n")
    mqtt = '[mqtt]\nhost = "h"\nuser = "u"\npassword = {file = "%s"}\n'
    found = read_site(site(tmp_path, mqtt % "password"))
    assert found.watch.outputs.mqtt.password == "fr0m a file"
    (problem,) = site_problems(site(tmp_path, mqtt % "missing"))
    assert problem.startswith("mqtt.password: ")


def test_other_options_beside_a_config_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(site(tmp_path))
    assert main(["watch", "--config", path, "--min-height", "9"]) == 2
    assert "--min-height" in capsys.readouterr().err
    assert main(["watch"]) == 2
    assert main(["serve", "--config", path]) == 1
    assert "[serve]" in capsys.readouterr().err


def test_masked_pixels_reach_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_half = "mask = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]\n"
    more = '[record]\nfolder = "videos"\nkeep_days = 1\n[events]\npeople = "people.jsonl"\n'
    path = site(tmp_path, left_half + more)
    for number in range(20):  # someone in white stands behind the mask, someone in red beside it
        image = frame_of({WHITE: 20, RED: 110})
        cv2.imwrite(str(tmp_path / "yard" / f"{number}.png"), image)
    assert main(["watch", "--config", str(path), "--json"]) == 0
    (video,) = segments(tmp_path / "videos" / "yard")
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1])
    assert len(frames) >= 10
    for frame in frames:
        assert frame[:55, :72].max() < 40  # above the time
    assert max(frame[30:50, 110:130].max() for frame in frames) > 150
    for line in (tmp_path / "people.jsonl").read_text().splitlines():
        event = json.loads(line)
        assert event["event"] == "source" or event["box"][0] >= 70


def test_a_mask_covers_its_edges_and_overlaps() -> None:
    image = np.full((100, 200, 3), 255, np.uint8)
    square = ((0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.1, 0.5))
    other = ((0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7))
    found = blackened(image, (square, other))
    assert found is image
    assert not found[10:51, 20:101].any()
    assert not found[30:71, 60:141].any()
    assert found[5, 5].all()
    frozen = np.full((10, 10, 3), 255, np.uint8)
    frozen.setflags(write=False)
    assert not blackened(frozen, (((0, 0), (1, 0), (1, 1), (0, 1)),)).any()
    assert crosses_itself(((0, 0), (1, 1), (1, 0), (0, 1)))
    assert not crosses_itself(square)


def test_sigterm_ends_watch_with_0_and_all_is_complete(tmp_path: Path) -> None:
    more = '[events]\npeople = "people.jsonl"\n[metrics]\nlisten = "127.0.0.1:0"\n'
    path = site(tmp_path, more, top="live = true")
    command = [sys.executable, "-m", "reid.cli", "watch", "--config", str(path), "--json"]
    with subprocess.Popen(
        [*command, "--log-json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        said = []
        while "metrics on" not in "".join(said):
            said.append(child.stderr.readline())
            assert said[-1], said
        url = re.findall(r"http://\S+/metrics", said[-1])[0]
        deadline = time.monotonic() + 60
        while 'reid_camera_up{camera="yard"} 1.0' not in (page := _page(url)):
            assert time.monotonic() < deadline
        ready = _page(url.replace("metrics", "readyz"))
        child.send_signal(signal.SIGTERM)
        stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 0, stderr
    assert ready == "ok\n"
    assert "reid_latency_seconds_bucket" in page
    found = json.loads(stdout)
    assert found["terminated"]
    assert not found["interrupted"]
    lines = [json.loads(line) for line in "".join([*said, stderr]).splitlines()]
    assert all({"time", "level", "message"} == {*line} for line in lines)


def test_sigterm_while_the_model_is_opened_is_0_too(tmp_path: Path) -> None:
    path = site(tmp_path)
    program = (
        "import os, signal, sys\n"
        "from reid.cli import main\n"
        "from reid.deploy.api import watching\n"
        "def slow(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "watching._detector = slow\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, "watch", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_sigterm_ends_serve_with_0(tmp_path: Path) -> None:
    path = site(tmp_path, "[serve]\nport = 0\n", top='gallery = "people.gallery"')
    model = str(tmp_path / "mean.onnx")
    yard, gallery = str(tmp_path / "yard"), str(tmp_path / "people.gallery")
    assert main(["index", model, yard, "--gallery", gallery, "--device", "cpu"]) == 0
    command = [sys.executable, "-m", "reid.cli", "serve", "--config", str(path)]
    environment = {name: value for name, value in os.environ.items() if name != "REID_TOKEN"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert "http://" in line
        child.send_signal(signal.SIGTERM)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 0, stderr
    assert "Traceback" not in stderr
