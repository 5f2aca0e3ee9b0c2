"""The ``reid`` command: ``reid NAME ...`` loads command NAME when called; errors take one line.

Exit codes: 0 done, 1 a ReidError or the operating system's error, 2 wrong usage, 3 parity
failed, 130 interrupted. Results go to stdout, everything else to stderr. ``REID_DEBUG=1`` shows
an error's traceback too.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TextIO

import click

from reid import __version__
from reid.errors import ReidError, nearest
from reid.packages import named_packages
from reid.progress import PLAIN, say, set_log_style

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

BROKEN_PIPE = 1
"""Exit code where the reader of stdout has closed it (``reid ... | head``), as in Python."""


STDERR = 2
"""File descriptor of stderr."""


class Entry(NamedTuple):
    """Import path of a command (``module:attribute``) and a line that says what it does."""

    target: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "quickstart": Entry(
        "reid.cli.quickstart:quickstart",
        "Draw people, train, export, check parity and measure in minutes.",
    ),
    "data": Entry("reid.cli.data:data", "Draw a synthetic dataset, or check a real one."),
    "recipes": Entry("reid.cli.train:recipes", "List the recipes, or show one's settings."),
    "train": Entry("reid.cli.train:train", "Train a recipe on a dataset into a run folder."),
    "reproduce": Entry(
        "reid.cli.reproduce:reproduce", "Train and evaluate the rows of a paper's table."
    ),
    "eval": Entry(
        "reid.cli.evaluate:evaluate", "Rank a gallery with any model file; print CMC, mAP, mINP."
    ),
    "describe": Entry(
        "reid.cli.describe:describe", "Compute a gallery's features once and save them."
    ),
    "export": Entry(
        "reid.export.commands:export", "Export a checkpoint to ONNX, TensorRT or Caffe."
    ),
    "build": Entry(
        "reid.export.commands:build", "Build an ONNX file's TensorRT engine, without PyTorch."
    ),
    "import-onnx": Entry(
        "reid.export.adopting.commands:import_onnx", "Take in an ONNX file of another program."
    ),
    "import-caffe": Entry(
        "reid.export.commands:import_caffe", "Make a run folder from Caffe weights."
    ),
    "parity": Entry(
        "reid.export.commands:parity", "Check that two model files give the same output."
    ),
    "threshold": Entry(
        "reid.deploy.commands.threshold:threshold", "Measure which distance is the same person."
    ),
    "index": Entry("reid.deploy.commands.index:index", "Add images to a gallery."),
    "search": Entry("reid.deploy.commands.search:search", "Find a person's images in a gallery."),
    "gallery": Entry("reid.deploy.commands.gallery:gallery", "Check a gallery's files for damage."),
    "serve": Entry("reid.deploy.commands.serve:serve", "Search a gallery on a web page."),
    "serve-token": Entry(
        "reid.deploy.commands.serve:serve_token", "Make a user's token for reid serve."
    ),
    "verify": Entry(
        "reid.deploy.commands.verify:verify", "Check a file of evidence from reid serve."
    ),
    "watch": Entry("reid.deploy.commands.watch:watch", "Track people across cameras."),
    "check-config": Entry(
        "reid.deploy.commands.check_config:check_config", "Check a site's file, site.toml."
    ),
    "bench": Entry(
        "reid.deploy.commands.bench:bench", "Measure a model file's latency and crops/s."
    ),
    "bundle": Entry(
        "reid.deploy.commands.bundle:bundle", "Write the files DeepStream or Triton needs."
    ),
    "doctor": Entry(
        "reid.deploy.commands.doctor:doctor", "Check a model file and this machine for problems."
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are import strings: help lists them, a call imports one."""

    def __init__(self, entries: Mapping[str, Entry], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is the order of the work."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or None for an unknown name."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the table's help lines; click's own method would import every command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown command names the nearest one."""
        name = args[0]
        if name not in self.entries and not name.startswith("-") and not ctx.resilient_parsing:
            close = nearest(name, self.entries) or f"; commands: {', '.join(self.entries)}"
            ctx.fail(f"unknown command {name!r}{close}")
        return super().resolve_command(ctx, args)


def door(entries: Mapping[str, Entry] = COMMANDS) -> LazyGroup:
    """The ``reid`` command over a table of commands."""
    group = LazyGroup(
        entries,
        name="reid",
        help=(
            "Person re-identification: train, evaluate, export, and check what was exported.\n\n"
            "Start with `reid quickstart`; `reid NAME --help` explains each command."
        ),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(__version__, prog_name="reid")(group)


def main(args: Sequence[str] | None = None, entries: Mapping[str, Entry] = COMMANDS) -> int:
    """Run ``reid`` with ``args`` (by default the process's) and return its exit code."""
    _occupy_stderr()
    set_log_style(PLAIN)
    try:
        return _exit_code(args, entries)
    finally:
        _let_go_of(sys.stderr)


def _exit_code(args: Sequence[str] | None, entries: Mapping[str, Entry]) -> int:
    """Run a command and print its errors in one line."""
    try:
        result = _invoke(args, entries)
        sys.stdout.flush()
    except ReidError as error:
        _show_traceback(error)
        _say(f"error: {_one_line(error)}")
        return error.exit_code
    except click.ClickException as error:
        _say_usage(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        _forget_interruption()
        return INTERRUPTED
    except BrokenPipeError:
        _let_go_of(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:  # not caught elsewhere: stdout on a full disk, a deleted folder
        _show_traceback(error)
        _say(f"error: operating system error: {error}; REID_DEBUG=1 shows where")
        _let_go_of(sys.stdout)
        return ReidError.exit_code
    if isinstance(result, Mapping) and result.get("interrupted"):
        return INTERRUPTED
    # ctx.exit(code) returns the code here; any other result is for Python callers.
    return result if isinstance(result, int) else 0


def _invoke(args: Sequence[str] | None, entries: Mapping[str, Entry]) -> object:
    """Call the command; a missing package of an extra becomes a MissingPackageError."""
    arguments = None if args is None else list(args)
    for word in arguments or ():  # from Python: a shell cannot give such a word
        if "\0" in word:
            raise click.UsageError(f"expected words without a NUL character, found {word!r}")
    with named_packages():
        return door(entries).main(arguments, prog_name="reid", standalone_mode=False)


def _show_traceback(error: Exception) -> None:
    """Only if ``REID_DEBUG`` is set."""
    if os.environ.get("REID_DEBUG", "0") not in ("", "0"):
        say("".join(traceback.format_exception(error)).rstrip("\n"))


def _occupy_stderr() -> None:
    """Open a closed stderr (``2>&-``): else the next file opened would receive its output."""
    if sys.stderr is None:
        opened = os.open(os.devnull, os.O_WRONLY)
        if opened < STDERR:
            os.dup2(opened, STDERR)


def _forget_interruption() -> None:
    """Make the exit code ours.

    Where Ctrl-C came while ``exec`` ran a text (a dataclass being made, say), CPython remembers
    that and would end ``python -m reid.cli`` by SIGINT all the same; the next text clears it.
    """
    exec("")


def _let_go_of(stream: TextIO | None) -> None:
    """Discard what cannot be written; it would raise again when the interpreter exits."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(error: ReidError) -> str:
    """The message joined into one line."""
    lines = (line.strip() for line in str(error).splitlines())
    return "; ".join(line for line in lines if line)


def _say_usage(error: click.ClickException) -> None:
    """Click's lines on a wrong command line, which repeat parts of it."""
    text = io.StringIO()
    error.show(file=text)
    say(text.getvalue().rstrip("\n"))


def _say(message: str) -> None:
    """One line on stderr."""
    say(f"reid: {message}")
