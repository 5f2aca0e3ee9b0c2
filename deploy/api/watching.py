"""Tracking people through cameras until they end, as one call."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import OutputError
from reid.matching import Matcher
from reid.model_file.quantisation import refuse_unproven
from reid.outputs import refuse_inputs
from reid.printing import printable
from reid.progress import SILENT, Reporter
from reid.training.stopping import StopRequest

from ..cameras.camera import News
from ..cameras.cameras import Cameras
from ..cameras.readers import FOLDER_FPS, frame_rate
from ..cameras.sources import CameraSource, parse_sources, shows_password
from ..cameras.tls import SYSTEMS_OWN, TlsTrust
from ..gallery import GalleryStore
from ..people.boxes import MIN_HEIGHT
from ..people.detector import PeopleDetector, open_detector
from ..watch.event_log import EventLog
from ..watch.events import EventWriter, Sink, TrackedFrame
from ..watch.screen import VideoSink, WindowSink
from ..watch.watching import Watcher, WatchReport, watch
from .model_to_open import ModelToOpen

STDOUT = Path("-")
"""The file of events that stands for stdout."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What is watched, and where the results go.

    ``sources`` are texts as ``parse_sources`` takes them; ``live`` plays files at their own speed,
    and ``tls`` are the certificates to trust. ``detector`` is an ONNX file (None: OpenCV's HOG),
    ``gallery`` names people, ``max_distance`` is the largest distance of one person and
    ``min_height`` the smallest person in pixels (None: the defaults of the network and the
    detector). Results go to ``events`` (JSON lines; ``-`` is stdout), ``video`` (an .mp4 file)
    and a ``window``. ``max_rounds`` 0 is no limit. INT8 that no real images have proven is refused
    unless ``allow_unproven``.
    """

    sources: tuple[str, ...]
    live: bool = False
    tls: TlsTrust = SYSTEMS_OWN
    detector: Path | None = None
    gallery: str | None = None
    max_distance: float | None = None
    min_height: int | None = None
    events: Path | None = None
    video: Path | None = None
    window: bool = False
    max_rounds: int = 0
    allow_unproven: bool = False

    def checked_sources(self, model: Path) -> tuple[CameraSource, ...]:
        """The sources. Raises ConfigError, and OutputError if an output is also an input."""
        parsed = parse_sources(self.sources, self.live, tls=self.tls)
        lists = [Path(word[1:]) for word in self.sources if word.startswith("@")]
        files = [Path(source.url) for source in parsed if source.kind in ("video", "folder")]
        gallery = Path(self.gallery) if self.gallery else None
        refuse_inputs(
            {"--events": None if self.events == STDOUT else self.events, "--video": self.video},
            [*files, *lists, model, self.detector, self.tls.file, gallery],
        )
        return parsed


@dataclass(frozen=True, slots=True)
class WatchResult:
    """Counts and speed of a run, and what of its output was lost to a full disk."""

    model: Path
    detector: str
    report: WatchReport
    settings: WatchSettings
    events_lost: int
    video_frames_lost: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": str(self.model),
            "detector": self.detector,
            **self.report.to_json(),
            "events_lost": self.events_lost,
            "video_frames_lost": self.video_frames_lost,
        }

    def to_text(self) -> str:
        """The lines for the terminal."""
        return f"{self.model}, people by {self.detector}\n{self.report.to_text()}"

    def check_complete(self) -> None:
        """Raise OutputError if events or frames of the video were lost."""
        if self.events_lost:
            raise OutputError(
                f"cannot write {self.settings.events}: {self.events_lost} events were lost; free "
                "some space"
            )
        if self.video_frames_lost:
            raise OutputError(
                f"{self.settings.video} is incomplete: {self.video_frames_lost} frames were lost; "
                "free some space"
            )


def watch_cameras(
    model: ModelToOpen, settings: WatchSettings, reporter: Reporter = SILENT
) -> WatchResult:
    """Track people through the cameras until all end, or until Ctrl-C or SIGTERM.

    All output files are then complete. ``reporter`` counts frames and gets a line about each
    change of a camera. Raises ConfigError for malformed sources, DataError if all cameras fail,
    ModelFileError for a model, detector or gallery that cannot be used, OutputError.

    >>> settings = WatchSettings((f"door={people / 'query'}",), max_rounds=2)
    >>> watch_cameras(ModelToOpen(run, "cpu"), settings).report.frames
    2
    """
    sources = settings.checked_sources(model.path)
    if shows_password(settings.sources):
        reporter.say(
            "reid: other users of this machine see the command line: write ${NAME} for a password, "
            "to be taken from the environment, or --source @FILE"
        )
    with ExitStack() as stack:
        log = _event_log(stack, settings.events, reporter)
        video = _video(stack, settings.video, sources, reporter)
        sinks: list[Sink] = [] if settings.events is None else [EventWriter(log or sys.stdout)]
        sinks += [] if video is None else [video]
        if settings.window:
            sinks.append(stack.enter_context(WindowSink([source.name for source in sources])))
        matcher = model.matcher()
        stack.callback(matcher.close)
        refuse_unproven(model.path, matcher.manifest, settings.allow_unproven)
        detector = _detector(stack, model, settings, reporter)
        watcher = Watcher(
            detector,
            matcher,
            limit=settings.max_distance,
            gallery=_gallery(stack, settings.gallery, matcher, model.threads, reporter),
            min_height=settings.min_height or MIN_HEIGHT,
        )
        for what, limit in watcher.limits.items():
            reporter.say(f"reid: {what} a distance of {limit.words}")
        stopping = stack.enter_context(StopRequest())
        report = watch(
            Cameras(sources),
            watcher,
            [*sinks, _ProgressSink(reporter)],
            max_rounds=settings.max_rounds,
            stop=lambda: stopping.requested,
        )
    return WatchResult(
        model.path,
        detector.name,
        report,
        settings,
        events_lost=log.lost if log else 0,
        video_frames_lost=video.lost if video else 0,
    )


def _event_log(stack: ExitStack, events: Path | None, reporter: Reporter) -> EventLog | None:
    if events is None or events == STDOUT:
        return None
    return stack.enter_context(EventLog(events, reporter.say))


def _video(
    stack: ExitStack, path: Path | None, sources: Sequence[CameraSource], reporter: Reporter
) -> VideoSink | None:
    """The video at the highest rate of its sources."""
    if path is None:
        return None
    fps = max(frame_rate(source) for source in sources) or FOLDER_FPS
    names, live = [source.name for source in sources], any(source.live for source in sources)
    return stack.enter_context(VideoSink(path, names, fps, live, reporter.say))


def _detector(
    stack: ExitStack, model: ModelToOpen, settings: WatchSettings, reporter: Reporter
) -> PeopleDetector:
    detector = open_detector(settings.detector, model.device, model.threads, settings.min_height)
    stack.callback(detector.close)
    if detector.note:
        reporter.say(f"reid: {detector.note}")
    return detector


def _gallery(
    stack: ExitStack, name: str | None, matcher: Matcher[Any], threads: int, reporter: Reporter
) -> GalleryStore | None:
    """The gallery; FAISS is imported only if there is one."""
    if name is None:
        return None
    open_gallery = importlib.import_module("reid.deploy.gallery.opening").open_gallery
    store: GalleryStore = open_gallery(
        name, matcher, threads=threads, partial=True, say=reporter.say
    )
    stack.callback(store.close)
    return store


class _ProgressSink:
    """Counts frames, and passes on the changes of the sources as lines."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._advance = reporter, reporter.begin("watch", 0)

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        self._advance(len(seen))

    def news(self, news: News) -> None:
        """A line."""
        self._reporter.say(printable(f"reid: {news.camera}: {news.state}: {news.words}"))
