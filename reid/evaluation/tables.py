"""Evaluation reports as the text tables that ``reid eval`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import PurePath

from reid.model_file.opening import CHECKPOINT_NAME
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


def percent(share: float) -> str:
    """A share of 1 in percent with two digits, as many as the papers give, and rounded as on paper.

    >>> percent(0.8655), percent(0.86545), percent(0.86555)
    ('86.55', '86.55', '86.56')
    """
    exact = 100 * Decimal(repr(round(float(share), 12)))  # a mean is not its exact digits
    return str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))


def points(difference: float, sign: str = "") -> str:
    """A difference of shares in percentage points, never ``-0.00``; ``sign`` + shows a plus."""
    rounded = Decimal(percent(difference))
    return f"{rounded:{sign}}" if rounded else "0.00"


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Model -> the end of its path that tells it from the others.

    >>> list(short_names(["runs/a/checkpoint.pt", "runs/b", "old/b"]).values())
    ['a/checkpoint.pt', 'runs/b', 'old/b']
    """
    paths = {model: PurePath(model).parts for model in models}

    def end(model: str, length: int) -> str:
        return str(PurePath(*paths[model][-length:]))

    def shortest(model: str) -> str:
        first = 2 if PurePath(model).name.startswith(CHECKPOINT_NAME) else 1
        lengths = range(first, max(first, len(paths[model])) + 1)
        alone = (
            end(model, length)
            for length in lengths
            if all(end(model, length) != end(other, length) for other in paths if other != model)
        )
        return next(alone, model)

    return {model: shortest(model) for model in paths}


def cautions(reports: Iterable[EvalReport]) -> list[str]:
    """Lines on why results may be too good: test images that were trained on, and warnings."""
    lines = []
    for one in reports:
        if one.num_trained_on:
            lines.append(f"{one.name} was trained on {one.num_trained_on:,} of the test images")
        lines += [f"warning: {line}" for line in one.warnings]
    return list(dict.fromkeys(lines))


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
                *_block(cautions(group)),
                *_block(_verification(group)),
                *_block(filter(None, map(_comparisons, group))),
            ]
        )
        for group in groups.values()
    )


def heading(report: EvalReport, chance: float | None) -> list[str]:
    """Lines with the dataset, the protocol and the numbers of images."""
    protocol = report.protocol
    how = protocol.words()
    if protocol.name in ("single_shot", "multi_shot", "any_camera"):
        draws = "1 draw" if protocol.trials == 1 else f"mean and std of {protocol.trials} draws"
        how = f"{how}; {draws}, seed {protocol.seed}"
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
        lines.append(f"rank-1 of a random ranking: {percent(chance)} %")
    return lines


def row(report: EvalReport) -> list[str]:
    """A model's name and its cell in each column."""
    return [report.name, *(figure(report, name) for name in COLUMNS.values())]


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
    text = percent(figures[name]) if name in figures else "-"
    return f"{text} ± {percent(report.std[name])}" if name in report.std else text


def camera_tables(report: EvalReport) -> str:
    """Rank-1, mAP and number of queries per query camera (row) and gallery camera (column)."""
    pairs = {(one.query_camera, one.gallery_camera): one for one in report.camera_pairs}
    rows, columns = (sorted({pair[side] for pair in pairs}) for side in range(2))

    def block(title: str, text: Callable[[CameraPair], str]) -> list[str]:
        def cell(pair: CameraPair | None) -> str:
            return "-" if pair is None else text(pair)

        head = [title, *map(str, columns)]
        body = [[str(q), *(cell(pairs.get((q, g))) for g in columns)] for q in rows]
        return [*aligned([head, *body]), ""]

    return "\n".join(
        [
            f"{report.name}: query cameras in rows, gallery cameras in columns, each pair "
            "evaluated separately",
            *block("rank-1", lambda pair: percent(pair.rank1)),
            *block("mAP (step)", lambda pair: percent(pair.map_step)),
            *block("queries", lambda pair: f"{pair.num_query:,}"),
        ]
    ).rstrip()


COSINE_WORDS = (
    "distances are Euclidean, of vectors of length 1: cosine = 1 - distance^2 / 2, so that both "
    "rank alike and all figures hold for either"
)


def _verification(reports: Sequence[EvalReport]) -> list[str]:
    """TPR of each model at fixed FPRs, and the distance for it; empty if not measured."""
    measured = [report for report in reports if report.tpr]
    if not measured:
        return []
    head = [f"{fpr:.4g}" for fpr in measured[0].tpr]
    cells = [["TPR at FPR", *head]]
    cells += [[report.name, *map(accepted, report.tpr.values())] for report in measured]
    limits = [report for report in measured if report.distance_at]
    if limits:
        cells.append(["distance at FPR", *head])
        cells += [[one.name, *map(distance, one.distance_at.values())] for one in limits]
    cosines = [report for report in limits if report.unit_vectors]
    if cosines:
        cells.append(["cosine at FPR", *head])
        cells += [[one.name, *map(distance, one.cosine_at.values())] for one in cosines]
    too_few = any(None in report.tpr.values() for report in measured)
    return [
        *aligned(cells),
        *(["-: too few pairs to measure"] if too_few else []),
        *([COSINE_WORDS] if cosines else []),
    ]


def accepted(share: float | None) -> str:
    """A true positive rate in percent; ``-`` if not measured."""
    return "-" if share is None else percent(share)


def distance(limit: float | None) -> str:
    """A distance as a threshold; ``-`` if there is none."""
    return "-" if limit is None else f"{limit:.4f}"


def _comparisons(report: EvalReport) -> str:
    """Number and time of the comparisons, for a network that compares pairs; else empty."""
    if not report.compare_s:
        return ""
    return (
        f"{report.name}: {report.num_compared:,} pairs compared in {report.compare_s:.1f} s "
        f"({report.num_compared / report.compare_s:,.0f} pairs/s)"
    )


def _block(lines: Iterable[str]) -> list[str]:
    """The lines, preceded by an empty one; nothing if there are none."""
    found = list(lines)
    return ["", *found] if found else []
