"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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
test_identities = click.option(
    "--test-identities",
    type=COUNT,
    help="Number of test identities. CUHK01: 100 or 486; own images: any (default: as trained).",
)
split_seed = click.option(
    "--split-seed", type=COUNT, help="Seed of a random split (default: as trained)."
)
data_root = click.option("--data-root", type=FOLDER, required=True, help="The dataset's folder.")


def own_images(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--junk``, ``--distractors`` and ``--layout``: how a user's own images are read."""
    for option in (_layout, _distractors, _junk):
        command = option(command)
    return command


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
group = click.option(
    "--group",
    default="",
    metavar="NAME",
    help="Let this group of users read the files that are written, which show people; otherwise "
    "they are only for you.",
)
