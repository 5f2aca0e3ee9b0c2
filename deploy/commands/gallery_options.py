"""Options that the gallery's commands share."""

from __future__ import annotations

import click

from reid.cli import options

INDEXES = ("auto", "exact", "binary")
"""As in ``reid.deploy.gallery.search``, which is not imported for ``--help``."""


class _Renamed(click.Option):
    """An option whose later names are old ones: they work and are not shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help, with the first name only."""
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


GALLERY_HELP = "The gallery: a folder, or milvus://[user:password@]host:port/collection."
gallery = click.option("--gallery", required=True, help=GALLERY_HELP)
index = click.option(
    "--index",
    "--engine",
    "index_kind",
    cls=_Renamed,
    type=click.Choice(INDEXES),
    default="auto",
    show_default=True,
    help="How a gallery in a folder is searched: exactly, or by an index of binary codes. auto is "
    "exact up to 50,000 images.",
)
shortlist = options.shortlist(100)
people = click.option("--person", "people", multiple=True, help="Only this person; repeatable.")
cameras = click.option("--camera", "cameras", multiple=True, help="Only this camera; repeatable.")
since = click.option(
    "--since", default="", metavar="TIME", help="Only from this time: 2026-05-01T12:30 (UTC)."
)
max_distance = click.option(
    "--max-distance",
    type=float,
    help="Largest distance of one person, by which matches are marked; below 0 for a network that "
    "scores pairs (minus the score). Default: as `reid threshold` measured it, or else a guess: "
    "0.65 for vectors, -0.7 for pairs.",
)
until = click.option("--until", default="", metavar="TIME", help="Only before this time.")
