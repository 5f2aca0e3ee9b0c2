"""Evaluating one open model, or comparing several model files."""

from __future__ import annotations

import dataclasses
import importlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.data.readers.division import AS_TRAINED, AskedSplit
from reid.errors import DataError, InputError, output_errors
from reid.evaluation.cascade import ShortlistReport, cascades
from reid.evaluation.evaluating import (
    Evaluation,
    chance_rank1,
    evaluate,
    evaluate_models,
    split_as_trained,
    with_any_camera,
    with_shots,
)
from reid.evaluation.overlap import Overlap, overlaps
from reid.evaluation.reranking import Reranking
from reid.evaluation.summary import Finding, summary
from reid.evaluation.tables import cautions, percent, short_names
from reid.files import write_text
from reid.matching import Matcher
from reid.matching.vectors import DESCRIBE_BATCH
from reid.model_file.opening import ModelFile
from reid.progress import Reporter
from reid.report.drawing import smallest
from reid.report.eval_page import eval_page, write_report
from reid.report.html_page import figure, paragraph, table
from reid.report.ranked import ranked_list_picture, write_ranked_list
from reid.types import EvalReport, Split

_PICTURES = "reid.report.eval_pictures"
_MAPS = "reid.report.map_consistency"
"""Both look inside networks and load torch, so they are imported when needed."""

_LISTS_SHOWN = 10
"""Gallery images per query in pictures."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is evaluated, and how. A shortlist of 0 is the whole gallery."""

    dataset: str
    root: Path
    shots: int | None = None
    shortlists: tuple[int, ...] = ()
    rerank: bool | tuple[int, int, float] = False
    asked: AskedSplit = AS_TRAINED
    query_file: Path | None = None
    gallery_file: Path | None = None
    allow_trained_on: bool = False
    any_camera: bool = False

    def split(self, trained: Path | ModelFile) -> Split:
        """The split of ``trained``'s training, unless the settings name another."""
        if self.shots is not None and self.shots < 1:
            raise InputError(
                f"shots is the number of gallery images per person, 1 or more; found {self.shots}"
            )
        if self.shots is not None and self.any_camera:
            raise InputError("any_camera is a protocol with one image of each person: leave shots")
        split = split_as_trained(trained, self.dataset, self.root, self.asked)
        if self.any_camera:
            return with_any_camera(split)
        return with_shots(split, self.shots) if self.shots else split

    def overlaps(
        self, models: Sequence[Path | ModelFile], split: Split, reporter: Reporter
    ) -> list[Overlap]:
        """Each model's overlap of training and test. Raises DataError if it is not allowed."""
        allow = self.allow_trained_on
        return overlaps(models, split, self.root, allow_trained_on=allow, reporter=reporter)

    @property
    def reranking(self) -> Reranking | None:
        """The re-ranking settings; True is the paper's."""
        if isinstance(self.rerank, tuple):
            return Reranking(*self.rerank)
        return Reranking() if self.rerank else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluations of one or several models on one split, with their tables and pictures."""

    models: tuple[Path, ...]
    evaluations: tuple[Evaluation, ...]
    shortlists: tuple[int, ...] = ()
    consistencies: tuple[Finding, ...] = ()
    against_first: bool = False

    @property
    def reports(self) -> list[EvalReport]:
        """The report of each evaluation."""
        return [one.report for one in self.evaluations]

    @property
    def cascades(self) -> list[ShortlistReport]:
        """What shortlists lose compared with the whole gallery."""
        return cascades(self.reports, self.shortlists)

    def summary(
        self, *, camera_pairs: bool = False, published: bool = False
    ) -> tuple[dict[str, Any], str]:
        """All results as plain values, and as text."""
        split = self.evaluations[0].split
        return summary(
            self.reports,
            self.cascades,
            self.consistencies,
            chance=chance_rank1(split),
            note=split.note,
            against_first=self.against_first,
            camera_pairs=camera_pairs,
            published=published,
        )

    def write_picture(self, path: Path, *, worst_first: bool = False) -> None:
        """The first model's ranked lists as a PNG. Raises OutputError, DataError."""
        first = self.evaluations[0]
        ranking, limit = first.ranking(_LISTS_SHOWN), first.report.limit
        write_ranked_list(path, first.split, ranking, worst_first=worst_first, limit=limit)

    def write_report(
        self, folder: Path, found: Mapping[str, Any], *, worst_first: bool = False
    ) -> tuple[Path, list[str]]:
        """Write the page, its pictures and report.json; return why some are not drawn."""
        pictures, not_drawn = _drawing()(folder, self.models, self.evaluations, worst_first)
        page = write_report(
            folder, found, self.reports, self.cascades, pictures=pictures, not_drawn=not_drawn
        )
        return page, not_drawn

    def write_page(self, path: Path) -> Path:
        """Write the page as one self-contained file."""
        found, _ = self.summary()
        with tempfile.TemporaryDirectory() as folder:
            pictures, not_drawn = _drawing()(Path(folder), self.models, self.evaluations, False)
        text = eval_page(found, self.reports, self.cascades, pictures=pictures, not_drawn=not_drawn)
        write_text(path, text)
        return path


def _drawing() -> Callable[..., Any]:
    draw: Callable[..., Any] = importlib.import_module(_PICTURES).draw_pictures
    return draw


def prepare_report(folder: Path) -> None:
    """Make the folder and import the drawing code, to fail before hours of work."""
    _drawing()
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


class EvaluationResult:
    """The results of one model on one dataset, all of them shares of 1.

    A notebook shows it with its ranked lists.

    >>> result = model.evaluate("synthetic", root=people)
    >>> result.cmc[1] == result.rank1 and result.cmc[5] >= result.rank1
    True
    >>> result.to_html(folder / "page.html").name
    'page.html'
    """

    def __init__(self, comparison: Comparison) -> None:
        """For ``Model.evaluate``."""
        self._comparison = comparison

    @property
    def report(self) -> EvalReport:
        """All results: both definitions of mAP, mINP, deviations, camera pairs, times."""
        return self._comparison.reports[0]

    @property
    def rank1(self) -> float:
        """The share of queries whose nearest gallery image is a correct match."""
        return self.report.cmc[1]

    @property
    def mAP(self) -> float:
        """Mean average precision (the mean of the precision at each hit)."""
        return self.report.map_step

    @property
    def cmc(self) -> Mapping[int, float]:
        """Rank k (1, 5, 10, 20) -> the share of queries with a correct match in the first k."""
        return self.report.cmc

    def __repr__(self) -> str:
        return (
            f"<{self.report.name} on {self.report.dataset}: rank-1 {percent(self.rank1)} %, "
            f"mAP {percent(self.mAP)} %>"
        )

    def to_text(self) -> str:
        """The tables that ``reid eval`` prints."""
        return self._comparison.summary()[1]

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a page with results and pictures; returns its path.

        ``path`` is a name that ends in .html, for one self-contained file, or a folder, which gets
        ``index.html``, ``report.json`` and the pictures. For a run the page also shows what the
        network sees, which loads torch. Raises OutputError, DataError for an image that cannot be
        read.
        """
        target = Path(path)
        if target.suffix.lower() in (".html", ".htm"):
            return self._comparison.write_page(target)
        prepare_report(target)
        found, _ = self._comparison.summary()
        return self._comparison.write_report(target, found)[0]

    def _repr_html_(self) -> str:
        report, evaluation = self.report, self._comparison.evaluations[0]
        shares = {**{f"rank-{rank}": share for rank, share in self.cmc.items()}, "mAP": self.mAP}
        names = ["model", "dataset", *shares, "mINP"]
        shown = [*shares.values(), report.minp]
        cells = [report.name, report.dataset, *(f"{percent(one)} %" for one in shown)]
        html = table(names, [cells]) + "".join(map(paragraph, cautions([report])))
        try:
            kept = min(_LISTS_SHOWN, evaluation.kept.indices.shape[1])
            split = evaluation.split
            ranking = evaluation.ranking(kept)
            picture = ranked_list_picture(split.query, split.gallery, ranking, limit=report.limit)
        except DataError as error:  # no answerable query, or the images were removed
            return html + figure_words(str(error))
        media_type, data = smallest(picture)
        width = picture.shape[1] // 2
        caption = "Queries and their nearest gallery images; correct matches are framed green."
        return html + figure(media_type, data, width, "ranked lists", caption)


def figure_words(words: str) -> str:
    """A sentence in place of a picture."""
    return table([words], [])


def evaluate_matcher(
    matcher: Matcher[Any], file: ModelFile, path: Path, settings: Settings, reporter: Reporter
) -> EvaluationResult:
    """Evaluate an open model; its name in the report is that of its path."""
    split = settings.split(file)
    (overlap,) = settings.overlaps([file], split, reporter)
    evaluation = evaluate(
        matcher,
        split,
        best=settings.shortlists[0] if settings.shortlists else 0,
        rerank=settings.reranking,
        query_file=settings.query_file,
        gallery_file=settings.gallery_file,
        reporter=reporter,
        model_name=str(path),
    )
    return EvaluationResult(Comparison((path,), _reported([evaluation], [overlap])))


def _reported(
    evaluations: Sequence[Evaluation], found: Sequence[Overlap]
) -> tuple[Evaluation, ...]:
    """The evaluations with their models' short names and overlaps, one of each model in turn.

    A model has as many evaluations as the others: one for each graph, shortlist and re-ranking.
    """
    names = short_names([one.report.model for one in evaluations])
    per_model = len(evaluations) // len(found)
    return tuple(
        dataclasses.replace(
            one,
            report=dataclasses.replace(
                one.report,
                short_name=names[one.report.model],
                num_trained_on=found[i // per_model].num_trained_on,
                warnings=found[i // per_model].warnings,
            ),
        )
        for i, one in enumerate(evaluations)
    )


def compare_models(
    models: Sequence[Path],
    settings: Settings,
    *,
    graphs: Sequence[str] = (),
    device: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    reporter: Reporter,
) -> Comparison:
    """Evaluate each model file with each shortlist and graph, all on the first one's split.

    Raises what ``Model.evaluate`` raises; a missing file is reported before any work begins.
    """
    are_runs = [ModelFile.at(model).is_checkpoint for model in models]
    reranking = settings.reranking
    split = settings.split(models[0])
    found = settings.overlaps(models, split, reporter)
    for line in dict.fromkeys(line for one in found for line in one.warnings):
        reporter.say(f"warning: {line}")
    measured = evaluate_models(
        models,
        split,
        shortlists=settings.shortlists,
        rerank=reranking,
        graphs=graphs,
        query_file=settings.query_file,
        gallery_file=settings.gallery_file,
        device=device,
        threads=threads,
        batch_size=batch_size,
        reporter=reporter,
    )
    consistencies: Sequence[Finding] = ()
    if any(are_runs):
        consistencies = importlib.import_module(_MAPS).map_consistencies(
            models,
            measured[0].split.query,
            device=device,
            threads=threads,
            batch_size=batch_size or DESCRIBE_BATCH,
            reporter=reporter,
        )
    return Comparison(
        tuple(models),
        _reported(measured, found),
        settings.shortlists,
        tuple(consistencies),
        against_first=len(models) > 1 or len(graphs) > 1 or reranking is not None,
    )
