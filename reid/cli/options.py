"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from reid.data.readers.division import OwnImages

DEVICES = ("auto", "cpu", "cuda")
"""As in ``reid.types``, which is not imported for ``--help`` because it imports NumPy."""

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
MODEL = click.Path(path_type=Path)
"""A run folder, a checkpoint or an exported file; the code that opens it checks which."""

COUNT = click.IntRange(min=0)
BATCH = click.IntRange(min=1)


class Renamed(click.Option):
    """An option with a former name, which still works; help shows only the first name."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The first name and its help."""
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


Names = tuple[str, ...]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def shortlist(default: int | None, *, multiple: bool = False) -> Decorator:
    """``--shortlist K``, with one meaning in every command."""
    more = "; give it several times to compare the results" if multiple else ""
    return click.option(
        "--shortlist",
        "shortlists" if multiple else "shortlist",
        type=COUNT,
        multiple=multiple,
        default=None if multiple else default,
        show_default=not multiple,
        metavar="K",
        help="For a network that compares pairs: compare a query only with the K gallery images "
        f"nearest by ranking vector; 0 compares with all{more}.",
    )


device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where the network runs.",
)
threads = click.option(
    "--threads",
    type=COUNT,
    default=0,
    show_default=True,
    help="CPU threads of the network; 0: the backend decides.",
)
_test_identities = click.option(
    "--test-identities",
    type=COUNT,
    help="Number of test identities. CUHK01: 100 or 486; own images: any (default: as trained).",
)
_split_seed = click.option(
    "--split-seed", type=COUNT, help="Seed of a random split (default: as trained)."
)
data_root = click.option("--data-root", type=FOLDER, required=True, help="The dataset's folder.")


_junk = click.option(
    "--junk",
    multiple=True,
    metavar="NAME",
    help="Your own images: this person is junk, neither right nor wrong, as Market-1501's -1. "
    "Repeat for several names.",
)
_distractors = click.option(
    "--distractors",
    multiple=True,
    metavar="NAME",
    help="Your own images: this name has no identity and is a false match of every query, as "
    "Market-1501's 0000. Repeat for several names.",
)
_layout = click.option(
    "--layout",
    default="",
    metavar="PATH",
    help="Your own folders: what they mean, such as person, person/camera, camera/person or "
    "'*/person' (default: recognised by their names).",
)
all_test = click.option(
    "--all-test",
    is_flag=True,
    help="Your own images without a split: test with all of them, not with half of the people.",
)


def own_images(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--junk``, ``--distractors`` and ``--layout``, which the command gets as ``own``.

    With ``all_test`` below it, that is part of ``own`` too.
    """

    @functools.wraps(command)
    def with_own(
        *, junk: Names, distractors: Names, layout: str, all_test: bool = False, **others: Any
    ) -> Any:
        from reid.data.readers.division import OwnImages

        return command(own=OwnImages(junk, distractors, layout, all_test), **others)

    return _junk(_distractors(_layout(with_own)))


def asked_split(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the split to test on, which the command gets as ``asked``."""

    @functools.wraps(command)
    def with_split(
        *, test_identities: int | None, split_seed: int | None, own: OwnImages, **others: Any
    ) -> Any:
        from reid.data.readers.division import AskedSplit

        return command(asked=AskedSplit(test_identities, split_seed, own), **others)

    return _test_identities(_split_seed(own_images(all_test(with_split))))


group = click.option(
    "--group",
    default="",
    metavar="NAME",
    help="Let this group of users read the files that are written, which show people; otherwise "
    "they are only for you.",
)
