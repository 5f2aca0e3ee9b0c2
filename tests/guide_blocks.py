"""What a code block of a guide is, and whether it can be right, without running it.

A block of commands is right if ``reid`` takes each command line, and if the recipe, the settings
and the dataset that it names exist; a benchmark has to define the options that it is given.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from reid.cli import door
from reid.config.toml import recipe_names, resolve_config
from reid.data.readers.datasets import check_name
from reid.errors import ReidError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

SHOWN_ONLY = ("text", "bibtex")
"""Trees of folders, what commands print, and how to cite."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, the comment before it."""

    where: str
    language: str
    text: str
    comment: str = ""

    @property
    def exit_code(self) -> int:
        """What the last command of the block ends with."""
        found = re.fullmatch(r"exit code (\d+)", self.comment)
        return int(found[1]) if found else 0

    @property
    def file(self) -> str:
        """The file that the block is written to; empty for a block that runs, or is shown."""
        found = re.fullmatch(r"file: ([a-z_]+\.py)", self.comment)
        return found[1] if found else ""

    @property
    def reasons(self) -> list[str]:
        """Why it does not run; empty for a block that does."""
        words = self.comment.removeprefix("not run:")
        return [] if words == self.comment else [word.strip() for word in words.split(",")]


def blocks_of(text: str, guide: str) -> list[Block]:
    blocks, lines = [], text.splitlines()
    start = 0
    while start < len(lines):
        fence = re.fullmatch(r"```(\w*)", lines[start])
        if fence is None:
            assert not lines[start].lstrip().startswith("```"), f"{guide}:{start + 1}: a fence"
            start += 1
            continue
        end = lines.index("```", start + 1)
        comment = re.fullmatch(r"<!-- (.*) -->", lines[start - 1]) if start else None
        body = "\n".join(lines[start + 1 : end]) + "\n"
        where = f"{guide}:{start + 1}"
        blocks.append(Block(where, fence[1], body, comment[1] if comment else ""))
        start = end + 1
    return blocks


def parse_reid(arguments: Sequence[str]) -> click.Context:
    """Raises click's UsageError where a command or an option is not there."""
    command: click.Command | None = door()
    context = click.Context(command, info_name="reid")
    words = list(arguments)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        command = command.get_command(context, name)
        if command is None:
            raise click.UsageError(f"no command {name!r}")
    if words[:1] in (["--help"], ["--version"]):
        return context
    return command.make_context(command.name, words)


def check_reid(arguments: Sequence[str]) -> None:
    """The command line, and the recipe, the settings and the dataset that it names."""
    context = parse_reid(arguments)
    values = context.params
    if "data_root" in values and values.get("name"):
        check_name(values["name"])
    if context.command.name == "recipes" and values["name"]:
        assert values["name"] in recipe_names()
    if context.command.name == "train":
        resolve_config(values["recipe"], None, values["overrides"])


def check_script(words: Sequence[str]) -> None:
    """A benchmark's file is there and defines each option that it is given."""
    tree = ast.parse((ROOT / words[0]).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    known = {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    given = {word for word in words[1:] if word.startswith("--")}
    assert given <= known, f"{words[0]} has no {', '.join(sorted(given - known))}"


def check_pip(words: Sequence[str]) -> None:
    """The extras that are installed are the project's."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for word in words:
        asked = re.fullmatch(r"(?:\.|reid-toolkit)\[([\w,]+)\]", word)
        assert asked is None or set(asked[1].split(",")) <= set(extras), word


def commands_in(script: str) -> Iterator[list[str]]:
    """The words of each simple command, without what is assigned before it."""
    joined = re.sub(r"\\\n\s*", " ", script)
    joined = re.sub(r"<<'?(\w+)'?([^\n]*)\n.*?\n\1\n", r"\2\n", joined, flags=re.DOTALL)
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()"):
                yield words
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)


def check_command(words: Sequence[str]) -> None:
    if list(words[:1]) == ["torchrun"]:
        words = ["reid", *words[words.index("reid.cli") + 1 :]]
    words = words[: next((i for i, word in enumerate(words) if set(word) <= set("<>")), None)]
    if list(words[:1]) == ["reid"]:
        check_reid(words[1:])
    elif list(words[:1]) == ["python"] and words[1].endswith(".py"):
        check_script(words[1:])
    elif list(words[:2]) == ["pip", "install"]:
        check_pip(words[2:])


def check_block(block: Block) -> None:
    """Raises for a block that cannot be right, without running it."""
    if block.language == "sh":
        for words in commands_in(block.text):
            try:
                check_command(words)
            except (click.ClickException, ReidError) as error:
                raise AssertionError(f"{block.where}: {shlex.join(words)}: {error}") from error
    elif block.language == "python":
        compile(block.text, block.where, "exec")
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "csv":
        rows = list(csv.reader(io.StringIO(block.text)))
        assert {len(row) for row in rows} == {len(rows[0])}, block.where
    else:
        assert block.language in SHOWN_ONLY, f"{block.where}: what is {block.language!r}?"
