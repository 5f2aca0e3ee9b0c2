"""``reid watch``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from reid.cli import options
from reid.progress import progress_bar, say


@click.command()
@click.argument("model", type=options.MODEL)
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="[NAME=]URL",
    help="A video file, a folder of images, /dev/videoN, or a URL such as rtsp://...; repeatable. "
    "A password in a URL is never shown.",
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
@options.device
@options.threads
@options.as_json
def watch(
    model: Path,
    sources: tuple[str, ...],
    live: bool,
    detector: Path | None,
    gallery: str | None,
    events: Path | None,
    video: Path | None,
    window: bool,
    max_frames: int,
    max_distance: float | None,
    min_height: int | None,
    device: str,
    threads: int,
    as_json: bool,
) -> dict[str, Any]:
    """Track people through one or several cameras with MODEL, and re-identify them.

    MODEL is an .onnx, an .engine, a run folder or a checkpoint. Files are read frame by frame;
    devices and streams give their newest frame and are reconnected when they break. Ctrl-C
    stops; all output files are then complete.
    """
    from reid.matching import open_matcher
    from reid.training.stopping import StopRequest

    from ..cameras.cameras import Cameras
    from ..cameras.sources import parse_sources
    from ..people.boxes import MIN_HEIGHT
    from ..people.detector import open_detector
    from ..watch.watching import Watcher
    from ..watch.watching import watch as follow

    parsed = parse_sources(sources, live)
    with ExitStack() as stack:
        sinks = _sinks(stack, parsed, events, video, window)
        matcher = open_matcher(model, device, threads)
        stack.callback(matcher.close)
        people = open_detector(detector, device, threads, min_height)
        stack.callback(people.close)
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
    body = {"model": str(model), "detector": people.name, **report.to_json()}
    to_stdout = events == Path("-")
    if as_json:
        shown = (
            json.dumps({"event": "summary", **body}) if to_stdout else json.dumps(body, indent=2)
        )
        click.echo(shown)
    else:
        click.echo(f"{model}, people by {people.name}\n{report.to_text()}", err=to_stdout)
    return body


def _opened(name: str | None, matcher: Any, threads: int) -> Any:
    """A gallery; FAISS is imported only if there is one."""
    if name is None:
        return None
    from ..gallery.opening import open_gallery

    return open_gallery(name, matcher, threads=threads, partial=True, say=say)


def _sinks(
    stack: ExitStack, sources: Any, events: Path | None, video: Path | None, window: bool
) -> list[Any]:
    """Where results go; ``stack`` closes them."""
    from ..cameras.readers import FOLDER_FPS, frame_rate
    from ..watch.events import EventWriter
    from ..watch.screen import VideoSink, WindowSink

    names = [source.name for source in sources]
    sinks: list[Any] = []
    if events == Path("-"):
        sinks.append(EventWriter(sys.stdout))
    elif events is not None:
        sinks.append(stack.enter_context(EventWriter.appending(events)))
    if video is not None:
        fps = max(frame_rate(source) for source in sources) or FOLDER_FPS
        live = any(source.live for source in sources)
        sinks.append(stack.enter_context(VideoSink(video, names, fps, live)))
    if window:
        sinks.append(stack.enter_context(WindowSink(names)))
    bar = stack.enter_context(progress_bar("watch"))
    return [*sinks, _Teller(bar)]


class _Teller:
    """Counts frames on the progress bar, and prints changes of the sources."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def frames(self, seen: Any) -> None:
        """One round."""
        self._bar.advance(len(seen))

    def news(self, news: Any) -> None:
        """A line."""
        self._bar.say(f"reid: {news.camera}: {news.state}: {news.words}")
