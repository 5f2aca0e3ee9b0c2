"""Tracking people through cameras until they end, as one call."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reid.errors import OutputError
from reid.matching import Matcher
from reid.model_file.quantisation import refuse_unproven
from reid.printing import printable
from reid.progress import SILENT, Reporter
from reid.training.stopping import StopRequest, exit_at_sigterm

from ..cameras.camera import News
from ..cameras.cameras import Cameras
from ..cameras.readers import FOLDER_FPS, frame_rate
from ..cameras.sources import CameraSource, shows_password
from ..gallery import GalleryStore
from ..people.boxes import MIN_HEIGHT
from ..people.detector import PeopleDetector, open_detector
from ..watch.clock import RunClock, starts_from
from ..watch.event_log import EventLog, Rotation
from ..watch.events import EventWriter, LineFile, Sink, TrackedFrame, TrackSink
from ..watch.identity_file import IdentityFile
from ..watch.screen import VideoSink, WindowSink
from ..watch.track_events import TrackEvents, no_crop
from ..watch.watching import Watcher, WatchReport, watch
from .enrolling import OpenEnrolment, open_enrolment
from .model_to_open import ModelToOpen
from .outputs import Outputs, check_nothing_lost
from .watch_settings import STDOUT, WatchSettings

_COUNTS = ("run", "entered", "left", "enrolled", "enrol_dropped", "erased", "identities_known")


@dataclass(frozen=True, slots=True)
class WatchResult:
    """Counts and speed of a run, and what of its output was lost to a full disk.

    ``entered`` and ``left`` count the tracks of ``track_events``. ``enrolled`` images of people
    went into the gallery, ``enrol_dropped`` found no room while it could not be written, ``erased``
    expired. ``identities_known`` were in the file of identities. ``terminated``: SIGTERM ended it,
    which is no interruption. ``outputs_lost``: what each output lost, events or frames.
    """

    model: Path
    detector: str
    report: WatchReport
    settings: WatchSettings
    events_lost: int
    video_frames_lost: int
    run: str = ""
    entered: int = 0
    left: int = 0
    enrolled: int = 0
    enrol_dropped: int = 0
    erased: int = 0
    identities_known: int = 0
    terminated: bool = False
    outputs_lost: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": str(self.model),
            "detector": self.detector,
            **self.report.to_json(),
            "events_lost": self.events_lost,
            "video_frames_lost": self.video_frames_lost,
            **{name: getattr(self, name) for name in _COUNTS},
            "terminated": self.terminated,
            "outputs_lost": dict(self.outputs_lost),
        }

    def to_text(self) -> str:
        """The lines for the terminal."""
        lines = [f"{self.model}, people by {self.detector}", self.report.to_text()]
        if self.settings.enrol:
            lines.append(
                f"{self.enrolled} images of people enrolled, {self.enrol_dropped} dropped, "
                f"{self.erased} erased as too old"
            )
        if self.settings.identities is not None:
            lines.append(f"{self.identities_known} identities were known from earlier runs")
        return "\n".join(lines)

    def check_complete(self) -> None:
        """Raise OutputError if events, frames of the video, or images of people were lost."""
        if self.events_lost:
            raise OutputError(
                f"cannot write {self.settings.events or self.settings.track_events}: "
                f"{self.events_lost} events were lost; free some space"
            )
        if self.video_frames_lost:
            raise OutputError(
                f"{self.settings.video} is incomplete: {self.video_frames_lost} frames were lost; "
                "free some space"
            )
        if self.enrol_dropped:
            raise OutputError(
                f"{self.settings.gallery} is incomplete: {self.enrol_dropped} images of people "
                "were dropped while it could not be written"
            )
        check_nothing_lost(self.outputs_lost)


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
    if settings.site is None and shows_password(settings.sources):
        reporter.say(
            "reid: other users of this machine see the command line: write ${NAME} for a password, "
            "to be taken from the environment, or --source @FILE"
        )
    clock = RunClock(starts_from(settings.start_times, sources))
    enrol = settings.enrolment()
    with ExitStack() as stack:
        stack.enter_context(exit_at_sigterm())  # until the cameras run, and StopRequest listens
        logs = [
            _event_log(stack, path, settings, reporter)
            for path in (settings.events, settings.track_events)
        ]
        video = _video(stack, settings.video, sources, reporter)
        sinks: list[Sink] = [] if settings.events is None else [EventWriter(logs[0], clock)]
        sinks += [] if video is None else [video]
        if settings.window:
            sinks.append(stack.enter_context(WindowSink([source.name for source in sources])))
        matcher = model.matcher()
        stack.callback(matcher.close)
        refuse_unproven(model.path, matcher.manifest, settings.allow_unproven)
        detector = _detector(stack, model, settings, reporter)
        enrolment = None
        if enrol is not None:
            enrolment = open_enrolment(stack, enrol, matcher, clock, reporter.say)
        watcher = Watcher(
            detector,
            matcher,
            limit=settings.max_distance,
            gallery=_gallery(stack, settings.gallery, matcher, model.threads, reporter),
            min_height=settings.min_height or MIN_HEIGHT,
            clock=clock,
            identity_hours=settings.identity_hours,
            say=reporter.say,
        )
        for what, limit in watcher.limits.items():
            reporter.say(f"reid: {what} a distance of {limit.words}")
        identities = _identity_file(stack, settings.identities, watcher, reporter)
        cameras = Cameras(sources)
        outputs = stack.enter_context(
            Outputs(settings.outputs, sources, clock, lambda: cameras.counts, reporter.say)
        )
        tracks = _track_events(settings, clock, logs[1], enrolment, outputs)
        sinks += outputs.sinks
        sinks += [one for one in (identities, enrolment and enrolment.looks, tracks) if one]
        for one in (tracks, enrolment and enrolment.looks):  # the looks first, for their pictures
            if one:
                stack.callback(one.finish)
        stopping = stack.enter_context(StopRequest())

        def stop() -> bool:
            """Asked in every round, also in one without a frame."""
            outputs.alive()
            for log in logs:
                if isinstance(log, EventLog):
                    log.tend()
            return stopping.requested

        report = watch(
            cameras,
            watcher,
            [*sinks, _ProgressSink(reporter)],
            max_rounds=settings.max_rounds,
            stop=stop,
        )
    writer = enrolment.writer if enrolment else None
    return WatchResult(
        model.path,
        detector.name,
        replace(report, interrupted=report.interrupted and not stopping.terminated),
        settings,
        events_lost=sum(log.lost for log in logs if isinstance(log, EventLog)),
        video_frames_lost=video.lost if video else 0,
        run=clock.run,
        entered=tracks.entered if tracks else 0,
        left=tracks.left if tracks else 0,
        enrolled=writer.enrolled if writer else 0,
        enrol_dropped=writer.dropped if writer else 0,
        erased=writer.erased if writer else 0,
        identities_known=identities.restored if identities else 0,
        terminated=stopping.terminated,
        outputs_lost=outputs.lost(),
    )


def _track_events(
    settings: WatchSettings,
    clock: RunClock,
    file: LineFile,
    enrolment: OpenEnrolment | None,
    outputs: Outputs,
) -> TrackEvents | None:
    """Makes events by track, where something takes them."""
    takers: list[TrackSink] = [*outputs.track_sinks]
    if settings.track_events is not None:
        takers.append(EventWriter(file, clock))
    if not takers:
        return None
    crop = enrolment.looks.crop if enrolment else no_crop
    return TrackEvents(
        clock, takers, seen_every_s=settings.seen_every_s, zones=outputs.zones, crop=crop
    )


def _identity_file(
    stack: ExitStack, path: Path | None, watcher: Watcher, reporter: Reporter
) -> IdentityFile | None:
    if path is None:
        return None
    file = IdentityFile(path, watcher.identities, watcher.appearance, reporter.say)
    return stack.enter_context(file)


def _event_log(
    stack: ExitStack, events: Path | None, settings: WatchSettings, reporter: Reporter
) -> LineFile:
    """What events are written to: a file, or stdout."""
    if events is None or events == STDOUT:
        return sys.stdout
    outputs = settings.outputs
    rotation = Rotation(outputs.events_max_mb, outputs.events_keep_days or settings.keep_days)
    return stack.enter_context(EventLog(events, reporter.say, rotation=rotation))


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
