"""Differences between the results of exported files and of the model they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reid.evaluation.tables import COLUMNS, aligned, figures_of, points
from reid.types import EvalReport


@dataclass(frozen=True, slots=True)
class Difference:
    """A model's results minus those of ``first``, in [-1, 1], by the names in ``COLUMNS``."""

    report: EvalReport
    first: EvalReport
    figures: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {"model": self.report.model, "against": self.first.model, **self.figures}


def differences(reports: Sequence[EvalReport]) -> list[Difference]:
    """Each report's difference from the first one, measured on the same split."""
    found = []
    for report in reports[1:]:
        first, own = figures_of(reports[0]), figures_of(report)
        figures = {name: own[name] - value for name, value in first.items()}
        found.append(Difference(report, reports[0], figures))
    return found


def difference_table(found: Sequence[Difference]) -> list[str]:
    """For the terminal: one paragraph with a line per model; empty without differences."""
    if not found:
        return []
    cells = [["model", *COLUMNS]]
    cells += [
        [one.report.name, *(signed(one.figures, name) for name in COLUMNS.values())]
        for one in found
    ]
    return ["\n".join([f"difference from {found[0].first.name}, in points", *aligned(cells)])]


def signed(figures: Mapping[str, float], name: str) -> str:
    """Percentage points with a sign (``0.00`` has none); ``-`` if there is no such result."""
    return points(figures[name], "+") if name in figures else "-"
