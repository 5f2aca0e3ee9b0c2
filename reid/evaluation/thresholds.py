"""Which distance means the same person: rates of pairs and of searches, and how sure they are.

Pairs and rules are the protocol's (``reid.evaluation.ranking``): true accepts are of one person
over two cameras, false accepts of different people.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reid.errors import DataError
from reid.evaluation.nearest_pairs import NearestPairs, PairCollector
from reid.evaluation.ranking import MarketRules, OtherViewRules, pass_over
from reid.evaluation.scoring import MULTI_SHOT, SINGLE_SHOT
from reid.evaluation.threshold_report import Needed, ThresholdReport
from reid.matching import Matcher
from reid.matching.describing import describe_split
from reid.matching.distances import TILE, Distances
from reid.matching.labels import Labelled, labels_from_records
from reid.model_file.thresholds import PAIR_FPR, SEARCH_FPIR, PairRate, SearchRate, Thresholds
from reid.progress import SILENT, Reporter, ignore
from reid.types import DISTRACTOR_ID, JUNK_ID, FloatArray, IntArray, Protocol, Split

Shares = npt.NDArray[np.float64]

FPRS = (1e-2, 1e-3, 1e-4, 1e-5)
"""The false positive rates of a report."""

LARGEST_FPR = 0.1

ENTRIES = (10, 100, 1_000, 10_000)
"""The sizes of galleries of a report."""

LEAST_FALSE = 10
"""Least number of false accepts that a rate must expect: ten vary by a third of themselves from
one set of pairs to the next, fewer by more than a rate is worth [inferred]."""

LEAST_PEOPLE = 10
"""Least number of people with pairs over two cameras: drawing again from fewer gives intervals
that are too narrow [inferred]."""

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
"""Draws of the bootstrap, and the percentiles of its interval."""

SEED = 0

EQUAL = "distances that differ: too many pairs of different people are equally near"

MOST_PAIRS = 100_000_000
"""With more pairs every n-th query is used: enough for a rate of 1e-5, and a bound on time and
memory (1.2 MB for a million pairs)."""


def thresholds_of(
    matcher: Matcher[Any], split: Split, fpr: float | None = None, reporter: Reporter = SILENT
) -> ThresholdReport:
    """Describe a split's images and measure the model's thresholds on it.

    Raises what ``describe_split`` and ``measure_thresholds`` raise.
    """
    step = -(-len(split.query) * len(split.gallery) // MOST_PAIRS)
    thinned = dataclasses.replace(split, query=split.query[:: max(1, step)])
    described = describe_split(matcher, thinned, reporter)
    seconds = matcher.seconds(described.query, described.gallery)
    num_pairs = len(thinned.query) * len(split.gallery)
    count = reporter.begin("comparing", num_pairs) if seconds else ignore
    report = measure_thresholds(
        matcher.tiles(described.query, described.gallery, count, say=reporter.say),
        labels_from_records(thinned.query),
        labels_from_records(split.gallery),
        split.protocol,
        source=split.dataset,
        graph=matcher.manifest.stage,
        fpr=fpr,
        unit_vectors=isinstance(described.query, np.ndarray),
    )
    if step > 1:
        used = f"{len(thinned.query):,} of {len(split.query):,} queries were used, every {step}th"
        report = dataclasses.replace(report, notes=(*report.notes, used))
    return report


def measure_thresholds(
    distances: Distances,
    query: Labelled,
    gallery: Labelled,
    protocol: Protocol,
    *,
    source: str,
    graph: str,
    fpr: float | None = None,
    unit_vectors: bool = True,
    tile: int = TILE,
) -> ThresholdReport:
    """Measure a model's thresholds on a split, in one pass over the distances.

    ``fpr`` is a rate that must be measured. The (Q, G) distances are never in memory as a whole:
    of the pairs of different people the nearest share is kept. Raises DataError, with the number
    needed, for too few people or a rate that they cannot show.
    """
    rates = tuple(sorted({*FPRS, *([fpr] if fpr else [])}, reverse=True))
    draws = protocol.name in (SINGLE_SHOT, MULTI_SHOT)
    rules: MarketRules = OtherViewRules(gallery) if draws else MarketRules(gallery)
    counted = ~np.isin(query.person_ids, (JUNK_ID, DISTRACTOR_ID))
    collector = PairCollector(counted, len(gallery.person_ids), max(rates))
    pass_over(distances, query, gallery, rules, [collector], tile=tile)
    pairs = collector.found()
    people = len(np.unique(query.person_ids[pairs.same_queries]))
    if people < LEAST_PEOPLE:
        raise DataError(
            f"{source} has {people} people with images in two cameras; thresholds need at least "
            f"{LEAST_PEOPLE}: more people, or your own footage (reid threshold --footage)"
        )
    bootstrap = _Bootstrap(pairs, query, gallery, draws)

    def measured(rate: float) -> PairRate | Needed:
        if rate * pairs.num_different < LEAST_FALSE:
            return _people_needed(rate, pairs.num_different, people)
        return bootstrap.rate(rate)

    found, needed = measured_rates(rates, measured, fpr, source)
    searches, fpir, more = _searches(pairs, bootstrap, found)
    return ThresholdReport(
        Thresholds(
            source=source,
            graph=graph,
            num_people=people,
            num_different=pairs.num_different,
            fpr=fpr or PAIR_FPR,
            rates=found,
            searches=searches,
        ),
        num_same=len(pairs.same),
        num_searches=int(counted.sum()),
        fpir=fpir,
        needed=(*needed, *more),
        unit_vectors=unit_vectors,
    )


def measured_rates(
    rates: Sequence[float],
    measured: Callable[[float], PairRate | Needed],
    fpr: float | None,
    source: str,
) -> tuple[tuple[PairRate, ...], list[Needed]]:
    """The rates that can be measured, and what the others need.

    Raises DataError for ``fpr`` among the others, or without any rate.
    """
    each = {rate: measured(rate) for rate in rates}
    needed = [one for one in each.values() if isinstance(one, Needed)]
    asked = each.get(fpr) if fpr else None
    refused = (
        asked if isinstance(asked, Needed) else needed[0] if len(needed) == len(each) else None
    )
    if refused is not None:
        raise DataError(f"{refused.what} cannot be measured on {source}: needs {refused.needs}")
    return tuple(one for one in each.values() if isinstance(one, PairRate)), needed


def _people_needed(fpr: float, num_different: int, people: int) -> Needed:
    """Pairs grow with the square of the people."""
    pairs = math.ceil(LEAST_FALSE / fpr - 1e-6)
    number = math.ceil(people * math.sqrt(pairs / max(1, num_different)))
    return Needed(
        f"FPR {fpr:g}",
        f"about {number:,} people ({pairs:,} pairs of different people, for {LEAST_FALSE} false "
        f"accepts; found {people:,} people, {num_different:,} pairs)",
    )


def distance_at(ascending: FloatArray, count: int) -> float | None:
    """The greatest distance up to which ``count`` of the values lie at most; None without one.

    Equal values are accepted together or not at all. The values beyond ``count`` may be cut off,
    but for one.
    """
    while 0 < count < len(ascending) and ascending[count] == ascending[count - 1]:
        count = int(np.searchsorted(ascending, ascending[count], side="left"))
    return float(ascending[count - 1]) if 0 < count <= len(ascending) else None


def resampled(num_people: int) -> Shares:
    """(RESAMPLES, num_people): how often each person is drawn, each time as many as there are."""
    rng = np.random.default_rng(SEED)
    even = np.full(num_people, 1 / num_people)
    return rng.multinomial(num_people, even, RESAMPLES).astype(np.float64)


class _Bootstrap:
    """Rates at a distance, and their intervals: people are drawn again, with their images.

    Distractors are of no person and stay. For a search only the sought people are drawn again, the
    gallery stays.
    """

    def __init__(
        self, pairs: NearestPairs, query: Labelled, gallery: Labelled, other_views: bool
    ) -> None:
        self._pairs = pairs
        ids = [one.person_ids for one in (query, gallery)]
        known = np.unique(np.concatenate(ids))
        known = known[~np.isin(known, (JUNK_ID, DISTRACTOR_ID))]
        self._query, self._gallery = (_places(one, known) for one in ids)
        self._weights: Shares = np.concatenate([resampled(len(known)), np.ones((RESAMPLES, 1))], 1)
        self._all = self._all_pairs(query, gallery, other_views)

    def _all_pairs(self, query: Labelled, gallery: Labelled, other_views: bool) -> Shares:
        """(RESAMPLES,): the weight of all pairs of different people."""
        size = self._weights.shape[1]
        asks = self._query < size - 1
        there = gallery.person_ids != JUNK_ID
        sides = [(self._query[asks], query.camera_ids[asks])]
        sides.append((self._gallery[there], gallery.camera_ids[there]))
        cameras = np.unique(np.concatenate([cameras for _, cameras in sides]))
        counts = [np.zeros((size, len(cameras))) for _ in sides]
        for count, (places, own) in zip(counts, sides, strict=True):
            np.add.at(count, (places, np.searchsorted(cameras, own)), 1)
        first, second = counts
        own_pairs = first.sum(1) * second.sum(1)
        weighted = [self._weights @ count for count in counts]
        total = weighted[0].sum(1) * weighted[1].sum(1)
        if other_views:  # no image of the query's camera is ranked
            own_pairs = own_pairs - (first * second).sum(1)
            total = total - (weighted[0] * weighted[1]).sum(1)
        return np.asarray(total - self._weights**2 @ own_pairs, np.float64)

    def rate(self, fpr: float) -> PairRate | Needed:
        """The rates at the distance for ``fpr``, if there is one."""
        pairs = self._pairs
        distance = distance_at(pairs.distances, int(fpr * pairs.num_different * (1 + 1e-12)))
        if distance is None:
            return Needed(f"FPR {fpr:g}", EQUAL)
        number = pairs.up_to(distance)
        falses = self._weight_of_pairs(number)
        fpr_low, fpr_high = np.percentile(falses / np.maximum(self._all, 1), INTERVAL)
        hit = pairs.same <= np.float32(distance)
        owners = self._query[pairs.same_queries]
        size = self._weights.shape[1]
        hits, alls = (np.bincount(some, minlength=size) for some in (owners[hit], owners))
        shares = (self._weights @ hits) / np.maximum(self._weights @ alls, 1)
        tpr_low, tpr_high = np.percentile(shares, INTERVAL)
        return PairRate(
            fpr=fpr,
            distance=distance,
            fpr_low=float(fpr_low),
            fpr_high=float(fpr_high),
            tpr=float(hit.mean()),
            tpr_low=float(tpr_low),
            tpr_high=float(tpr_high),
        )

    def _weight_of_pairs(self, number: int) -> Shares:
        """(RESAMPLES,): the weight of the first pairs of different people."""
        pairs, size = self._pairs, self._weights.shape[1]
        first = self._query[pairs.queries[:number]]
        second = self._gallery[pairs.images[:number]]
        both, counts = np.unique(first * size + second, return_counts=True)
        rows, columns = np.divmod(both, size)
        return np.array([(one[rows] * one[columns]) @ counts for one in self._weights])

    def searches(self, chances: Shares, counted: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """The interval of the mean chance (Q,) of the counted queries."""
        size = self._weights.shape[1]
        owners = self._query[counted]
        sums = np.bincount(owners, weights=chances[counted], minlength=size)
        numbers = np.bincount(owners, minlength=size)
        shares = (self._weights @ sums) / np.maximum(self._weights @ numbers, 1)
        low, high = np.percentile(shares, INTERVAL)
        return float(low), float(high)


def _places(ids: IntArray, known: IntArray) -> IntArray:
    """The place of each identity among the known ones; of others the place after the last."""
    places = np.searchsorted(known, ids)
    found = np.isin(ids, known)
    return np.where(found, places, len(known)).astype(np.int64)


def chances_of_finding(accepted: IntArray, others: IntArray, entries: int) -> Shares:
    """(Q,): the chance that a search finds at least one of its ``accepted`` images.

    Exactly: the gallery is a random choice of ``entries`` of its ``others`` images of other people,
    none of them twice. No assumption of independent pairs is made.
    """
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, others.max(initial=0) + 1)))])
    left = others - accepted - entries
    # C(others - accepted, entries) / C(others, entries): none of the accepted is chosen.
    none = (
        logs[others - accepted] - logs[np.maximum(left, 0)] - logs[others] + logs[others - entries]
    )
    return np.where(left < 0, 1.0, 1 - np.exp(np.minimum(none, 0)))


class _Searches:
    """How often a search for a person outside the gallery has a match, for one size of gallery.

    The gallery is a random choice of other people's images: the sought people are left out. Only
    searches with as many images of other people count.
    """

    def __init__(self, pairs: NearestPairs, bootstrap: _Bootstrap, entries: int) -> None:
        self._pairs, self._bootstrap, self._entries = pairs, bootstrap, entries
        self._counted = pairs.per_query >= entries
        self.number = int(self._counted.sum())
        """How many searches count."""

    def _chances(self, number: int) -> Shares:
        """(Q,): each search's chance to find one of the first ``number`` pairs; 0 for others."""
        per_query = self._pairs.per_query
        accepted = np.bincount(self._pairs.queries[:number], minlength=len(per_query))
        chances = np.zeros(len(per_query))
        chances[self._counted] = chances_of_finding(
            accepted[self._counted].astype(np.int64), per_query[self._counted], self._entries
        )
        return chances

    def fpir(self, distance: float) -> float:
        """The share of searches with a match up to a distance that was kept."""
        return float(self._chances(self._pairs.up_to(distance))[self._counted].mean())

    def rate(self) -> SearchRate | None:
        """The greatest distance that was kept whose FPIR is at most SEARCH_FPIR."""
        low, high = 0, len(self._pairs.distances) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._chances(middle)[self._counted].mean() <= SEARCH_FPIR:
                low = middle
            else:
                high = middle - 1
        distance = distance_at(self._pairs.distances, low)
        if distance is None:
            return None
        chances = self._chances(self._pairs.up_to(distance))
        interval = self._bootstrap.searches(chances, self._counted)
        return SearchRate(self._entries, self.fpir(distance), distance, *interval)


def _searches(
    pairs: NearestPairs, bootstrap: _Bootstrap, rates: Sequence[PairRate]
) -> tuple[tuple[SearchRate, ...], tuple[tuple[int, tuple[float, ...]], ...], list[Needed]]:
    """The distance of each size of gallery, its FPIR at each rate's distance, what is missing."""
    least = math.ceil(LEAST_FALSE / SEARCH_FPIR)
    found, table, needed = [], [], []
    for entries in ENTRIES:
        searches = _Searches(pairs, bootstrap, entries)
        if searches.number < least:
            needed.append(
                Needed(
                    f"FPIR at {entries:,} entries",
                    f"{least} searches with {entries:,} images of other people (found "
                    f"{searches.number} searches; most images {pairs.per_query.max():,})",
                )
            )
            continue
        table.append((entries, tuple(searches.fpir(one.distance) for one in rates)))
        one = searches.rate()
        found += [one] if one else []
    return tuple(found), tuple(table), needed
