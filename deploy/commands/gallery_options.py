"""Options that the gallery's commands share, spelt once."""

from __future__ import annotations

import click

from reid.cli import options

ENGINES = ("auto", "exact", "ivf", "hnsw", "binary")
"""As in ``reid.deploy.gallery.search``, which is not imported for ``--help``."""

gallery = click.option(
    "--gallery",
    required=True,
    help="The gallery: a folder, or milvus://[user:password@]host:port/collection.",
)
engine = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    help="How a folder's gallery is searched: exactly, or by an index. auto is exact up to "
    "50,000 images and by binary codes above, unless another index is there.",
)
shortlist = options.shortlist(100)
people = click.option("--person", "people", multiple=True, help="Only this person; repeatable.")
cameras = click.option("--camera", "cameras", multiple=True, help="Only this camera; repeatable.")
since = click.option(
    "--since", default="", metavar="TIME", help="Only from then on: 2026-05-01T12:30 (UTC)."
)
until = click.option("--until", default="", metavar="TIME", help="Only before then.")
