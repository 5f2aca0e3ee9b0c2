"""What a user may name as a source, and what of it may be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid.deploy.cameras.sources import parse_sources
from reid.errors import ConfigError

SECRET = "hunter2"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A file where a video is expected; what is in it is the readers' business."""
    path = tmp_path / "door.mp4"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("word", "name", "kind", "shown"),
    [
        ("rtsp://10.0.0.5:554/ch1", "10.0.0.5:554", "stream", "rtsp://10.0.0.5:554"),
        ("yard=rtsp://u:hunter2@cam.local/ch1", "yard", "stream", "rtsp://cam.local"),
        ("http://cam/mjpg?user=u&pwd=hunter2", "cam", "stream", "http://cam"),
        ("RTSP://u:hunter2@[fe80::1]:554/x", "[fe80::1]:554", "stream", "rtsp://[fe80::1]:554"),
        ("x=tcp://127.0.0.1:5000", "x", "stream", "tcp://127.0.0.1:5000"),
        ("/dev/video2", "video2", "device", "/dev/video2"),
        ("0", "video0", "device", "/dev/video0"),
        ("gate=/dev/video0", "gate", "device", "/dev/video0"),
    ],
)
def test_live_sources_have_a_name_and_show_no_more_than_their_host(
    word: str, name: str, kind: str, shown: str
) -> None:
    (source,) = parse_sources([word])
    assert (source.name, source.kind, source.shown, source.live) == (name, kind, shown, True)
    assert SECRET not in repr(source)


def test_the_decoder_gets_the_whole_address() -> None:
    (source,) = parse_sources(["yard=rtsp://u:hunter2@cam/ch1?a=b"])
    assert source.url == "rtsp://u:hunter2@cam/ch1?a=b"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://u:hunter2/x@cam/ch1",
        "rtsp://u:hunter2?x@cam/ch1",
        "rtsp://u:hunter2#x@cam",
        "rtsp://u:hun/ter@hunter2@cam",
        "http://cam/x?token=hunter2@x",
        "rtsp://u:hunter2",
    ],
)
def test_a_password_that_breaks_the_address_is_shown_no_more_than_another(address: str) -> None:
    (source,) = parse_sources([f"yard={address}"])
    assert SECRET not in repr(source)
    assert source.shown in ("rtsp://...", "http://...")
    with pytest.raises(ConfigError, match="needs a name") as error:
        parse_sources([address])
    assert SECRET not in str(error.value)


def test_files_and_folders_are_read_in_order_unless_asked_to_be_live(video: Path) -> None:
    words = [str(video), f"pictures={video.parent}"]
    sources = parse_sources(words)
    assert [(s.name, s.kind, s.live) for s in sources] == [
        ("door", "video", False),
        ("pictures", "folder", False),
    ]
    assert all(source.live for source in parse_sources(words, live=True))


def test_two_sources_of_one_name_are_refused(video: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 sources have the name 'door'.*NAME=URL"):
        parse_sources([str(video), f"door={video.parent}"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("absent.mp4", "no such video or folder"),
        ("x=ftp://u:hunter2@cam/x", "unknown scheme ftp://"),
        ("file:///etc/passwd", "unknown scheme file://"),
        ("concat:a.mp4|b.mp4", "no such video or folder"),
    ],
)
def test_what_is_no_source_is_one_line_without_a_password(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_sources([word])
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "word",
    [
        "front door=rtsp://admin:hunter2@cam/x",
        "rtsp:/u:hunter2@cam/x",
        "rtsp//cam/hunter2",
        " rtsp://u:hunter2@cam",
        "u:hunter2@cam",
        "cam/mjpg?pwd=hunter2",
    ],
)
def test_a_mistyped_address_is_refused_without_being_shown(word: str) -> None:
    with pytest.raises(ConfigError, match="this URL: no such video") as error:
        parse_sources([word])
    assert SECRET not in str(error.value)


def test_a_name_that_is_no_utf_8_is_refused_before_opencv_dies_of_it(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"yard\xff")
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"UTF-8.*--source NAME=URL"):
        parse_sources([str(folder)])
    assert parse_sources([f"yard={folder}"])[0].name == "yard"


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no source given"):
        parse_sources([])
