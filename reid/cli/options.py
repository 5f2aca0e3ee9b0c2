"""Options that several commands share, spelt once."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
MODEL = click.Path(path_type=Path)
"""A run folder, a checkpoint or an exported file: what it is, its reader says."""

COUNT = click.IntRange(min=0)
BATCH = click.IntRange(min=1)

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the network runs.",
)
threads = click.option(
    "--threads",
    type=COUNT,
    default=0,
    show_default=True,
    help="CPU threads of the network; 0 leaves it to the backend.",
)
test_identities = click.option(
    "--test-identities",
    type=COUNT,
    help="CUHK01: 100 or 486; own images: any (else: as trained).",
)
split_seed = click.option(
    "--split-seed", type=COUNT, help="Seed of a random split (else: as trained)."
)
data_root = click.option(
    "--data-root", type=FOLDER, required=True, help="The folder the dataset lies in."
)
group = click.option(
    "--group",
    default="",
    metavar="NAME",
    help="Let this group of users read the files that are written, which show people; otherwise "
    "they are only for you.",
)
