"""Several models on several datasets, as one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.api.evaluation import Comparison, Settings, compare_models
from reid.data.readers.datasets import check_name
from reid.data.readers.joint import folder_of
from reid.errors import InputError
from reid.evaluation.evaluating import datasets_trained_on
from reid.evaluation.tables import aligned, percent
from reid.progress import Reporter

OTHER, UNKNOWN = "*", "?"
"""Marks of a cell: the model was not trained on the dataset; its file does not say on which."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Models x datasets: a ``Comparison`` for each dataset, and what each model was trained on.

    ``trained_on`` is None for a model whose file does not say it.
    """

    models: tuple[Path, ...]
    datasets: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    trained_on: tuple[tuple[str, ...] | None, ...]

    def cross_domain(self, model: int, dataset: str) -> bool | None:
        """Whether a model was not trained on the dataset; None if that is not known."""
        names = self.trained_on[model]
        return None if names is None else dataset not in names

    def summary(
        self, *, camera_pairs: bool = False, published: bool = False
    ) -> tuple[dict[str, Any], str]:
        """All results as plain values, and as text: the table of all, then each dataset's own."""
        each = [
            one.summary(camera_pairs=camera_pairs, published=published) for one in self.comparisons
        ]
        found = {
            "table": self._cells(),
            "datasets": {
                name: values for name, (values, _) in zip(self.datasets, each, strict=True)
            },
        }
        return found, "\n\n".join([self.to_text(), *(words for _, words in each)])

    def to_text(self) -> str:
        """Rank-1 and mAP (step) in percent, a model a row; marks say where it was not trained."""
        cells = self._cells()
        head = ["rank-1 / mAP (step)", *self.datasets]
        rows = [
            [str(cells[at]["model"]), *(_cell(one) for one in cells[at : at + len(self.datasets)])]
            for at in range(0, len(cells), len(self.datasets))
        ]
        lines = aligned([head, *rows])
        if any(one["cross_domain"] for one in cells):
            lines.append(f"{OTHER}: the model was not trained on this dataset")
        if any(one["cross_domain"] is None for one in cells):
            lines.append(f"{UNKNOWN}: the file does not say what it was trained on")
        return "\n".join(lines)

    def _cells(self) -> list[dict[str, Any]]:
        """A row of the table after the other; a model has a row for each graph and shortlist."""
        per_model = len(self.comparisons[0].reports) // len(self.models)
        return [
            {
                "model": report.name,
                "dataset": name,
                "rank1": report.cmc[1],
                "map_step": report.map_step,
                "cross_domain": self.cross_domain(row // per_model, name),
            }
            for row in range(len(self.comparisons[0].reports))
            for name, one in zip(self.datasets, self.comparisons, strict=True)
            for report in [one.reports[row]]
        ]


def compare_on(
    models: Sequence[Path],
    datasets: Sequence[str],
    settings: Settings,
    *,
    graphs: Sequence[str] = (),
    device: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    reporter: Reporter,
) -> Grid:
    """Evaluate each model on each dataset, which lies in ``settings.root``/NAME.

    Raises what ``compare_models`` raises; InputError for a dataset that is named twice, and for
    stored features, which are of one dataset. All folders are looked for before any work begins.

    >>> from reid.api.evaluation import Settings
    >>> (folder / "sets").mkdir()
    >>> (folder / "sets" / "synthetic").symlink_to(people)
    >>> (folder / "sets" / "market1501").symlink_to(people)
    >>> both = ["synthetic", "market1501"]
    >>> grid = compare_on([run], both, Settings("", folder / "sets"), reporter=reid.progress.SILENT)
    >>> grid.cross_domain(0, "synthetic"), grid.cross_domain(0, "market1501")
    (False, True)
    """
    twice = [name for name in datasets if datasets.count(name) > 1]
    if twice:
        raise InputError(f"the dataset {twice[0]} is named twice; name each once")
    if settings.query_file is not None or settings.gallery_file is not None:
        raise InputError(
            f"stored features are of one dataset; found {len(datasets)} ({', '.join(datasets)})"
        )
    for name in datasets:
        check_name(name)
    placed = [
        dataclasses.replace(settings, dataset=name, root=folder_of(name, settings.root))
        for name in datasets
    ]
    comparisons = [
        compare_models(
            models,
            one,
            graphs=graphs,
            device=device,
            threads=threads,
            batch_size=batch_size,
            reporter=reporter,
        )
        for one in placed
    ]
    return Grid(
        tuple(models),
        tuple(datasets),
        tuple(comparisons),
        tuple(datasets_trained_on(model) for model in models),
    )


def _cell(one: dict[str, Any]) -> str:
    mark = {True: OTHER, False: " ", None: UNKNOWN}[one["cross_domain"]]
    return f"{percent(one['rank1'])} / {percent(one['map_step'])} {mark}"
