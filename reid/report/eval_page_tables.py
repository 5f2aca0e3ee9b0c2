"""The tables on an evaluation's page; each is a section, or nothing without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reid.evaluation.cascade import ShortlistReport
from reid.evaluation.differences import signed
from reid.evaluation.published import published_beside
from reid.evaluation.tables import (
    COLUMNS,
    accepted,
    cautions,
    distance,
    percent,
    points,
    row,
    short_names,
)
from reid.report.html_page import folded, paragraph, table
from reid.types import EvalReport

Part = tuple[str, Sequence[str]]
"""A section: its title and its pieces of HTML."""

_NAMES = tuple(COLUMNS.values())


def retrieval(reports: Sequence[EvalReport], chance: float) -> list[Part]:
    """The random ranking has its own row, with rank-1 only."""
    empty = ("",) * (len(COLUMNS) - 1)
    rows = [*map(row, reports), ("random ranking", percent(chance), *empty)]
    words = ["All results in percent."]
    words += [f"Re-ranked: {one}." for one in sorted({one.reranking for one in reports} - {""})]
    notes = [paragraph(line, "no") for line in cautions(reports)]
    notes += [paragraph(line, "note") for line in words]
    return [("Retrieval", [table(("model", *COLUMNS), rows), *notes])]


def differences(found: Sequence[Mapping[str, Any]], reports: Sequence[EvalReport]) -> list[Part]:
    """Every other model's results minus the first one's; nothing for a single model."""
    if not found:
        return []
    names = {one.model: one.name for one in reports}
    rows = [(names[one["model"]], *(signed(one, name) for name in _NAMES)) for one in found]
    note = f"In percentage points, compared with {names[found[0]['against']]}."
    return [("Differences", [table(("model", *COLUMNS), rows), paragraph(note, "note")])]


def published(measured: EvalReport, asked: Mapping[str, Any] | None) -> list[Part]:
    """Published results with the same protocol, or why there are none if chosen."""
    beside = asked or published_beside(measured).to_json()
    if beside["refused"]:
        line = paragraph(f"Not comparable: {beside['refused']}.")
        return [("Published results", [line])] if asked else []
    rows = [row(measured)]
    rows += [
        [one["method"], *(one["percent"].get(name, "-") for name in _NAMES)]
        for one in beside["rows"]
    ]
    sources = dict.fromkeys(one["source"] for one in beside["rows"])
    notes = [paragraph(line, "note") for line in (beside["note"], *sources) if line]
    return [("Published results", [table(("model", *COLUMNS), rows), *notes])]


def verification(reports: Sequence[EvalReport]) -> list[Part]:
    """Share of positive pairs accepted at a false positive rate, and the distance for it."""
    rows = [
        (
            one.name,
            f"{rate:g}",
            accepted(share),
            distance(one.distance_at.get(rate)),
            distance(one.cosine_at.get(rate)),
        )
        for one in reports
        for rate, share in one.tpr.items()
    ]
    if not rows:
        return []
    head = ("model", "false positive rate", "true positive rate, %", "distance at most", "cosine")
    note = (
        "Pairs up to that distance (minus the score, for a network that compares pairs) are "
        "accepted as the same person; -: too few pairs to measure. For vectors of length 1 the "
        "cosine is 1 - distance^2 / 2: both rank alike."
    )
    limits = [
        f"{one.name}: matches are marked as beyond the limit if farther than {one.limit_words}."
        for one in reports
        if one.limit is not None
    ]
    notes = [paragraph(line, "note") for line in (note, *limits)]
    return [("Verification: the same person or not", [table(head, rows), *notes])]


def camera_pairs(reports: Sequence[EvalReport]) -> list[Part]:
    """Each model's results for each pair of cameras, collapsed."""
    tables = [folded(one.name, [_cameras(one)]) for one in reports if one.camera_pairs]
    note = "Each pair is evaluated separately, in the whole gallery of that camera."
    return [("Pairs of cameras", [paragraph(note, "note"), *tables])] if tables else []


def _cameras(report: EvalReport) -> str:
    rows = [
        (
            f"{pair.query_camera}, {pair.gallery_camera}",
            f"{pair.num_query:,}",
            *map(percent, (pair.rank1, pair.map_step, pair.map_trapezoid)),
        )
        for pair in report.camera_pairs
    ]
    head = ("query camera, gallery camera", "queries", "rank-1", "mAP (step)", "mAP (trapezoid)")
    return table(head, rows)


def costs(reports: Sequence[EvalReport]) -> list[Part]:
    """The time for describing and comparing."""
    rows = []
    for one in reports:
        compared = ("-", "-", "-")
        if one.num_compared:
            rate = one.num_compared / one.compare_s
            compared = (f"{one.num_compared:,}", f"{one.compare_s:.1f} s", f"{rate:,.0f}")
        rows.append((one.name, f"{one.describe_s:.1f} s", *compared))
    head = ("model", "describing images", "pairs compared", "comparing pairs", "pairs/s")
    return [("Time", [table(head, rows)])]


def files(reports: Sequence[EvalReport]) -> list[Part]:
    """The path of each model that is shown by a shorter name."""
    rows = [(one.name, one.model) for one in reports if one.name != one.model]
    return [("Model files", [table(("model", "path"), rows)])] if rows else []


def shortlists(reports: Sequence[EvalReport], cascades: Sequence[ShortlistReport]) -> list[Part]:
    """What shortlists lose and save; nothing without shortlists."""
    title = "Shortlists compared with the whole gallery"
    if cascades:
        rows = [
            (
                one.short.name,
                points(one.rank1_lost),
                points(one.map_step_lost),
                f"{one.pairs_saved:.1%}",
                f"{one.whole.compare_s - one.short.compare_s:.1f} s",
                f"{one.times_as_fast:.1f}",
            )
            for one in cascades
        ]
        head = ("model", "rank-1 lost", "mAP lost", "pairs saved", "time saved", "speed-up")
        note = "Losses in percentage points; mAP is mAP (step); below 0 is a gain."
        return [(title, [table(head, rows), paragraph(note, "note")])]
    if any(0 < one.num_compared < one.num_query * one.num_gallery for one in reports):
        note = "The whole gallery was not compared; add --shortlist 0 to see the losses."
        return [(title, [paragraph(note, "note")])]
    return []


def consistency(found: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Agreement of the two scales' maps of each run; nothing if no run has two scales."""
    if not found:
        return []
    names = short_names([one["model"] for one in found])
    rows = [
        (
            names[one["model"]],
            "-" if one["mean_correlation"] is None else f"{one['mean_correlation']:.3f}",
            f"{one['num_images']:,}",
            f"{one['num_flat']:,}",
        )
        for one in found
    ]
    head = ("run", "mean correlation", "query images", "left out (flat map)")
    note = f"For the maps of one class, {found[0]['class']}. 1: the same region in both scales."
    return [("Consistency of the two scales", [table(head, rows), paragraph(note, "note")])]
