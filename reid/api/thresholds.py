"""Measuring which distance means the same person, and keeping it with the model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid.api.evaluation import Settings
from reid.evaluation.threshold_report import ThresholdReport
from reid.evaluation.thresholds import thresholds_of
from reid.matching import Matcher, open_matcher
from reid.model_file.keeping import keep_thresholds
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.model_file.thresholds import Thresholds
from reid.progress import SILENT, Reporter


@dataclass(frozen=True, slots=True)
class ThresholdResult:
    """The distances that mean the same person, with their rates.

    ``thresholds.rates`` are the pairs' (``fpr``, ``distance``, ``tpr``), ``thresholds.searches``
    the galleries' (``entries``, ``fpir``, ``distance``); ``report`` has all else.

    >>> result = model.threshold("synthetic", root=crowd)
    >>> result.thresholds.rates[0].fpr
    0.01
    """

    report: ThresholdReport
    file: ModelFile = field(repr=False)
    manifest: Manifest = field(repr=False)

    @property
    def thresholds(self) -> Thresholds:
        """What a manifest keeps."""
        return self.report.thresholds

    def to_text(self) -> str:
        """The tables that ``reid threshold`` prints."""
        return self.report.to_text()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"model": str(self.file.path), **self.report.to_json()}

    def keep(self) -> list[Path]:
        """Write them into the manifest beside the model file; returns the manifests written.

        A model, gallery or tracker opened afterwards uses them, and exports carry them along.
        Raises ModelFileError if the model file has changed, OutputError.
        """
        return keep_thresholds(self.file, self.manifest, self.thresholds)


def measured_on_data(
    matcher: Matcher[Any],
    file: ModelFile,
    settings: Settings,
    fpr: float | None,
    reporter: Reporter,
) -> ThresholdResult:
    """The thresholds of an open model on a dataset. Raises what ``Model.threshold`` raises."""
    _ = file.sha256  # of the file that is open
    split = settings.split(file)
    (overlap,) = settings.overlaps([file], split, reporter)
    for line in overlap.warnings:
        reporter.say(f"warning: {line}")
    return ThresholdResult(thresholds_of(matcher, split, fpr, reporter), file, matcher.manifest)


def measure_on_data(
    model: Path,
    settings: Settings,
    *,
    fpr: float | None = None,
    device: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    reporter: Reporter = SILENT,
) -> ThresholdResult:
    """Open a model file, measure its thresholds on a dataset, and close it."""
    file = ModelFile.at(model)
    with closing(open_matcher(file, device, threads, batch_size)) as matcher:
        return measured_on_data(matcher, file, settings, fpr, reporter)
