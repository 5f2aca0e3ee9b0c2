"""Measuring thresholds from footage of one's own cameras, as one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.api.thresholds import ThresholdResult
from reid.evaluation.footage_thresholds import footage_thresholds
from reid.matching import open_matcher
from reid.model_file.opening import ModelFile
from reid.progress import SILENT, Reporter

from ..cameras.cameras import Cameras
from ..cameras.sources import parse_sources
from ..people.boxes import MIN_HEIGHT
from ..people.detector import open_detector
from ..watch.appearance import AppearanceModel
from ..watch.events import Sink, TrackedFrame
from ..watch.footage import FootagePairs
from ..watch.watching import Watcher, watch
from .model_to_open import ModelToOpen


@dataclass(frozen=True, slots=True)
class Footage:
    """Videos and folders of frames, and how people are found in them.

    ``detector`` is an ONNX file (None: OpenCV's HOG); a frame every ``every_s`` seconds counts.
    """

    sources: tuple[str, ...]
    detector: Path | None = None
    every_s: float = 0.5
    min_height: int | None = None


def measure_on_footage(
    model: ModelToOpen, footage: Footage, fpr: float | None = None, reporter: Reporter = SILENT
) -> ThresholdResult:
    """Thresholds from pairs of people in one frame; no labels are needed.

    Raises DataError, with the number needed, for too few people or pairs, and for footage that
    cannot be read; ConfigError, ModelFileError.
    """
    file = ModelFile.at(model.path)
    _ = file.sha256  # of the file that is open
    sources = parse_sources(footage.sources)
    matcher = open_matcher(file, model.device, model.threads, model.batch)
    with closing(matcher):
        detector = open_detector(footage.detector, model.device, model.threads, footage.min_height)
        with closing(detector):
            if detector.note:
                reporter.say(f"reid: {detector.note}")
            pairs = FootagePairs(AppearanceModel(matcher), footage.every_s)
            least = footage.min_height or MIN_HEIGHT
            sinks: list[Sink] = [pairs, _Counted(reporter)]
            watch(Cameras(sources), Watcher(detector, matcher, min_height=least), sinks)
        different, tracks, same = pairs.pairs()
        report = footage_thresholds(
            different,
            tracks,
            same,
            source=", ".join(source.name for source in sources),
            graph=matcher.manifest.stage,
            fpr=fpr,
            unit_vectors=isinstance(matcher.describe([]), np.ndarray),
        )
        return ThresholdResult(report, file, matcher.manifest)


class _Counted:
    """A sink that counts frames."""

    def __init__(self, reporter: Reporter) -> None:
        self._advance = reporter.begin("footage", 0)

    def frames(self, seen: Sequence[TrackedFrame]) -> None:
        """One round."""
        self._advance(len(seen))

    def news(self, news: object) -> None:
        """A file's end needs no line."""
