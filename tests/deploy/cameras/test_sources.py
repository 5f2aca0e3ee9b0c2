"""What a user may name as a source, and what of it may be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid.deploy.cameras.sources import parse_sources, shows_password
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
        "u:hunter2",
        "rtsp:u:hunter2",
        "rtsp;u;hunter2",
        "u#hunter2",
        "yard=u:hunter2",
        "yard=rtsp=hunter2",
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


@pytest.mark.parametrize(
    ("word", "login", "url"),
    [
        ("rtsp://${CAM1}@cam/ch1", "u:hunter2", "rtsp://u:hunter2@cam/ch1"),
        ("rtsp://u:${CAM1}@cam/ch1", "hunter2", "rtsp://u:hunter2@cam/ch1"),
        ("rtsp://${CAM1}@cam/ch1", "u:a/b?c#d@e:f", "rtsp://u:a%2Fb%3Fc%23d%40e%3Af@cam/ch1"),
        ("rtsp://u:${CAM1}@cam/ch1", "a:b%c%23\n", "rtsp://u:a%3Ab%25c%23@cam/ch1"),
        ("http://cam/x?token=${CAM1}", "a@b", "http://cam/x?token=a@b"),
        ("${CAM1}", "rtsp://u:hunter2@cam/ch1", "rtsp://u:hunter2@cam/ch1"),
    ],
)
def test_a_password_is_taken_from_the_environment_and_escaped(
    word: str, login: str, url: str
) -> None:
    (source,) = parse_sources([f"yard={word}"], environment={"CAM1": login})
    assert (source.url, source.name) == (url, "yard")
    assert SECRET not in repr(source)
    assert not shows_password([word])


def test_a_variable_that_is_not_set_is_named_and_no_value_is_shown() -> None:
    environment = {"CAM2": SECRET, "EMPTY": ""}
    for word in ("rtsp://${CAM1}:${CAM2}@cam", "rtsp://${CAM2}:${CAM1}@cam", "${CAM1}"):
        with pytest.raises(ConfigError, match=r"\$\{CAM1\} of --source is not set") as error:
            parse_sources([word], environment=environment)
        assert SECRET not in str(error.value)
    with pytest.raises(ConfigError, match="or empty"):
        parse_sources(["rtsp://${EMPTY}@cam"], environment=environment)
    with pytest.raises(ConfigError, match="a variable of") as error:  # a password may look like one
        parse_sources(["rtsp://u:a${hunter2}@cam"], environment={})
    assert SECRET not in str(error.value)


def test_sources_come_from_a_file_and_its_lines_are_not_shown(tmp_path: Path) -> None:
    listed = tmp_path / "cameras.txt"
    listed.write_text("# the yard\n\n yard=rtsp://u:hunter2@cam/ch1 \nrtsp://u:${CAM}@gate/x\n")
    sources = parse_sources([f"@{listed}", "0"], environment={"CAM": SECRET})
    assert [source.name for source in sources] == ["yard", "gate", "video0"]
    assert [source.url for source in sources[:2]] == [
        "rtsp://u:hunter2@cam/ch1",
        "rtsp://u:hunter2@gate/x",
    ]
    assert not shows_password([f"@{listed}"])
    listed.write_text("yard=u:hunter2\n")
    with pytest.raises(ConfigError, match="this URL: no such video") as error:
        parse_sources([f"@{listed}"])
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * ((1 << 20) + 1), b"", None, "pipe"])
def test_a_file_that_is_no_list_of_sources_is_one_line(
    tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "cameras.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        os.mkfifo(path)
    with pytest.raises(ConfigError) as error:
        parse_sources([f"@{path}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "shows"),
    [
        ("rtsp://u:hunter2@cam/x", True),
        ("yard=rtsp://u:pa#ss@cam/x", True),
        ("http://cam/x?user=u&pwd=hunter2", True),
        ("rtsp://cam:554/x", False),
        ("rtsp://u:${CAM1}@cam/x", False),
        ("yard.mp4", False),
    ],
)
def test_a_password_in_the_command_line_is_recognised(word: str, shows: bool) -> None:
    assert shows_password([word]) == shows


@pytest.mark.parametrize(
    ("address", "mended"),
    [
        ("rtsp://admin:pa#ss@127.0.0.1:9/s", "rtsp://admin:pa%23ss@127.0.0.1:9/s"),
        ("rtsp://u:a/b?c@d@cam/x", "rtsp://u:a%2Fb%3Fc%40d@cam/x"),
        ("rtsp://cam:554/user@domain", "rtsp://cam:554/user@domain"),
        ("rtsp://[fe80::1]/a@b", "rtsp://[fe80::1]/a@b"),
        ("http://cam/x?token=a@b", "http://cam/x?token=a@b"),
    ],
)
def test_a_password_with_the_address_s_own_signs_is_escaped_for_the_decoder(
    address: str, mended: str
) -> None:
    assert parse_sources([f"yard={address}"])[0].url == mended


def test_an_address_that_cannot_be_parted_says_how_a_password_is_written() -> None:
    with pytest.raises(ConfigError, match=r"needs a name.*# as %23, / as %2F"):
        parse_sources(["rtsp://admin:pa#ss@127.0.0.1:9/s"])


def test_what_exists_is_read_whatever_its_name_could_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0001", "cam=1", "${X}", "@x"):
        (tmp_path / name).mkdir()
    for word in ("0001", "./0001", "cam=1", "./cam=1", "${X}", "@x", f"yard={tmp_path}/cam=1"):
        (source,) = parse_sources([word], environment={})
        assert source.kind == "folder"
        assert Path(source.url).parent == tmp_path
    assert parse_sources(["0002"])[0].kind == "device"


@pytest.mark.parametrize("kind", ["pipe", "zero"])
def test_a_pipe_or_a_device_that_is_no_camera_is_one_line_at_once(
    tmp_path: Path, kind: str
) -> None:
    path = Path("/dev/zero") if kind == "zero" else tmp_path / "a.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    for word in (str(path), f"yard={path}"):
        with pytest.raises(ConfigError, match="is a pipe, socket or device; expected a video file"):
            parse_sources([word])


def test_an_empty_source_is_no_folder() -> None:
    with pytest.raises(ConfigError, match="is a variable of the shell not set"):
        parse_sources([""])
