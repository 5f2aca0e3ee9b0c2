"""``reid watch``."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.printing import json_text, printable, show
from reid.progress import progress_bar, say

REMEDY = "write ${NAME} for a password, to be taken from the environment, or --source @FILE"
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
@click.argument("model", type=options.MODEL)
@click.argument("others", nargs=-1, metavar="", expose_value=False, callback=_no_others)
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
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
    help="Largest distance of two tracks of one person; below 0 for a network that scores pairs "
    "(minus the score). Default: 0.65 for vectors, -0.7 for pairs.",
)
@click.option(
    "--min-height",
    type=click.IntRange(min=1),
    help="The smallest person, in pixels of the frame. Default: 24, for HOG 48.",
)
@options.group
@options.device
@options.threads
@options.as_json
def watch(
    model: Path,
    sources: tuple[str, ...],
    tls_ca: Path | None,
    insecure_tls: bool,
    live: bool,
    detector: Path | None,
    gallery: str | None,
    events: Path | None,
    video: Path | None,
    window: bool,
    max_frames: int,
    max_distance: float | None,
    min_height: int | None,
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
    from reid.errors import OutputError
    from reid.files import shared_with
    from reid.matching import open_matcher
    from reid.outputs import refuse_inputs
    from reid.training.stopping import StopRequest

    from ..cameras.cameras import Cameras
    from ..cameras.sources import parse_sources, shows_password
    from ..cameras.tls import TlsTrust
    from ..people.boxes import MIN_HEIGHT
    from ..people.detector import open_detector
    from ..watch.watching import Watcher
    from ..watch.watching import watch as follow

    _refuse_addresses(MODEL=model, **{"--detector": detector, "--video": video, "--events": events})
    parsed = parse_sources(sources, live, tls=TlsTrust(tls_ca, insecure_tls))
    listed = [Path(word[1:]) for word in sources if word.startswith("@")]
    files = [Path(source.url) for source in parsed if source.kind in ("video", "folder")]
    refuse_inputs(
        {"--events": None if events == Path("-") else events, "--video": video},
        [*files, *listed, model, detector, tls_ca, Path(gallery) if gallery else None],
    )
    if shows_password(sources):
        say(f"reid: other users of this machine see the command line: {REMEDY}")
    with ExitStack() as stack:
        stack.enter_context(shared_with(group))
        log = _event_log(stack, events)
        sinks = _sinks(stack, parsed, log, video, window)
        matcher = open_matcher(model, device, threads)
        stack.callback(matcher.close)
        people = open_detector(detector, device, threads, min_height)
        stack.callback(people.close)
        if people.note:
            say(f"reid: {people.note}")
        known = _opened(gallery, matcher, threads)
        if known is not None:
            stack.callback(known.close)
        watcher = Watcher(
            people, matcher, limit=max_distance, gallery=known, min_height=min_height or MIN_HEIGHT
        )
        stopping = stack.enter_context(StopRequest())
        report = follow(
            Cameras(parsed),
            watcher,
            sinks,
            max_rounds=max_frames,
            stop=lambda: stopping.requested,
        )
    lost = 0 if log is None else getattr(log, "lost", 0)
    lost_frames = sum(getattr(sink, "lost", 0) for sink in sinks)
    losses = {"events_lost": lost, "video_frames_lost": lost_frames}
    body = {"model": str(model), "detector": people.name, **report.to_json(), **losses}
    to_stdout = events == Path("-")
    text = f"{model}, people by {people.name}\n{report.to_text()}"
    if as_json:
        show(json_text({"event": "summary", **body}, None) if to_stdout else json_text(body))
    elif to_stdout:
        say(text)
    else:
        show(text)
    if lost:
        raise OutputError(f"cannot write {events}: {lost} events were lost; free some space")
    if lost_frames:
        raise OutputError(f"{video} is incomplete: {lost_frames} frames were lost; free some space")
    return body


def _event_log(stack: ExitStack, events: Path | None) -> Any:
    """The file of events, stdout for -, or None."""
    from ..watch.event_log import EventLog

    if events is None or events == Path("-"):
        return events and sys.stdout
    return stack.enter_context(EventLog(events, say))


def _opened(name: str | None, matcher: Any, threads: int) -> Any:
    """A gallery; FAISS is imported only if there is one."""
    if name is None:
        return None
    from ..gallery.opening import open_gallery

    return open_gallery(name, matcher, threads=threads, partial=True, say=say)


def _sinks(stack: ExitStack, sources: Any, log: Any, video: Path | None, window: bool) -> list[Any]:
    """Where results go; ``stack`` closes them."""
    from ..cameras.readers import FOLDER_FPS, frame_rate
    from ..watch.events import EventWriter
    from ..watch.screen import VideoSink, WindowSink

    names = [source.name for source in sources]
    sinks: list[Any] = []
    if log is not None:
        sinks.append(EventWriter(log))
    if video is not None:
        fps = max(frame_rate(source) for source in sources) or FOLDER_FPS
        live = any(source.live for source in sources)
        sinks.append(stack.enter_context(VideoSink(video, names, fps, live, say)))
    if window:
        sinks.append(stack.enter_context(WindowSink(names)))
    bar = stack.enter_context(progress_bar("watch"))
    return [*sinks, _Teller(bar)]


class _Teller:
    """Counts frames on the progress bar, and prints changes of the sources."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._advance = bar, bar.begin("watch", 0)

    def frames(self, seen: Any) -> None:
        """One round."""
        self._advance(len(seen))

    def news(self, news: Any) -> None:
        """A line."""
        self._bar.say(printable(f"reid: {news.camera}: {news.state}: {news.words}"))
