"""The door: what it lists, what it loads, and how each ending looks from outside."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import click
import pytest

from reid import __version__
from reid.cli import BROKEN_PIPE, COMMANDS, INTERRUPTED, Entry, main
from reid.errors import DataError, ParityError

FAKE = "fake_commands"


@click.group()
def boxes() -> None:
    """A group inside the door."""


@boxes.command()
def pack() -> None:
    """Print what it did."""
    click.echo("packed")


@click.command()
@click.option("--json", "as_json", is_flag=True)
def fails(as_json: bool) -> None:
    """Fail over two lines."""
    raise DataError("expected a folder,\n  found none")


@click.command()
def differs() -> None:
    """Fail parity."""
    raise ParityError("cosine 0.98, tolerance 0.999")


@click.command()
def stops() -> None:
    """Be interrupted half-way."""
    click.echo("half")
    raise KeyboardInterrupt


@click.command()
def exits() -> None:
    """Leave with a code of its own."""
    click.get_current_context().exit(7)


@click.command()
def lacks_torch() -> None:
    """Import something of torch where there is none."""
    raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")


@click.command()
def lacks_unknown() -> None:
    """Import a module that no extra has: a mistake of ours."""
    raise ModuleNotFoundError("No module named 'reid.missing'", name="reid.missing")


@click.command()
def pours() -> None:
    """Print more than a pipe holds."""
    for _ in range(100_000):
        click.echo("line")


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    """A table over this file's commands, and one whose module is not there."""
    module = types.ModuleType(FAKE)
    names = ("boxes", "fails", "differs", "stops", "exits", "lacks_torch", "lacks_unknown")
    for name in names:
        setattr(module, name, globals()[name])
    monkeypatch.setitem(sys.modules, FAKE, module)
    table = {name: Entry(f"{FAKE}:{name}", f"What {name} does.") for name in names}
    return {**table, "absent": Entry("no_such_module:absent", "Would not import.")}


Capture = pytest.CaptureFixture[str]


def test_help_lists_every_command_without_importing_any(
    entries: dict[str, Entry], capsys: Capture
) -> None:
    assert main(["--help"], entries) == 0
    shown = capsys.readouterr().out
    assert all(entry.help in shown for entry in entries.values())


def test_the_version_is_the_package_s(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"reid, version {__version__}\n"


def test_a_group_inside_the_door_runs_its_own_commands(
    entries: dict[str, Entry], capsys: Capture
) -> None:
    assert main(["boxes", "pack"], entries) == 0
    assert capsys.readouterr().out == "packed\n"


def test_an_error_is_one_line_on_stderr_and_stdout_stays_clean(
    entries: dict[str, Entry], capsys: Capture
) -> None:
    assert main(["fails", "--json"], entries) == 1
    shown = capsys.readouterr()
    assert shown.err == "reid: error: expected a folder,; found none\n"
    assert shown.out == ""


def test_failed_parity_has_its_own_exit_code(entries: dict[str, Entry], capsys: Capture) -> None:
    assert main(["differs"], entries) == 3
    assert capsys.readouterr().err == "reid: error: cosine 0.98, tolerance 0.999\n"


def test_the_traceback_shows_only_when_asked_for(
    entries: dict[str, Entry], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_DEBUG", "1")
    assert main(["differs"], entries) == 3
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("reid: error: cosine 0.98, tolerance 0.999\n")


def test_wrong_usage_exits_with_two(entries: dict[str, Entry], capsys: Capture) -> None:
    assert main(["fails", "--jsn"], entries) == 2
    assert "--json" in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest(entries: dict[str, Entry], capsys: Capture) -> None:
    assert main(["boxs"], entries) == 2
    assert "'boxs' (did you mean 'boxes'?)" in capsys.readouterr().err


def test_a_command_like_no_other_gets_the_list(entries: dict[str, Entry], capsys: Capture) -> None:
    assert main(["qqq"], entries) == 2
    assert ", ".join(entries) in capsys.readouterr().err


def test_an_interrupt_while_a_text_is_executed_is_130_too(tmp_path: Path) -> None:
    # As in the making of a dataclass; CPython remembers it, and would end by the signal.
    lines = [
        "import sys",
        "from reid import cli",
        "cli._invoke = lambda *_: exec('raise KeyboardInterrupt')",
        "sys.exit(cli.main([]))",
    ]
    (tmp_path / "interrupted.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (INTERRUPTED, "reid: interrupted")


def test_an_interrupt_is_one_line_and_130(entries: dict[str, Entry], capsys: Capture) -> None:
    assert main(["stops"], entries) == INTERRUPTED == 130
    shown = capsys.readouterr()
    assert shown.out == "half\n"
    assert shown.err.strip() == "reid: interrupted"


def test_a_command_may_choose_its_exit_code(entries: dict[str, Entry]) -> None:
    assert main(["exits"], entries) == 7


def test_a_missing_package_names_the_extra_that_has_it(
    entries: dict[str, Entry], capsys: Capture
) -> None:
    assert main(["lacks_torch"], entries) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("reid: error: this needs torch, which is not installed")
    assert "pip install 'reid-toolkit[cpu]'" in shown
    assert shown.count("\n") == 1


def test_a_missing_module_of_our_own_is_not_called_a_missing_package(
    entries: dict[str, Entry],
) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"reid\.missing"):
        main(["lacks_unknown"], entries)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        main(["absent"], entries)


def test_a_reader_that_has_gone_ends_the_command_quietly() -> None:
    code = (
        f"import sys, types; sys.path.insert(0, {str(__file__)!r}.rpartition('/')[0]);"
        "import test_cli; from reid.cli import Entry, main;"
        "sys.exit(main(['pours'], {'pours': Entry('test_cli:pours', '')}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == BROKEN_PIPE


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "reid.cli", "recipes"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("reid: error: ")
    assert "[Errno 28]" in line


def test_the_shell_completes_command_names() -> None:
    asked = {"_REID_COMPLETE": "bash_complete", "COMP_WORDS": "reid ben", "COMP_CWORD": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "reid.cli"], env=asked, capture_output=True, text=True, check=False
    )
    assert run.stdout == "plain,bench\n", run.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_of_the_table_is_there_and_explains_itself(name: str, capsys: Capture) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: reid {name} ")
    assert len(shown.splitlines()) > 4


def test_data_has_its_two_commands(capsys: Capture) -> None:
    assert main(["data", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "synth" in shown
    assert "check" in shown
