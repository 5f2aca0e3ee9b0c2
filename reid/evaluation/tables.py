"""Evaluation reports as the text tables that ``reid eval`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reid.types import CameraPair, EvalReport

COLUMNS = {
    "rank-1": "rank1",
    "rank-5": "rank5",
    "rank-10": "rank10",
    "rank-20": "rank20",
    "mAP (step)": "map_step",
    "mAP (trapezoid)": "map_trapezoid",
    "mINP": "minp",
}
"""Column heading -> name of the result, as in ``figure``."""


def table(reports: Sequence[EvalReport], chance: float | None = None) -> str:
    """The results in percent, one row per model, under their protocol and counts.

    Models measured on different data or with different protocols are in separate tables.
    ``chance`` is ``chance_rank1`` of the split, printed if given.
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
        "\n".join(
            [
                *heading(group[0], chance),
                "",
                *aligned([["model", *COLUMNS], *map(row, group)]),
                *_block(_verification(group)),
                *_block(filter(None, map(_comparisons, group))),
            ]
        )
        for group in groups.values()
    )


def heading(report: EvalReport, chance: float | None) -> list[str]:
    """Lines with the dataset, the protocol and the numbers of images."""
    protocol = report.protocol
    how = "Market protocol, single query"
    if protocol.name == "multi_query":
        how = "Market protocol, multi-query: the mean of a person's images in a camera"
    if protocol.name in ("single_shot", "multi_shot"):
        shots = "single-shot"
        if protocol.name == "multi_shot":
            shots = f"multi-shot: the nearest of a person's {protocol.shots} random images"
        draws = "1 draw" if protocol.trials == 1 else f"mean and std of {protocol.trials} draws"
        how = f"{shots}, {draws}, seed {protocol.seed}"
    lines = [
        f"{report.dataset or 'features'}: {how}",
        f"{report.num_query:,} queries, {report.num_gallery:,} gallery images",
    ]
    if report.num_unanswerable == report.num_query:
        lines.append("no query has a correct match in the gallery: all results are 0")
    elif report.num_unanswerable:
        lines.append(
            "queries without a correct match in the gallery, excluded from the means: "
            f"{report.num_unanswerable:,}"
        )
    if chance is not None:
        lines.append(f"rank-1 of a random ranking: {100 * chance:.1f} %")
    return lines


def row(report: EvalReport) -> list[str]:
    """A model's name and its cell in each column."""
    return [report.model, *(figure(report, name) for name in COLUMNS.values())]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of text: the first column left-aligned, all others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [
                cells_of_row[0].ljust(widths[0]),
                *(
                    cell.rjust(width)
                    for cell, width in zip(cells_of_row[1:], widths[1:], strict=True)
                ),
            ]
        )
        for cells_of_row in cells
    ]


def figures_of(report: EvalReport) -> Mapping[str, float]:
    """A report's results by the names in ``COLUMNS``."""
    return {
        **{f"rank{rank}": value for rank, value in report.cmc.items()},
        "map_step": report.map_step,
        "map_trapezoid": report.map_trapezoid,
        "minp": report.minp,
    }


def figure(report: EvalReport, name: str) -> str:
    """A result in percent, with its standard deviation over trials; ``-`` if not measured."""
    figures = figures_of(report)
    text = f"{100 * figures[name]:.1f}" if name in figures else "-"
    return f"{text} ± {100 * report.std[name]:.1f}" if name in report.std else text


def camera_tables(report: EvalReport) -> str:
    """Rank-1, mAP and number of queries per query camera (row) and gallery camera (column)."""
    pairs = {(one.query_camera, one.gallery_camera): one for one in report.camera_pairs}
    rows, columns = (sorted({pair[side] for pair in pairs}) for side in range(2))

    def block(title: str, cell: str, scale: float, name: str) -> list[str]:
        def text(pair: CameraPair | None) -> str:
            return "-" if pair is None else format(scale * getattr(pair, name), cell)

        head = [title, *map(str, columns)]
        body = [[str(q), *(text(pairs.get((q, g))) for g in columns)] for q in rows]
        return [*aligned([head, *body]), ""]

    return "\n".join(
        [
            f"{report.model}: query cameras in rows, gallery cameras in columns, each pair "
            "evaluated separately",
            *block("rank-1", ".1f", 100, "rank1"),
            *block("mAP (step)", ".1f", 100, "map_step"),
            *block("queries", ",", 1, "num_query"),
        ]
    ).rstrip()


def _verification(reports: Sequence[EvalReport]) -> list[str]:
    """TPR of each model at fixed FPRs; empty if not measured."""
    measured = [report for report in reports if report.tpr]
    if not measured:
        return []
    cells = [["TPR at FPR", *(f"{fpr:.4g}" for fpr in measured[0].tpr)]]
    for report in measured:
        rates = ("-" if tpr is None else f"{100 * tpr:.1f}" for tpr in report.tpr.values())
        cells.append([report.model, *rates])
    too_few = any(None in report.tpr.values() for report in measured)
    return [*aligned(cells), *(["-: too few pairs to measure"] if too_few else [])]


def _comparisons(report: EvalReport) -> str:
    """Number and time of the comparisons, for a network that compares pairs; else empty."""
    if not report.compare_s:
        return ""
    return (
        f"{report.model}: {report.num_compared:,} pairs compared in {report.compare_s:.1f} s "
        f"({report.num_compared / report.compare_s:,.0f} pairs/s)"
    )


def _block(lines: Iterable[str]) -> list[str]:
    """The lines, preceded by an empty one; nothing if there are none."""
    found = list(lines)
    return ["", *found] if found else []
