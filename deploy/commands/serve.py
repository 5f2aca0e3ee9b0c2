"""``reid serve`` and ``reid serve-token``."""

from __future__ import annotations

from pathlib import Path

import click

from reid.cli import options
from reid.printing import show

from . import gallery_options

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("model", type=options.MODEL, required=False)
@click.option("--gallery", help=gallery_options.GALLERY_HELP)
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
@click.option("--users", type=_FILE, help="A TOML file of named tokens; see reid serve-token.")
@click.option(
    "--public-url",
    default="",
    metavar="URL",
    help="Where users reach the page behind a reverse proxy, as https://nvr.example/reid/.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="An address or network whose X-Forwarded headers are believed; repeat for several.",
)
@click.option("--tls-cert", type=_FILE, help="A certificate chain, PEM: serve with TLS.")
@click.option("--tls-key", type=_FILE, help="The certificate's key, PEM, unencrypted.")
@click.option("--detector", type=_FILE, help="An .onnx file that finds people in sent frames.")
@click.option("--frames", type=_FOLDER, help="The folder of reid watch --keep-frames.")
@click.option("--recordings", type=_FOLDER, help="The folder of reid watch --record.")
@click.option(
    "--access-log",
    type=_FILE,
    help="Where it is kept who searched for what; by default beside the gallery if there are "
    "tokens.",
)
@click.option(
    "--access-log-days",
    type=click.FloatRange(min=0, min_open=True),
    default=90.0,
    show_default=True,
    help="After how many days lines of the access log are removed.",
)
@click.option(
    "--signing-key",
    type=_FILE,
    help="An Ed25519 key, PEM, that signs evidence: openssl genpkey -algorithm ed25519.",
)
@gallery_options.index
@gallery_options.shortlist
@gallery_options.max_distance
@click.option(
    "--config",
    type=_FILE,
    help="A site's file with a table [serve]; beside it only --log-json is taken.",
)
@options.log_json
@options.device_and_precision
@options.threads
@click.pass_context
def serve(
    context: click.Context,
    model: Path | None,
    gallery: str | None,
    host: str,
    port: int,
    token: str,
    users: Path | None,
    public_url: str,
    trusted_proxies: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    detector: Path | None,
    frames: Path | None,
    recordings: Path | None,
    access_log: Path | None,
    access_log_days: float,
    signing_key: Path | None,
    index_kind: str,
    shortlist: int,
    max_distance: float | None,
    config: Path | None,
    log_json: bool,
    device: str,
    threads: int,
) -> None:
    """Search a gallery on a web page, until Ctrl-C.

    Drop an image on the page, or draw a box on a frame; filter by camera and time; confirm or
    reject a match, which is kept in the gallery. The gallery was made by `reid index` with the
    same MODEL. The HTTP API behind the page is described at api/openapi.json. Other machines need
    a token; use --tls-cert and --tls-key, or a proxy with TLS.
    """
    from ..api.model_to_open import ModelToOpen
    from ..api.opening import GalleryToOpen
    from ..api.serving import ServeSettings, serve_gallery
    from ..api.site import serving_from

    options.use_log_style(log_json, config is not None)
    if config is not None:
        options.refuse_beside_config(context, ("log_json",))
        serve_gallery(*serving_from(config), show)
        return
    if model is None or not gallery:
        raise click.UsageError("expected MODEL and --gallery, or --config with a site's file")
    settings = ServeSettings(
        host=host,
        port=port,
        token=token,
        users=users,
        public_url=public_url,
        trusted_proxies=trusted_proxies,
        tls_cert=tls_cert,
        tls_key=tls_key,
        max_distance=max_distance,
        detector=detector,
        frames=frames,
        recordings=recordings,
        access_log=access_log,
        access_log_days=access_log_days,
        signing_key=signing_key,
    )
    served = GalleryToOpen(gallery, index_kind, shortlist)
    serve_gallery(ModelToOpen(model, device, threads), served, settings, show)


@click.command()
@click.argument("name")
@click.option(
    "--may",
    multiple=True,
    type=click.Choice(["search", "confirm", "export"]),
    help="What the user may do; repeat for several. All by default.",
)
def serve_token(name: str, may: tuple[str, ...]) -> None:
    """Make a token for the user NAME of `reid serve --users FILE`.

    The token goes to stderr, and is kept nowhere. The lines for FILE go to stdout:

        reid serve-token anna >> users.toml
    """
    from reid.progress import say

    from ..api.serving import serve_token as made

    token, lines = made(name, may) if may else made(name)
    say(f"the token of {name}, shown only now: {token}")
    show(lines)
