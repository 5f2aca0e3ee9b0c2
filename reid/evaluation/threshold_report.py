"""The thresholds of a model as tables and as plain values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from reid.evaluation.tables import aligned, percent
from reid.model_file.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class Needed:
    """What was asked and cannot be measured: a rate or a gallery's size, and what it needs."""

    what: str
    needs: str


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """The thresholds of one model, and what its data is too small for.

    ``fpir`` is the share of searches for people outside the gallery that have a match: for each
    size of gallery, at the distance of each of ``thresholds.rates``. ``num_same`` counts the pairs
    of one person over two cameras, ``num_searches`` the searches; ``unit_vectors`` says that
    distances are of vectors of length 1.
    """

    thresholds: Thresholds
    num_same: int
    num_searches: int = 0
    fpir: tuple[tuple[int, tuple[float, ...]], ...] = ()
    needed: tuple[Needed, ...] = ()
    unit_vectors: bool = True
    same_track: tuple[int, tuple[float, ...]] | None = None
    """From footage: pairs of one track, and the share within each rate's distance."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "thresholds": dataclasses.asdict(self.thresholds),
            "num_same": self.num_same,
            "num_searches": self.num_searches,
            "cosine": [cosine(one.distance) for one in self.thresholds.rates]
            if self.unit_vectors
            else None,
            "fpir": {
                str(entries): {
                    f"{rate.fpr:g}": share
                    for rate, share in zip(self.thresholds.rates, shares, strict=True)
                }
                for entries, shares in self.fpir
            },
            "needed": [dataclasses.asdict(one) for one in self.needed],
            "same_track_optimistic": None
            if self.same_track is None
            else {"pairs": self.same_track[0], "shares": list(self.same_track[1])},
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """The tables for the terminal."""
        found = self.thresholds
        head = f"{found.source}: {found.people}, {found.num_different:,} pairs of different people"
        if not found.same_camera:
            head += f", {self.num_same:,} of one person over two cameras"
        blocks = [[head, *aligned(self._rates())]]
        if self.fpir or found.searches:
            blocks.append(self._searches())
        lines = [f"{one.what}: needs {one.needs}" for one in self.needed]
        blocks += [part for part in (lines, list(self.notes)) if part]
        return "\n\n".join("\n".join(block) for block in blocks)

    def _rates(self) -> list[list[str]]:
        rates = self.thresholds.rates
        columns = [
            ["FPR", *(f"{one.fpr:g}" for one in rates)],
            ["distance", *(f"{one.distance:.4f}" for one in rates)],
        ]
        if self.unit_vectors:
            columns.append(["cosine", *(f"{cosine(one.distance):.4f}" for one in rates)])
        if any(one.fpr_low is not None for one in rates):
            columns.append(["95 % of FPR", *(_span(one.fpr_low, one.fpr_high) for one in rates)])
        if self.same_track is not None:
            shares = map(percent, self.same_track[1])
            columns.append(["same track, same camera: optimistic, no TPR (%)", *shares])
        else:
            columns.append(["TPR (%)", *(_percent(one.tpr) for one in rates)])
            spans = (f"{_percent(one.tpr_low)}-{_percent(one.tpr_high)}" for one in rates)
            columns.append(["95 % of TPR", *spans])
        return [list(row) for row in zip(*columns, strict=True)]

    def _searches(self) -> list[str]:
        rates = self.thresholds.rates
        cells = [["entries", *(f"at FPR {one.fpr:g}" for one in rates)]]
        cells += [[f"{size:,}", *map(percent, shares)] for size, shares in self.fpir]
        lines = [
            "FPIR in %: searches that have a match although the person is not in the gallery",
            *aligned(cells),
        ]
        for one in self.thresholds.searches:
            lines.append(
                f"{one.entries:,} entries: distance {one.distance:.4f} for an FPIR of "
                f"{one.fpir:.1%} (95 %: {_percent(one.fpir_low)}-{_percent(one.fpir_high)} %)"
            )
        return lines


def cosine(distance: float) -> float:
    """The cosine of two vectors of length 1 at a Euclidean distance: 1 - d^2 / 2."""
    return 1 - distance**2 / 2


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.2g}-{high:.2g}"
