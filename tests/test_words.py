"""Guides, help, docstrings, comments and messages use the glossary's terms, not earlier words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence

import click
import pytest

from reid.cli import door
from tests.guide_blocks import ROOT
from tests.test_guides import guides
from tests.test_house import FLOORS, shipped

GLOSSARY = "reid/README.md"
MAX_TERMS = 40

EARLIER = {
    "sighting": r"\bsightings?\b",
    "whom it shows": r"\bwhom\b",
    "nobody": r"(?<!=)\bnobody\b",
    "right image": r"\b(right|wrong) (images?|match|matches|ones?)\b",
    "right answer": r"\b(right|wrong) answers?\b",
    "a query that cannot be answered": r"\bquer(y|ies) that cannot be answered\b",
    "wardrobe": r"\bwardrobes?\b",
    "right pair": r"\bright pairs?\b",
    "wrong pair": r"\bwrong pairs?\b",
    "divided by rule": r"\bby rule\b",
    "drawn people": r"\bdrawn (people|person|pedestrians?)\b",
    "describe stage": r"\b(describe|compare|pair|embed) stages?\b",
    "test stage": r"\btest stages?\b",
    "mainland": r"\bmainland\b",
    "answers alike": r"\banswers? alike\b",
    "answers as": r"\banswers? as\b",
    "engine of a gallery": r"\bengine of (a|the) gallery\b",
    "cannot be said in Caffe": r"\bcannot be said in\b",
}
"""Word in the glossary's last column -> how it is found."""

THERE_IS_NONE = r"\b(is|are) none\b"
"""Plain in a docstring: "None if there is none"."""

DIALECT = (
    *(r"\b(is|are|was|were) told\b", THERE_IS_NONE, r"\bagain and again\b"),
    *(r"\bas it came\b", r"\bleads? out of\b", r"\bthe whole road\b", r"\bcrops per joule\b"),
)
"""Turns of phrase that no colleague would use."""

SHOWN = (*EARLIER.values(), *DIALECT)
IN_SOURCE = (*(set(SHOWN) - {THERE_IS_NONE}), r"\b(un)?told\b")
"""What is kept out of guides and help, and out of the source."""


def rows() -> list[list[str]]:
    """Term, meaning and earlier words of each entry."""
    _, _, text = (ROOT / GLOSSARY).read_text(encoding="utf-8").partition("\n## Glossary\n")
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def help_texts() -> Iterator[tuple[str, str]]:
    """``reid NAME`` and what its --help prints, of every command."""
    waiting: list[tuple[str, click.Command]] = [("reid", door())]
    while waiting:
        name, command = waiting.pop()
        context = click.Context(command, info_name=name)
        yield name, command.get_help(context)
        if isinstance(command, click.Group):
            for word in command.list_commands(context):
                below = command.get_command(context, word)
                assert below is not None, word
                waiting.append((f"{name} {word}", below))


def texts() -> dict[str, str]:
    """Guide or command -> its text. The glossary itself has to name the earlier words."""
    found = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in guides()
        if name.endswith("README.md")
    }
    found[GLOSSARY] = found[GLOSSARY].partition("\n## Glossary\n")[0]
    return found | dict(help_texts())


TEXTS = texts()


def texts_in(source: str) -> Iterator[str]:
    """Docstrings, messages and comments of a Python file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def earlier_words_in(text: str, patterns: Sequence[str] = SHOWN) -> list[str]:
    """What matches, over the ends of lines too."""
    joined = " ".join(text.split())
    return [
        match[0] for pattern in patterns for match in re.finditer(pattern, joined, re.IGNORECASE)
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_no_earlier_word_stands_in(name: str) -> None:
    assert earlier_words_in(TEXTS[name]) == []


@pytest.mark.parametrize("floor", FLOORS)
def test_no_earlier_word_stands_in_the_source_of(floor: str) -> None:
    found = {
        path: words
        for path, source in shipped().items()
        if path.startswith(f"{floor}/")
        and (words := [w for text in texts_in(source) for w in earlier_words_in(text, IN_SOURCE)])
    }
    assert found == {}


def test_a_docstring_a_message_and_a_comment_are_read() -> None:
    source = '"""Nobody."""\nraise E(f"{x} is\\nuntold")  # to whom\n# None if there is none'
    words = [word for text in texts_in(source) for word in earlier_words_in(text, IN_SOURCE)]
    assert sorted(words) == ["Nobody", "untold", "whom"]


def test_an_earlier_word_is_found_over_the_end_of_a_line() -> None:
    text = "Queries with the right\nanswer, whom we\nare told of."
    assert earlier_words_in(text) == ["whom", "right answer", "are told"]


def test_the_commands_of_a_group_are_read() -> None:
    assert {"reid", "reid eval", "reid data check", "reid bundle triton"} <= TEXTS.keys()


def test_the_glossary_is_short_and_each_term_stands_once_with_its_meaning() -> None:
    entries = rows()
    assert 20 <= len(entries) <= MAX_TERMS
    assert {len(entry) for entry in entries} == {3}
    assert [term for term, meaning, _ in entries if not meaning] == []
    assert len({term for term, _, _ in entries}) == len(entries)


def test_the_words_kept_out_are_those_of_the_glossary() -> None:
    named = {word for _, _, words in rows() for word in words.split(", ") if word}
    assert named == EARLIER.keys()
