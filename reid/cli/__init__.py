"""The door: ``reid NAME ...`` loads NAME's command on call and answers errors in one line.

Exit codes: 0 done, 1 a ReidError or the operating system's error, 2 wrong usage, 3 parity
failed, 130 interrupted. Results go to stdout, everything else to stderr. ``REID_DEBUG=1`` shows
an error's traceback too.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from reid import __version__
from reid.errors import MissingPackageError, ReidError, nearest

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

BROKEN_PIPE = 1
"""Exit code where the reader of stdout has gone (``reid ... | head``), as Python's."""


class Entry(NamedTuple):
    """Where a command is (``module:attribute``) and what it does, in one line."""

    target: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "quickstart": Entry(
        "reid.cli.quickstart:quickstart",
        "Draw people, train, export, prove and measure in minutes.",
    ),
    "data": Entry("reid.cli.data:data", "Draw a synthetic dataset, or check a real one."),
    "recipes": Entry("reid.cli.train:recipes", "List the recipes, or show one's settings."),
    "train": Entry("reid.cli.train:train", "Train a recipe on a dataset into a run folder."),
    "eval": Entry(
        "reid.cli.evaluate:evaluate", "Rank a gallery with any model file: CMC, mAP, mINP."
    ),
    "describe": Entry(
        "reid.cli.describe:describe", "Describe a gallery once, into a file for later queries."
    ),
    "export": Entry("reid.export.commands:export", "Turn a checkpoint into ONNX and engines."),
    "import-caffe": Entry("reid.export.commands:import_caffe", "Make a run from Caffe weights."),
    "parity": Entry("reid.export.commands:parity", "Prove that two model files answer alike."),
    "index": Entry("reid.deploy.commands.index:index", "Describe images into a gallery."),
    "search": Entry("reid.deploy.commands.search:search", "Find a person's images in a gallery."),
    "gallery": Entry("reid.deploy.commands.gallery:gallery", "Check a gallery's files for damage."),
    "serve": Entry("reid.deploy.commands.serve:serve", "Search a gallery on a web page."),
    "watch": Entry("reid.deploy.commands.watch:watch", "Follow people through cameras."),
    "bench": Entry(
        "reid.deploy.commands.bench:bench", "Measure a model file's latency and crops/s."
    ),
    "bundle": Entry("reid.deploy.commands.bundle:bundle", "Write what DeepStream or Triton needs."),
    "doctor": Entry("reid.deploy.commands.doctor:doctor", "Say what is wrong with a model here."),
}

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "cv2": ("cpu", "gpu", "edge"),
    "faiss": ("cpu", "gpu", "edge"),
    "google": ("cpu", "gpu"),
    "h5py": ("cpu", "gpu"),
    "matplotlib": ("cpu", "gpu"),
    "onnx": ("cpu", "gpu"),
    "onnxruntime": ("cpu", "gpu", "edge"),
    "onnxscript": ("cpu", "gpu"),
    "pycuda": ("gpu",),
    "pymilvus": ("milvus",),
    "safetensors": ("cpu", "gpu", "edge"),
    "scipy": ("cpu", "gpu", "edge"),
    "tensorboardX": ("cpu", "gpu"),
    "tensorrt": ("gpu",),
    "torch": ("cpu", "gpu"),
}
"""Importable name -> the extras that install it."""

DISTRIBUTIONS: Mapping[str, str] = {"faiss": "faiss-cpu", "google": "protobuf"}
"""Importable name -> the package's, where no one would guess it."""


class LazyGroup(click.Group):
    """A group whose commands are import strings: helping lists them, calling loads one."""

    def __init__(self, entries: Mapping[str, Entry], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order: that of the work."""
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
        """The table as it stands; click's own would import every command for its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown command names the nearest one."""
        name = args[0]
        if name not in self.entries and not name.startswith("-") and not ctx.resilient_parsing:
            close = nearest(name, self.entries) or f"; one of {', '.join(self.entries)}"
            ctx.fail(f"no command {name!r}{close}")
        return super().resolve_command(ctx, args)


def door(entries: Mapping[str, Entry] = COMMANDS) -> LazyGroup:
    """The ``reid`` command over a table of commands."""
    group = LazyGroup(
        entries,
        name="reid",
        help=(
            "Person re-identification: train, evaluate, export, and prove what is shipped.\n\n"
            "Start with `reid quickstart`; `reid NAME --help` explains each command."
        ),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    return click.version_option(__version__, prog_name="reid")(group)


def main(args: Sequence[str] | None = None, entries: Mapping[str, Entry] = COMMANDS) -> int:
    """Run ``reid`` with ``args`` (by default the process's) and return its exit code."""
    try:
        result = _invoke(args, entries)
        sys.stdout.flush()
    except ReidError as error:
        _show_traceback(error)
        _say(f"error: {_one_line(error)}")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _let_go_of_stdout()
        return BROKEN_PIPE
    except OSError as error:  # what no room answers for: stdout on a full disk, a folder taken away
        _show_traceback(error)
        _say(f"error: the operating system refused: {error}; REID_DEBUG=1 shows where")
        _let_go_of_stdout()
        return ReidError.exit_code
    if isinstance(result, Mapping) and result.get("interrupted"):
        return INTERRUPTED
    # ctx.exit(code) arrives here as the code; what else a command returns is for its callers.
    return result if isinstance(result, int) else 0


def _invoke(args: Sequence[str] | None, entries: Mapping[str, Entry]) -> object:
    """Call the command; a missing package of an extra becomes a MissingPackageError."""
    arguments = None if args is None else list(args)
    try:
        return door(entries).main(arguments, prog_name="reid", standalone_mode=False)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extras = EXTRAS[package]
        raise MissingPackageError(
            f"this needs {DISTRIBUTIONS.get(package, package)}, which is not installed; "
            f"it comes with {' or '.join(f'[{extra}]' for extra in extras)}: "
            f"pip install 'reid-toolkit[{extras[0]}]', "
            f"or in a clone pip install -e '.[{extras[0]}]'"
        ) from error


def _show_traceback(error: Exception) -> None:
    """Where ``REID_DEBUG`` asks for it."""
    if os.environ.get("REID_DEBUG", "0") not in ("", "0"):
        sys.excepthook(type(error), error, error.__traceback__)


def _let_go_of_stdout() -> None:
    """What cannot be written would raise once more as the interpreter closes stdout."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: ReidError) -> str:
    """The message on one line, however many it was written on."""
    lines = (line.strip() for line in str(error).splitlines())
    return "; ".join(line for line in lines if line)


def _say(message: str) -> None:
    """One line on stderr."""
    click.echo(f"reid: {message}", err=True)
