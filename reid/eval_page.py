"""The page of an evaluation: its figures, what they cost, and the pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid import __version__
from reid.cascade import Cascade, points
from reid.files import write_text
from reid.html_page import linked_picture, links, page, paragraph, table
from reid.tables import COLUMNS, figure, heading
from reid.types import EvalReport

RANKED, SIMILARITIES = "ranked.png", "similarities.png"
"""The pictures' names in a report's folder."""


def write_report(
    folder: Path,
    found: Mapping[str, Any],
    reports: Sequence[EvalReport],
    cascades: Sequence[Cascade] = (),
    *,
    not_drawn: str = "",
) -> Path:
    """Write ``report.json`` and, last, the page over it and the pictures in ``folder``.

    ``found`` is what ``reid eval --json`` prints of ``reports``; ``not_drawn`` says why there
    are no similarity maps where they could be expected. Returns the page's path. Raises
    OutputError.
    """
    write_text(folder / "report.json", json.dumps(found, indent=2) + "\n")
    drawn = [name for name in (RANKED, SIMILARITIES) if (folder / name).is_file()]
    body = [
        paragraph("; ".join(heading(reports[0], None)), "lead"),
        "<h2>Retrieval</h2>",
        _figures(reports, found["chance_rank1"]),
        "<h2>What it cost</h2>",
        _costs(reports),
        *_shortlists(reports, cascades),
        *_pictures(reports[0].model, drawn, not_drawn),
        "<h2>What is here</h2>",
        links(["report.json", *drawn]),
        paragraph(f"reid {__version__}", "note"),
    ]
    target = folder / "index.html"
    write_text(target, page(f"Evaluation on {reports[0].dataset}", body))
    return target


def _figures(reports: Sequence[EvalReport], chance: float) -> str:
    """Chance has a row of its own; only its rank-1 is known."""
    rows = [(one.model, *(figure(one, name) for name in COLUMNS.values())) for one in reports]
    empty = ("",) * (len(COLUMNS) - 1)
    note = paragraph("All figures in percent.", "note")
    return table(("model", *COLUMNS), [*rows, ("chance", f"{100 * chance:.1f}", *empty)]) + note


def _costs(reports: Sequence[EvalReport]) -> str:
    rows = []
    for one in reports:
        compared = ("-", "-", "-")
        if one.num_compared:
            rate = one.num_compared / one.compare_s
            compared = (f"{one.num_compared:,}", f"{one.compare_s:.1f} s", f"{rate:,.0f}")
        rows.append((one.model, f"{one.describe_s:.1f} s", *compared))
    return table(("model", "describing", "pairs compared", "comparing", "pairs/s"), rows)


def _shortlists(reports: Sequence[EvalReport], cascades: Sequence[Cascade]) -> list[str]:
    """What shortlists lose and save; nothing where there are none."""
    title = "<h2>Shortlists against the whole gallery</h2>"
    if cascades:
        rows = [
            (
                one.short.model,
                points(one.rank1_lost),
                points(one.map_step_lost),
                f"{one.pairs_saved:.1%}",
                f"{one.whole.compare_s - one.short.compare_s:.1f} s",
                f"{one.times_as_fast:.1f}",
            )
            for one in cascades
        ]
        head = ("model", "rank-1 lost", "mAP lost", "pairs saved", "time saved", "times as fast")
        note = "Losses in percentage points, of mAP (step); below 0 is a gain."
        return [title, table(head, rows), paragraph(note, "note")]
    if any(0 < one.num_compared < one.num_query * one.num_gallery for one in reports):
        note = "The whole gallery was not compared: --shortlist 0 beside the others tells."
        return [title, paragraph(note, "note")]
    return []


def _pictures(model: str, drawn: Sequence[str], not_drawn: str) -> list[str]:
    body = [
        "<h2>Query images and their nearest gallery images</h2>",
        linked_picture(RANKED, "ranked lists: query, then its nearest gallery images"),
        paragraph(f"As {model} ranks them.", "note"),
    ]
    if SIMILARITIES in drawn:
        words = (
            "Outlined: the parts that the network attends to, one colour per level. Warm: where "
            "the query's parts of a level find their like in the gallery image (correlations, "
            "mean over channels and stripes). A level has one scale of colours in each row; "
            "'up to' is a panel's greatest value."
        )
        body += [
            "<h2>What was compared</h2>",
            linked_picture(SIMILARITIES, "attended parts and similarity maps of each level"),
            paragraph(words, "note"),
        ]
    elif not_drawn:
        body += ["<h2>What was compared</h2>", paragraph(not_drawn, "note")]
    return body
