"""Evaluation reports as the text table that ``reid eval`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from reid.types import EvalReport

COLUMNS = {
    "rank-1": "rank1",
    "rank-5": "rank5",
    "rank-10": "rank10",
    "rank-20": "rank20",
    "mAP (step)": "map_step",
    "mAP (trapezoid)": "map_trapezoid",
    "mINP": "minp",
}
"""Head of a column -> what it holds, as ``figure`` takes it."""


def table(reports: Sequence[EvalReport], chance: float | None = None) -> str:
    """The figures in percent, one row per model, under their protocol and counts.

    Models measured on different data or by different protocols stand in tables of their
    own. ``chance`` is ``chance_rank1`` of the split, told where given.
    """
    groups: dict[tuple[object, ...], list[EvalReport]] = {}
    for report in reports:
        key = (
            report.dataset,
            report.protocol,
            report.num_query,
            report.num_gallery,
            report.num_unanswerable,
        )
        groups.setdefault(key, []).append(report)
    return "\n\n".join(
        "\n".join([*heading(group[0], chance), "", *_rows(group), *_comparisons(group)])
        for group in groups.values()
    )


def heading(report: EvalReport, chance: float | None) -> list[str]:
    """Lines that say on what, by which protocol and on how many images it was measured."""
    protocol = report.protocol
    how = "Market protocol, single query"
    if protocol.name == "multi_query":
        how = "Market protocol, multi-query: the mean of a person's images in a camera"
    if protocol.name == "single_shot":
        draws = "1 draw" if protocol.trials == 1 else f"mean and std of {protocol.trials} draws"
        how = f"single-shot, {draws}, seed {protocol.seed}"
    lines = [
        f"{report.dataset or 'features'}: {how}",
        f"{report.num_query:,} queries, {report.num_gallery:,} gallery images",
    ]
    if report.num_unanswerable:
        lines.append(
            "queries without a right image in the gallery, left out of the means: "
            f"{report.num_unanswerable:,}"
        )
    if chance is not None:
        lines.append(f"a random ranking would have rank-1 {100 * chance:.1f} %")
    return lines


def _comparisons(reports: Sequence[EvalReport]) -> list[str]:
    """What it cost networks that compare pairs; nothing for others."""
    lines = [
        f"{one.model}: {one.num_compared:,} pairs compared in {one.compare_s:.1f} s "
        f"({one.num_compared / one.compare_s:,.0f} pairs/s)"
        for one in reports
        if one.compare_s
    ]
    return ["", *lines] if lines else []


def _rows(reports: Sequence[EvalReport]) -> list[str]:
    cells = [["model", *COLUMNS]]
    cells += [[one.model, *(figure(one, name) for name in COLUMNS.values())] for one in reports]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in cells
    ]


def figure(report: EvalReport, name: str) -> str:
    """A figure in percent, with its deviation over trials; ``-`` where there is none."""
    figures = {
        **{f"rank{rank}": value for rank, value in report.cmc.items()},
        "map_step": report.map_step,
        "map_trapezoid": report.map_trapezoid,
        "minp": report.minp,
    }
    text = f"{100 * figures[name]:.1f}" if name in figures else "-"
    return f"{text} ± {100 * report.std[name]:.1f}" if name in report.std else text
