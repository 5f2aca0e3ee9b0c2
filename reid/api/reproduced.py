"""A reproduced table: means and deviations between splits beside the paper's figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reid.evaluation.tables import aligned, percent

FIGURES = {"rank-1": "rank1", "rank-5": "rank5", "rank-10": "rank10", "mAP (step)": "map_step"}
"""Column -> name of the figure."""


@dataclass(frozen=True, slots=True)
class ReproducedRow:
    """A row of the table: the figures of each split that is done, shares of 1.

    ``draws_std`` is each split's deviation of rank-1 between draws of its gallery. ``published``
    are the paper's figures in percent, with its digits, if the protocol is the same; otherwise
    ``refused`` says why not. ``hours`` is training alone.
    """

    name: str
    steps: int
    paper_steps: int
    hours: float
    figures: tuple[Mapping[str, float], ...]
    draws_std: tuple[float, ...]
    published: Mapping[str, str]
    refused: str

    @property
    def num_splits(self) -> int:
        """Splits that are done."""
        return len(self.figures)

    def mean(self, name: str) -> float:
        """The mean over splits; NaN without one."""
        return statistics.fmean(one[name] for one in self.figures) if self.figures else math.nan

    def std(self, name: str) -> float | None:
        """The sample deviation between splits; None for fewer than two."""
        if self.num_splits < 2:
            return None
        return statistics.stdev(one[name] for one in self.figures)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        done = self.figures
        return {
            "name": self.name,
            "steps": self.steps,
            "paper_steps": self.paper_steps,
            "hours": round(self.hours, 3),
            "splits": self.num_splits,
            "mean": {name: self.mean(name) for name in FIGURES.values()} if done else {},
            "std_between_splits": {name: self.std(name) for name in FIGURES.values()}
            if done
            else {},
            "each": [dict(one) for one in done],
            "std_between_draws": list(self.draws_std),
            "published": dict(self.published),
            "not_comparable": self.refused,
        }


@dataclass(frozen=True, slots=True)
class ReproducedTable:
    """A paper's table, trained with ``share`` of its steps; ``complete`` if every split is done.

    ``unit`` is what the splits are: ``split``, or ``seed`` where the dataset has its own split.
    """

    title: str
    share: float
    rows: tuple[ReproducedRow, ...]
    complete: bool
    unit: str = "split"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.title,
            "share_of_steps": self.share,
            "complete": self.complete,
            "unit": self.unit,
            "rows": [row.to_json() for row in self.rows],
        }

    def to_text(self) -> str:
        """The table in percent: mean ± deviation between splits, and the paper's below each."""
        head = ["", *FIGURES, f"{self.unit}s", "steps", "hours"]
        cells = [head]
        for row in self.rows:
            own = [_cell(row, name) for name in FIGURES.values()]
            cells.append(
                [row.name, *own, str(row.num_splits), f"{row.steps:,}", f"{row.hours:.2f}"]
            )
            if row.published:
                paper = [row.published.get(name, "-") for name in FIGURES.values()]
                cells.append(["  the paper", *paper, "", f"{row.paper_steps:,}", ""])
        lines = [self.title, "", *aligned(cells), ""]
        lines.append(f"± is the deviation between {self.unit}s; one {self.unit} has none")
        if self.share < 1:
            lines.append(f"trained with {percent(self.share)} % of the schedules' steps")
        lines += dict.fromkeys(
            f"not comparable with the paper: {row.refused}" for row in self.rows if row.refused
        )
        if not self.complete:
            lines.append("not complete: the same command goes on")
        return "\n".join(lines)


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The table's figures of an evaluation's JSON."""
    return {
        name: float(report["cmc"][name] if name in report["cmc"] else report[name])
        for name in FIGURES.values()
    }


def _cell(row: ReproducedRow, name: str) -> str:
    if not row.figures:
        return "-"
    std = row.std(name)
    return percent(row.mean(name)) + (f" ± {percent(std)}" if std is not None else "")
