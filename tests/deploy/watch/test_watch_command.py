"""``reid watch`` from outside: real files in, events and a video out, on an edge box's packages."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.deploy.api.model_to_open import ModelToOpen
from reid.deploy.api.watch_settings import WatchSettings
from reid.deploy.api.watching import watch_cameras
from reid.deploy.gallery import GalleryEntry
from reid.matching import PairMatcher, open_matcher
from reid.model_file.manifest import read_manifest
from tests.deploy.people.conftest import write_person_detector
from tests.deploy.watch.conftest import RED, frame_of, write_model
from tests.heard import Heard
from tests.matching.conftest import CompareRunner, DescribeRunner

ABSENT = ("torch", "torchvision", "onnx", "onnxscript", "matplotlib", "tensorboardX", "h5py")
"""What an edge box has not: importing one of them is an error here."""

HEIGHT, WIDTH = 80, 160
NUM_FRAMES = 12


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path)


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return write_person_detector(tmp_path / "people.onnx", HEIGHT, WIDTH)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "door.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 8, (WIDTH, HEIGHT))
    for _ in range(NUM_FRAMES):
        writer.write(frame_of({RED: 60}))
    writer.release()
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "yard"
    folder.mkdir()
    for number in range(NUM_FRAMES):
        cv2.imwrite(str(folder / f"{number:03}.png"), frame_of({RED: 60}))
    (folder / "005.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def test_two_cameras_are_watched_without_torch(
    model: Path, detector: Path, video: Path, pictures: Path, tmp_path: Path
) -> None:
    blocked = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in ABSENT)
    start = "from reid.cli import main\nsys.exit(main(sys.argv[1:]))"
    sources = ["--source", str(video), "--source", f"yard={pictures}"]
    outputs = ["--events", str(tmp_path / "events.jsonl"), "--video", str(tmp_path / "out.mp4")]
    options = ["--detector", str(detector), "--device", "cpu", "--threads", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", blocked + start, "watch", str(model), *sources, *outputs, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 2 * NUM_FRAMES - 1
    assert report["cameras"]["yard"] == {"frames": 11, "dropped": 0, "lost": 1, "breaks": 0}
    assert (report["tracks"], report["identities"]) == (2, 1)
    assert report["detector"] == "people.onnx"
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    people = [event for event in events if event["event"] == "person"]
    assert {(event["camera"], *event["box"]) for event in people} == {
        ("door", 60, 20, 20, 50),
        ("yard", 60, 20, 20, 50),
    }
    assert people[-1]["identity"] == 1
    assert {event["camera"] for event in events if event["event"] == "source"} == {"door", "yard"}
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)) == (
        NUM_FRAMES,
        2 * WIDTH,
    )
    assert "reid: door: ended: " in done.stderr


def test_watching_from_python_returns_its_counts_and_prints_nothing(
    model: Path, detector: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard, events = Heard(), tmp_path / "events.jsonl"
    settings = WatchSettings((str(video),), detector=detector, events=events, max_rounds=5)
    found = watch_cameras(ModelToOpen(model, "cpu"), settings, heard)
    assert (found.report.frames, found.detector) == (5, "people.onnx")
    assert (found.events_lost, found.video_frames_lost) == (0, 0)
    found.check_complete()
    assert len(events.read_text().splitlines()) == 3
    assert sum(heard.done["watch"]) == 5
    assert capsys.readouterr() == ("", "")


def test_events_on_stdout_end_with_the_summary(
    model: Path, detector: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--detector", str(detector), "--device", "cpu", "--events", "-", "--max-frames", "5"]
    assert main(["watch", str(model), "--source", str(video), *options, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["person"] * 3 + ["summary"]
    assert lines[-1]["frames"] == 5
    assert main(["watch", str(model), "--source", str(video), *options]) == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["event"] for line in shown.out.splitlines()] == ["person"] * 3
    assert "5 frames in" in shown.err


def test_a_file_that_is_no_video_stops_no_other_though_a_video_is_written(
    model: Path, detector: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "yard.mp4").write_bytes(b"no video")
    sources = ["--source", str(tmp_path / "yard.mp4"), "--source", str(video)]
    options = ["--detector", str(detector), "--device", "cpu", "--video", str(tmp_path / "out.mp4")]
    assert main(["watch", str(model), *sources, *options, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["frames"] == NUM_FRAMES
    assert "reid: yard: failed: " in shown.err
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FPS) == 8


def test_a_network_that_compares_pairs_watches_too(
    monkeypatch: pytest.MonkeyPatch,
    detector: Path,
    video: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    describe = DescribeRunner()
    matcher = PairMatcher(describe, CompareRunner())
    monkeypatch.setattr("reid.matching.open_matcher", lambda *arguments: matcher)
    options = ["--detector", str(detector), "--device", "cpu", "--max-distance", "-0.1", "--json"]
    assert main(["watch", "csn.onnx", "--source", str(video), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tracks"], report["identities"]) == (1, 1)
    assert describe.closed == 1


Refused = Callable[[Mapping[str, Path]], list[str]]
REFUSALS: dict[str, tuple[Refused, str]] = {
    "two names": (
        lambda f: ["--source", f"a={f['video']}", "--source", f"a={f['pictures']}"],
        "2 sources have the name 'a'",
    ),
    "no video": (lambda f: ["--source", str(f["model"])], "cannot be opened"),
    "no source": (lambda f: ["--source", "absent.mp4"], "no such video or folder"),
    "no detector": (
        lambda f: ["--source", str(f["video"]), "--detector", str(f["model"])],
        "does not describe a detector",
    ),
    "a secret": (
        lambda f: ["--source", "a=ftp://u:hunter2@cam/x"],
        "unknown scheme ftp://",
    ),
    "no mp4": (
        lambda f: ["--source", str(f["video"]), "--video", "out.mkv"],
        ".mp4 file",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_input_is_one_line(
    what: str,
    model: Path,
    video: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, message = REFUSALS[what]
    files = {"model": model, "video": video, "pictures": pictures}
    assert main(["watch", str(model), *arguments(files), "--device", "cpu", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = [line for line in shown.err.splitlines() if line.startswith("reid: error: ")]
    assert message in line
    assert "hunter2" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["m.onnx", "rtsp://u:hunter2@cam", "--source", "0"],
        ["m.onnx", "--source", "0", "u:hunter2", "--json"],
        ["rtsp://u:hunter2@cam", "--source", "0"],
        ["m.onnx", "--source", "0", "--video", "rtsp://u:hunter2@cam/x"],
        ["m.onnx", "--source", "0", "--events", "http://u:hunter2@cam/x"],
        ["m.onnx", "--source", "0", "--detector", "https://u:hunter2@cam/x"],
        ["m.onnx", "--source", "u:hunter2"],
    ],
)
def test_an_address_in_a_wrong_place_is_not_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", *arguments]) in (1, 2)
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err
    assert shown.err


def test_a_full_disk_under_the_events_does_not_end_the_cameras(
    model: Path, detector: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--detector", str(detector), "--device", "cpu", "--events", "/dev/full", "--json"]
    assert main(["watch", str(model), "--source", str(video), *options]) == 1
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report["frames"] == NUM_FRAMES
    assert report["events_lost"] == NUM_FRAMES - 2 + 1  # from the third hit on, and the end
    assert shown.err.count("the disk is full") == 1
    assert f"reid: error: cannot write /dev/full: {NUM_FRAMES - 1} events were lost" in shown.err


@pytest.mark.parametrize(
    ("option", "target"),
    [
        ("--video", "link.mp4"),
        ("--events", "door.avi"),
        ("--events", "yard/001.png"),
        ("--events", "mean.onnx"),
        ("--events", "people.onnx"),
        ("--events", "mean.onnx.json"),
        ("--events", "cameras.txt"),
    ],
)
def test_an_output_that_is_an_input_is_refused_and_stays_as_it_was(
    option: str,
    target: str,
    model: Path,
    detector: Path,
    video: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "link.mp4").hardlink_to(video)
    (tmp_path / "cameras.txt").write_text(f"door={video}\n")
    sources = ["--source", f"@{tmp_path / 'cameras.txt'}", "--source", str(pictures)]
    before = (tmp_path / target).read_bytes()
    options = ["--detector", str(detector), "--device", "cpu", option, str(tmp_path / target)]
    assert main(["watch", str(model), *sources, *options]) == 1
    assert f"{option} {tmp_path / target} is an input of this command" in capsys.readouterr().err
    assert (tmp_path / target).read_bytes() == before


def test_a_password_in_the_command_line_is_warned_of_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["watch", "absent.onnx", "--source", "a=rtsp://u:hunter2@127.0.0.1:1/x"])
    shown = capsys.readouterr().err
    assert "other users of this machine see the command line: write ${NAME}" in shown
    assert "hunter2" not in shown


def test_ctrl_c_ends_with_all_files_complete(
    model: Path, detector: Path, video: Path, tmp_path: Path, interrupt: Any
) -> None:
    # A camera that is not there keeps the command waiting for it.
    events, out = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    sources = ["--source", str(video), "--source", "x=tcp://127.0.0.1:1"]
    options = ["--detector", str(detector), "--device", "cpu", "--threads", "1", "--json"]
    outputs = ["--events", str(events), "--video", str(out)]
    code, stdout, stderr = interrupt(
        ["watch", str(model), *sources, *options, *outputs], lambda said: "door: ended" in said
    )
    assert code == 130, stderr
    report = json.loads(stdout)
    assert report["interrupted"]
    assert report["frames"] == NUM_FRAMES
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert [line["state"] for line in lines if line.get("camera") == "x"] == ["lost"]
    capture = cv2.VideoCapture(str(out))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) >= 1
    assert capture.read()[0]


def test_a_person_of_the_gallery_is_a_candidate_after_several_looks(
    model: Path, detector: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss", reason="needs faiss-cpu: install [cpu] or [edge]")
    open_gallery = importlib.import_module("reid.deploy.gallery.opening").open_gallery
    matcher = open_matcher(model, "cpu")
    crops = [np.full((50, 20, 3), colour, np.uint8) for colour in (RED, (10, 200, 10))]
    entries = [GalleryEntry(f"{name}.jpg", person=name) for name in ("anna", "bert")]
    folder = str(tmp_path / "gallery")
    with contextlib.closing(open_gallery(folder, matcher, create=True)) as gallery:
        gallery.add(matcher.describe(crops), entries)
    options = ["--detector", str(detector), "--device", "cpu", "--events", "-"]
    known = ["--gallery", folder]
    assert main(["watch", str(model), "--source", str(video), *options, *known]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    people = [event for event in events if event["event"] == "person"]
    assert all("person" not in event for event in people)  # a name is no fact
    names = [event["candidate"] and event["candidate"]["person"] for event in people]
    assert names[0] is None  # one look is not enough
    assert names[-1] == "anna"
    assert set(names) == {None, "anna"}
    assert main(["watch", str(model), "--source", str(video), "--gallery", "absent"]) == 1
    assert "reid: error: " in capsys.readouterr().err


def test_thresholds_from_footage_of_too_few_people_are_refused_with_the_number_needed(
    model: Path, detector: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(model)
    options = ["--detector", str(detector), "--device", "cpu", "--footage"]
    assert main(["threshold", str(model), *options, f"door={video}"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "door shows 0 people" in said  # one person alone is with no one else
    assert "at least 10" in said
    assert main(["threshold", str(model), *options, "absent.mp4"]) == 1
    assert "absent.mp4" in capsys.readouterr().err
    assert read_manifest(model) == before


def test_help_loads_nothing_heavy() -> None:
    code = "from reid.cli import main; main(['watch', '--help']); import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"cv2", "onnxruntime", "torch", "faiss", "numpy"}
