"""What `reid watch` is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from reid.errors import ConfigError
from reid.outputs import refuse_inputs

from ..cameras.sources import CameraSource, parse_sources
from ..cameras.tls import SYSTEMS_OWN, TlsTrust
from ..watch.identities import KEEP_S
from ..watch.looks import USUAL_LOOKS
from ..watch.track_events import SEEN_EVERY_S
from .enrolling import EnrolSettings
from .outputs import NO_OUTPUTS, OutputSettings

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

    ``start_times`` say when recordings began (``TIME`` or ``NAME=TIME``). ``track_events`` gets
    events by track, as ``events`` gets each person of each frame; someone in sight is reported
    every ``seen_every_s``. ``enrol`` puts up to ``looks`` images of each track into ``gallery``,
    for ``keep_days``, and their whole frames into ``keep_frames``. ``identities`` is a file in
    which identities outlive the run; they expire after ``identity_hours``. ``outputs`` are those of
    a site: recordings, MQTT, a webhook, metrics, masks and zones. ``site`` is the file that all
    this was read from, if it was.
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
    start_times: tuple[str, ...] = ()
    track_events: Path | None = None
    seen_every_s: float = SEEN_EVERY_S
    enrol: bool = False
    looks: int = USUAL_LOOKS.most
    keep_days: float | None = None
    keep_frames: Path | None = None
    identities: Path | None = None
    identity_hours: float = KEEP_S / 3600
    outputs: OutputSettings = NO_OUTPUTS
    site: Path | None = None

    def checked_sources(self, model: Path) -> tuple[CameraSource, ...]:
        """The sources. Raises ConfigError, and OutputError if an output is also an input."""
        parsed = parse_sources(self.sources, self.live, tls=self.tls)
        masks = self.outputs.masks
        parsed = tuple(replace(one, mask=masks.get(one.name, ())) for one in parsed)
        lists = [Path(word[1:]) for word in self.sources if word.startswith("@")]
        files = [Path(source.url) for source in parsed if source.kind in ("video", "folder")]
        gallery = Path(self.gallery) if self.gallery else None
        outputs = {"--events": self.events, "--track-events": self.track_events}
        if [*outputs.values()].count(STDOUT) > 1:
            raise ConfigError("--events and --track-events: one of them can go to stdout")
        refuse_inputs(
            {
                **{option: None if path == STDOUT else path for option, path in outputs.items()},
                "--video": self.video,
                "--identities": self.identities,
            },
            [*files, *lists, model, self.detector, self.tls.file, gallery],
        )
        return parsed

    def enrolment(self) -> EnrolSettings | None:
        """What is enrolled. Raises ConfigError for settings that do not belong together."""
        if not self.enrol:
            if self.keep_frames is not None:
                raise ConfigError(
                    "--keep-frames keeps the frames of those who are enrolled: --enrol"
                )
            return None
        if not self.gallery:
            raise ConfigError("--enrol puts people into a gallery: name it with --gallery")
        if self.keep_days is None:
            raise ConfigError(
                "--enrol keeps images of people: say with --keep-days after how many days they are "
                "erased, as in --keep-days 7"
            )
        return EnrolSettings(self.gallery, self.keep_days, self.looks, self.keep_frames)
