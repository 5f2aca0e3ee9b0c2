"""Which distance means the same person: measured once, kept in the manifest, used everywhere."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

PAIR_FPR = 1e-3
"""The false positive rate whose distance decides about two images, or two tracks, alone.

[inferred] A camera compares a new track with tens of earlier ones, so that a rate of 1e-2 links two
people every few tracks; lower rates lose most of the links of one person over two cameras.
"""

SEARCH_FPIR = 0.05
"""The share of searches for people outside the gallery that may have a match within the distance.

[inferred] A camera asks for a margin and for several looks besides; with 0.1 one person outside the
gallery still got a name in the trial of tests/benchmarks/bench_names.py. A search shows the matches
beyond the distance too, marked.
"""


LEAST_GALLERY = 100
"""Smaller galleries take the distance of this many images [inferred]: a camera sees the same few
people outside the gallery every day. With that of 30 images one of them got a name in the trial of
tests/benchmarks/bench_names.py."""


@dataclass(frozen=True, slots=True)
class PairRate:
    """Two images up to ``distance`` apart are accepted as one person.

    That is the share ``fpr`` of pairs of different people, and ``tpr`` of one person's pairs over
    two cameras: None where that was not measured. ``low`` and ``high`` are 95 % intervals by
    bootstrap over people, None where there is none.
    """

    fpr: float
    distance: float
    fpr_low: float | None = None
    fpr_high: float | None = None
    tpr: float | None = None
    tpr_low: float | None = None
    tpr_high: float | None = None


@dataclass(frozen=True, slots=True)
class SearchRate:
    """In a gallery of ``entries`` images, the share ``fpir`` of searches for people who are not in
    it has a match up to ``distance``."""

    entries: int
    fpir: float
    distance: float
    fpir_low: float | None = None
    fpir_high: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """The greatest distance that means the same person, and in words where it comes from."""

    distance: float
    words: str
    measured: bool = True


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What was measured of one graph's distances: by which data, of how many people.

    ``fpr`` is the rate that decides about pairs. ``same_camera`` says that all pairs were of one
    camera (own footage), which is easier than over cameras: there is no true positive rate then.
    """

    source: str
    graph: str
    num_people: int
    num_different: int
    fpr: float = PAIR_FPR
    rates: tuple[PairRate, ...] = ()
    searches: tuple[SearchRate, ...] = ()
    same_camera: bool = False

    def rate(self, fpr: float) -> PairRate:
        """The measured rate that is nearest below ``fpr``, or else the lowest that there is."""
        below = [one for one in self.rates if one.fpr <= fpr * (1 + 1e-9)]
        return max(below, key=lambda one: one.fpr) if below else self.rates[-1]

    def for_pairs(self) -> Limit:
        """The limit for two images, or two tracks."""
        one = self.rate(self.fpr)
        return Limit(
            one.distance,
            f"{one.distance:.4f}, up to which {one.fpr:.2g} of the pairs of different people lie "
            f"({self._basis()})",
        )

    def for_gallery(self, entries: int) -> Limit:
        """The limit for a search of a gallery with so many images.

        It is that of the next larger size that was measured, LEAST_GALLERY at least. Without one
        it is that of the largest, and the words say so.
        """
        if not self.searches:
            one = self.rate(0.0)
            return Limit(
                one.distance,
                f"{one.distance:.4f}, up to which {one.fpr:.2g} of the pairs of different people "
                f"lie; the rate of false matches of a search was not measured ({self._basis()})",
            )
        wanted = max(entries, LEAST_GALLERY)
        larger = [one for one in self.searches if one.entries >= wanted]
        search = min(larger, key=lambda one: one.entries) if larger else self.searches[-1]
        words = (
            f"{search.distance:.4f}, up to which {search.fpir:.1%} of searches for people "
            f"outside the gallery have a match among {search.entries:,} images ({self._basis()})"
        )
        if entries > search.entries:
            words += f"; this gallery has {entries:,}, so that more of them do"
        return Limit(search.distance, words)

    @property
    def people(self) -> str:
        """``100 people``; of footage ``27 tracks of one camera``, as one may have several."""
        return f"{self.num_people:,} {'tracks of one camera' if self.same_camera else 'people'}"

    def _basis(self) -> str:
        return f"measured on {self.source}, {self.people}"


def thresholds_from_json(item: Any) -> Thresholds:
    """Raises TypeError, KeyError or AttributeError for anything but a manifest's thresholds."""
    found = Thresholds(
        **{
            **item,
            "rates": tuple(PairRate(**one) for one in item.get("rates", ())),
            "searches": tuple(SearchRate(**one) for one in item.get("searches", ())),
        }
    )
    parts: list[Thresholds | PairRate | SearchRate] = [found, *found.rates, *found.searches]
    for part in parts:
        _require_types(part)
    if not found.rates:
        raise TypeError("thresholds need at least one rate")
    return dataclasses.replace(
        found,
        rates=tuple(sorted(found.rates, key=lambda one: -one.fpr)),
        searches=tuple(sorted(found.searches, key=lambda one: one.entries)),
    )


def _require_types(part: Thresholds | PairRate | SearchRate) -> None:
    for one in dataclasses.fields(part):
        value, kind = getattr(part, one.name), str(one.type)
        if kind in ("str", "bool", "int"):
            right = type(value).__name__ == kind and (kind != "int" or value >= 0)
        elif kind.startswith("float"):
            is_number = type(value) in (int, float) and math.isfinite(value)
            right = is_number or (value is None and kind.endswith("None"))
        else:
            continue
        if not right:
            raise TypeError(f"thresholds: {one.name} must be {kind}, found {value!r}")
