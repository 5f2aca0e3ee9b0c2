"""``reid serve``."""

from __future__ import annotations

from pathlib import Path

import click

from reid.cli import options
from reid.printing import show

from . import gallery_options


@click.command()
@click.argument("model", type=options.MODEL)
@gallery_options.gallery
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The port; 0 takes any free one.",
)
@click.option(
    "--token",
    envvar="REID_TOKEN",
    default="",
    help="The token that the page asks for; needed on any address but this machine's own. Better "
    "set it as REID_TOKEN: a list of processes shows options.",
)
@gallery_options.index
@gallery_options.shortlist
@gallery_options.max_distance
@options.device_and_precision
@options.threads
def serve(
    model: Path,
    gallery: str,
    host: str,
    port: int,
    token: str,
    index_kind: str,
    shortlist: int,
    max_distance: float | None,
    device: str,
    threads: int,
) -> None:
    """Search a gallery on a web page, until Ctrl-C.

    Drop an image on the page, or draw a box on a frame; filter by camera and time; confirm or
    reject a match, which is kept in the gallery. The gallery was made by `reid index` with the
    same MODEL. There is no encryption: for other machines use a tunnel or a proxy.
    """
    from ..api.model_to_open import ModelToOpen
    from ..api.opening import GalleryToOpen
    from ..api.serving import serve_gallery

    served = GalleryToOpen(gallery, index_kind, shortlist)
    opened_as = ModelToOpen(model, device, threads)
    serve_gallery(opened_as, served, host, port, token, show, max_distance)
