"""Loss of accuracy and saving of time by a shortlist, against comparing the whole gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reid.evaluation.tables import points
from reid.types import EvalReport


@dataclass(frozen=True, slots=True)
class ShortlistReport:
    """One model's results when it compares the whole gallery, and only the shortlist."""

    whole: EvalReport
    short: EvalReport

    @property
    def rank1_lost(self) -> float:
        """Rank-1 with the whole gallery minus rank-1 with the shortlist, in [-1, 1]."""
        return self.whole.cmc[1] - self.short.cmc[1]

    @property
    def map_step_lost(self) -> float:
        """The same difference for mAP (step)."""
        return self.whole.map_step - self.short.map_step

    @property
    def pairs_saved(self) -> float:
        """Share of the comparisons that the shortlist avoids, in [0, 1]."""
        return 1 - self.short.num_compared / self.whole.num_compared

    @property
    def times_as_fast(self) -> float:
        """Time to compare the whole gallery divided by time to compare the shortlist."""
        return self.whole.compare_s / self.short.compare_s

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {
            "model": self.short.model,
            "against": self.whole.model,
            "rank1_lost": self.rank1_lost,
            "map_step_lost": self.map_step_lost,
            "pairs_saved": self.pairs_saved,
            "times_as_fast": self.times_as_fast,
        }


def savings(cascades: Sequence[ShortlistReport]) -> list[str]:
    """For the terminal: one paragraph with a line per shortlist; empty without shortlists."""
    lines = [
        f"{one.short.name}: loses {points(one.rank1_lost)} points of rank-1 and "
        f"{points(one.map_step_lost)} of mAP (step); saves {one.pairs_saved:.1%} of the "
        f"comparisons, {one.times_as_fast:.1f} times as fast"
        for one in cascades
    ]
    return ["\n".join(["against the whole gallery", *lines])] if lines else []


def cascades(reports: Sequence[EvalReport], shortlists: Sequence[int]) -> list[ShortlistReport]:
    """Each shortlist with its model's whole-gallery report; empty if that was not measured.

    ``reports`` are from ``evaluate_models`` with ``shortlists``, where 0 is the whole gallery.
    """
    if 0 not in shortlists:
        return []
    found = []
    for start in range(0, len(reports), len(shortlists)):
        of_model = reports[start : start + len(shortlists)]
        whole = of_model[shortlists.index(0)]
        found += [
            ShortlistReport(whole, one)
            for one, best in zip(of_model, shortlists, strict=True)
            if best
        ]
    return found
