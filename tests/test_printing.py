"""What is printed is safe for a terminal and fits its encoding, whoever chose the names in it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from reid.cli import COMMANDS, door, main
from reid.errors import few_of
from reid.printing import json_text, printable, write_to
from reid.progress import BarReporter, say


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", np.full((16, 8, 3), seed, np.uint8))[1]
    path.write_bytes(encoded.tobytes())


HOSTILE = "a\x1b]0;title\x07\x9b31m\u202egnp\nreid: all is well\r"
SHOWN = r"a\x1b]0;title\x07\x9b31m\u202egnp\nreid: all is well\r"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (HOSTILE, SHOWN),
        ("Zoë 中村　一郎 نیم‌فاصله", "Zoë 中村　一郎 نیم‌فاصله"),
        (os.fsdecode(b"byte\xff"), r"byte\xff"),
        ("line\u2028end", r"line\u2028end"),
    ],
)
def test_a_name_shows_escapes_for_what_a_terminal_acts_on_and_keeps_its_letters(
    name: str, shown: str
) -> None:
    assert printable(name) == shown
    assert few_of([name]) == shown


def test_lines_for_the_user_are_escaped_but_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\x1b[2J\n  two\tthree")
    assert capsys.readouterr().err == "one\\x1b[2J\n  two\tthree\n"


def test_json_stays_json_where_a_character_is_escaped() -> None:
    found = {HOSTILE: "\x7f"}
    assert json.loads(printable(json_text(found), "\n")) == found


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_does_not_have_is_written_as_an_escape(encoding: str) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    write_to(stream, "Zoë 中")
    stream.flush()
    expected = "Zoë 中".encode(encoding, "backslashreplace")
    assert written.getvalue() == expected


def test_a_bar_shows_no_control_characters_of_a_name() -> None:
    class Bar:
        shown: str = ""

        def set_description_str(self, what: str, refresh: bool) -> None:
            self.shown += what

        def set_postfix_str(self, words: str, refresh: bool) -> None:
            self.shown += words

        def write(self, line: str, file: object) -> None:
            self.shown += line

        def reset(self, total: object) -> None:
            pass

        def update(self, count: int) -> None:
            pass

    bar = Bar()
    reporter = BarReporter(bar)
    reporter.begin(HOSTILE, 2)(1, HOSTILE)
    reporter.say(HOSTILE.replace("\n", ""))
    assert bar.shown == SHOWN * 2 + SHOWN.replace(r"\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["data", "check", "folder", "--data-root", f"/nothing/{HOSTILE}"],
        ["data", "check", HOSTILE, "--data-root", "/nothing"],
        ["data", "check", "folder", f"--{HOSTILE}"],
        [HOSTILE],
        ["index", "model.onnx", f"/nothing/{HOSTILE}", "--gallery", "/nothing"],
    ],
)
def test_an_error_line_shows_escapes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) != 0
    shown = capsys.readouterr()
    assert printable(shown.err, "\n") == shown.err
    assert "\nreid: all is well" not in shown.err
    assert r"\x1b]0;title" in shown.err


def test_the_table_of_a_dataset_shows_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE.replace("/", "")
    for camera in ("1", "2"):
        write_image(tmp_path / name / camera / "a.png", seed=int(camera))
        (tmp_path / name / camera / "broken.png").write_bytes(b"no image")
    assert main(["data", "check", "folder", "--data-root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert SHOWN in shown
    assert printable(shown, "\n") == shown


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_command_prints_names_that_its_encoding_does_not_have(
    tmp_path: Path, encoding: str
) -> None:
    for camera in (1, 2):
        write_image(tmp_path / "中村" / str(camera) / "a.png", seed=camera)
    command = [sys.executable, "-m", "reid.cli", "data", "check", "folder", "--data-root", tmp_path]
    settings = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=settings, check=True)
    assert rb"\u4e2d\u6751" in done.stdout


def test_help_of_every_command_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        command = door().get_command(click.Context(door()), name)
        assert command is not None
        assert command.get_help(click.Context(command)).isascii()


def test_words_with_a_nul_character_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "folder", "--data-root", "a\0b"]) == 2
    assert r"a\x00b" in capsys.readouterr().err
