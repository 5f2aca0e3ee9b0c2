"""``reid watch``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar, say

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def _no_others(context: Any, parameter: Any, words: tuple[str, ...]) -> None:
    """Refuse further words without showing them: one may be an address with its password."""
    if words:
        raise click.UsageError(
            f"expected one MODEL, and each camera behind its own --source; found {len(words)} more "
            f"word{'s' * (len(words) > 1)}"
        )


def _refuse_addresses(**paths: Path | None) -> None:
    """A camera's address where a file belongs is not shown, as it may have a password."""
    from reid.errors import ConfigError

    for what, path in paths.items():
        if path is not None and _ADDRESS.match(str(path)):
            raise ConfigError(
                f"{what} is a file, and found an address; a camera's goes to --source"
            )


@click.command()
@click.argument("model", type=options.MODEL, required=False)
@click.argument("others", nargs=-1, metavar="", expose_value=False, callback=_no_others)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="[NAME=]URL",
    help="A video file, a folder of images, /dev/videoN, or a URL such as rtsp://...; repeatable. "
    "${NAME} in a URL comes from the environment, and @FILE from a file with one source a line, so "
    "that a password does not stand in the command line. It is never shown.",
)
@click.option(
    "--tls-ca",
    type=options.FILE,
    help="Certificates (PEM) of authorities or cameras that https and rtsps cameras must have. "
    "Default: the system's authorities.",
)
@click.option(
    "--insecure-tls", is_flag=True, help="Do not check the certificates of https and rtsps cameras."
)
@click.option(
    "--live", is_flag=True, help="Play files at their own speed, dropping frames if necessary."
)
@click.option(
    "--detector",
    type=options.FILE,
    help="An ONNX people detector in YOLOX's format, or with a contract beside it. Default: "
    "OpenCV's HOG, which is slow and finds upright people only.",
)
@click.option(
    "--gallery", help="A gallery of named people: a folder or milvus://host:port/collection."
)
@click.option(
    "--events",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Append events to this file, one JSON object per line; - for stdout.",
)
@click.option(
    "--track-events",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Append events by track to this file: entered, seen, named, renamed, left; - for stdout.",
)
@click.option(
    "--seen-every",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds between two `seen` events of someone who stays.",
)
@click.option(
    "--start-time",
    "start_times",
    multiple=True,
    metavar="[NAME=]TIME",
    help="When a recording began, such as 2026-05-01T12:30:00Z; repeatable. Default: as its "
    "container says.",
)
@click.option(
    "--enrol",
    is_flag=True,
    help="Put the best images of each track into --gallery, without names, so that reid search and "
    "reid serve find them. Needs --keep-days.",
)
@click.option(
    "--looks",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="The most images of a track that are enrolled.",
)
@click.option(
    "--keep-days",
    type=click.FloatRange(min=0.01),
    help="Erase enrolled images, their frames and files of events this many days later.",
)
@click.option(
    "--keep-frames", type=options.FOLDER, help="Keep the whole frames of enrolled images here."
)
@click.option(
    "--identities",
    type=options.FILE,
    help="Keep the identities in this file, so that a restart goes on with them.",
)
@click.option(
    "--identity-hours",
    type=click.FloatRange(min=0.01),
    default=24.0,
    show_default=True,
    help="Forget an identity this long after it was last seen: people change their clothes.",
)
@click.option("--video", type=options.FILE, help="Write an annotated .mp4.")
@click.option("--window", is_flag=True, help="Show the annotated cameras in a window.")
@click.option(
    "--max-frames",
    type=options.COUNT,
    default=0,
    help="Stop after this many rounds; a round is one frame of each file and the new frames of "
    "live sources.",
)
@click.option(
    "--max-distance",
    type=float,
    help="Largest distance of one person, to follow and to name people; below 0 for a network that "
    "scores pairs (minus the score). Default: as `reid threshold` measured it, or else a guess: "
    "0.65 for vectors, -0.7 for pairs.",
)
@click.option(
    "--min-height",
    type=click.IntRange(min=1),
    help="The smallest person, in pixels of the frame. Default: 24, for HOG 48.",
)
@click.option(
    "--allow-unproven",
    is_flag=True,
    help="Run an INT8 file whose accuracy no real images have proven.",
)
@click.option(
    "--record",
    type=options.FOLDER,
    help="Record each camera into this folder, in segments that a browser plays.",
)
@click.option(
    "--segment-minutes",
    type=click.FloatRange(0.05, 1440),
    default=10.0,
    show_default=True,
    help="The length of a segment of --record; --keep-days removes old ones.",
)
@click.option(
    "--mqtt", metavar="URL", help="Track events for mqtt[s]://[USER:PASSWORD@]HOST/PREFIX."
)
@click.option("--webhook", metavar="URL", help="Post track events to this URL, with retries.")
@click.option(
    "--webhook-secret",
    default="",
    metavar="${NAME}",
    help="Signs what is posted: the name of a variable of the environment.",
)
@click.option("--metrics", metavar="HOST:PORT", help="Serve metrics for Prometheus here.")
@click.option(
    "--events-max-mb", type=click.FloatRange(min=0.01), help="Rotate files of events at this size."
)
@click.option(
    "--events-keep-days",
    type=click.FloatRange(min=0.01),
    help="Rotate files of events each day, and remove them after so many.",
)
@click.option(
    "--config",
    type=options.FILE,
    help="A site's file, which says all of this; see deploy/examples/site.toml. Beside it only "
    "--max-frames, --log-json and --json are taken.",
)
@options.log_json
@options.group
@options.device_and_precision
@options.threads
@options.as_json
@click.pass_context
def watch(
    context: click.Context,
    model: Path | None,
    sources: tuple[str, ...],
    tls_ca: Path | None,
    insecure_tls: bool,
    live: bool,
    detector: Path | None,
    gallery: str | None,
    events: Path | None,
    track_events: Path | None,
    seen_every: float,
    start_times: tuple[str, ...],
    enrol: bool,
    looks: int,
    keep_days: float | None,
    keep_frames: Path | None,
    identities: Path | None,
    identity_hours: float,
    video: Path | None,
    window: bool,
    max_frames: int,
    max_distance: float | None,
    min_height: int | None,
    allow_unproven: bool,
    record: Path | None,
    segment_minutes: float,
    mqtt: str | None,
    webhook: str | None,
    webhook_secret: str,
    metrics: str | None,
    events_max_mb: float | None,
    events_keep_days: float | None,
    config: Path | None,
    log_json: bool,
    group: str,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Track people through one or several cameras with MODEL, and re-identify them.

    MODEL is an .onnx, an .engine, a run folder or a checkpoint. Files are read frame by frame;
    devices and streams give their newest frame and are reconnected when they break. Ctrl-C
    stops; all output files are then complete.
    """
    from reid.files import shared_with

    from ..api.model_to_open import ModelToOpen
    from ..api.site import outputs_from_options, read_site
    from ..api.watch_settings import STDOUT, WatchSettings
    from ..api.watching import watch_cameras
    from ..cameras.tls import TlsTrust

    options.use_log_style(log_json, config is not None)
    if config is not None:
        options.refuse_beside_config(context, ("max_frames", "log_json", "as_json"))
        site = read_site(config)
        opened_as, group = site.model, site.group
        settings = replace(site.watch, max_rounds=max_frames)
    elif model is None or not sources:
        raise click.UsageError("expected MODEL and --source, or --config with a site's file")
    else:
        files = {"--detector": detector, "--video": video, "--events": events}
        files |= {"--track-events": track_events, "--identities": identities}
        files |= {"--keep-frames": keep_frames, "--record": record}
        _refuse_addresses(MODEL=model, **files)
        opened_as = ModelToOpen(model, device, threads)
        settings = WatchSettings(
            sources,
            live,
            TlsTrust(tls_ca, insecure_tls),
            detector=detector,
            gallery=gallery,
            max_distance=max_distance,
            min_height=min_height,
            events=events,
            video=video,
            window=window,
            max_rounds=max_frames,
            allow_unproven=allow_unproven,
            start_times=start_times,
            track_events=track_events,
            seen_every_s=seen_every,
            enrol=enrol,
            looks=looks,
            keep_days=keep_days,
            keep_frames=keep_frames,
            identities=identities,
            identity_hours=identity_hours,
            outputs=outputs_from_options(
                record=record,
                segment_minutes=segment_minutes,
                keep_days=keep_days,
                mqtt=mqtt,
                webhook=webhook,
                webhook_secret=webhook_secret,
                metrics=metrics,
                events_max_mb=events_max_mb,
                events_keep_days=events_keep_days,
                tls_ca=tls_ca,
            ),
        )
    with shared_with(group), progress_bar("watch") as bar:
        result = watch_cameras(opened_as, settings, bar)
    found, beside_events = result.to_json(), STDOUT in (settings.events, settings.track_events)
    if as_json:
        show(json_text({"event": "summary", **found}, None) if beside_events else json_text(found))
    else:
        (say if beside_events else show)(result.to_text())
    result.check_complete()
    return found
