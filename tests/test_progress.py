"""Progress goes to stderr, seldom into a log, and no work fails because it cannot be written."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from reid.progress import LOG_INTERVAL_S, SILENT, BarReporter, LogReporter, progress_bar, reporting
from tests.heard import Heard

WORK = (
    "from reid.progress import progress_bar, say\n"
    "with progress_bar('working') as bar:\n"
    "    advance = bar.begin('counting', 3)\n"
    "    for number in range(3):\n"
    "        advance(1, 'so far')\n"
    "    bar.say('a line')\n"
    "say('another')\n"
    "print('done')\n"
)


def test_a_log_has_one_line_at_once_and_another_half_a_minute_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    log = LogReporter(clock=lambda: now[0])
    advance = log.begin("describing", 1000)
    for _ in range(100):
        now[0] += LOG_INTERVAL_S / 40
        advance(10, "fast")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "describing: 0 of 1,000"
    assert lines[1] == "describing: 400 of 1,000, 45 s left, fast"
    assert lines[2] == "describing: 800 of 1,000, 15 s left, fast"
    assert len(lines) == 3


def test_steps_of_an_earlier_process_do_not_shorten_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    advance = LogReporter(clock=lambda: now[0]).begin("training", 1000)
    advance(500)  # done before a stop
    for _ in range(100):
        now[0] += 1
        advance(1)
    assert capsys.readouterr().err.splitlines()[-1] == "training: 590 of 1,000, 410 s left"


def test_what_has_no_known_end_is_counted_without_a_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    advance = LogReporter(clock=lambda: now[0]).begin("people", 0)
    now[0] = LOG_INTERVAL_S
    advance(7)
    assert capsys.readouterr().err.splitlines() == ["people: 0", "people: 7"]


class Terminal(io.StringIO):
    """A terminal that keeps what is written on it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_with_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("opening") as bar:
        assert isinstance(bar, BarReporter)
        advance = bar.begin("describing", 4)
        advance(1, "so far")
        bar.say("a line")
        advance(3, "all")
    shown = terminal.getvalue()
    assert "describing: 100%" in shown
    assert "4/4" in shown
    assert "all" in shown
    assert "a line\n" in shown


def test_a_reporter_is_used_as_it_is_and_false_is_silence() -> None:
    heard = Heard()
    with reporting(heard) as reporter:
        assert reporter is heard
    with reporting(False) as reporter:
        assert reporter is SILENT
    with reporting(True) as reporter:
        assert isinstance(reporter, LogReporter)


REDIRECTIONS = ["2>/dev/full", "2>&-", "2>/dev/null"]


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_work_goes_on_where_stderr_cannot_be_written(redirection: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here: run on Linux")
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, WORK],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stdout == "done\n"


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_a_command_does_its_work_where_stderr_cannot_be_written(
    redirection: str, tmp_path: Path
) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here: run on Linux")
    sizes = "--train-identities 2 --test-identities 2 --cameras 2 --images 2"
    command = f'"$0" -m reid.cli data synth "$1" {sizes} {redirection}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(tmp_path / "people")],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "images of 2 people to train on" in done.stdout


@pytest.mark.parametrize("redirection", REDIRECTIONS)
@pytest.mark.parametrize(("arguments", "code"), [("data check no_such --data-root .", 1), ("x", 2)])
def test_an_error_keeps_its_exit_code_where_stderr_cannot_be_written(
    arguments: str, code: int, redirection: str
) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here: run on Linux")
    command = f'"$0" -m reid.cli {arguments} {redirection}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
