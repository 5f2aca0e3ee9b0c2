"""The page of an evaluation: results, differences, costs and pictures in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid import __version__
from reid.evaluation.cascade import ShortlistReport
from reid.evaluation.tables import heading
from reid.files import write_text
from reid.report.drawing import Picture, smallest
from reid.report.eval_page_tables import (
    camera_pairs,
    consistency,
    costs,
    differences,
    files,
    published,
    retrieval,
    shortlists,
    verification,
)
from reid.report.html_page import figure, page, paragraph, sections
from reid.types import EvalReport


def write_report(
    folder: Path,
    found: Mapping[str, Any],
    reports: Sequence[EvalReport],
    cascades: Sequence[ShortlistReport] = (),
    *,
    pictures: Sequence[Picture] = (),
    not_drawn: Sequence[str] = (),
) -> Path:
    """Write ``report.json`` and, last, the self-contained page.

    ``found`` is what ``reid eval --json`` prints for ``reports``; ``pictures`` are put on the
    page; ``not_drawn`` has a line for each picture left out, with the reason. Returns the page's
    path. Raises
    OutputError.
    """
    write_text(folder / "report.json", json.dumps(found, indent=2) + "\n")
    names = ["report.json", *(picture.name for picture in pictures)]
    text = eval_page(found, reports, cascades, pictures=pictures, not_drawn=not_drawn, beside=names)
    target = folder / "index.html"
    write_text(target, text)
    return target


def eval_page(
    found: Mapping[str, Any],
    reports: Sequence[EvalReport],
    cascades: Sequence[ShortlistReport] = (),
    *,
    pictures: Sequence[Picture] = (),
    not_drawn: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> str:
    """The page's self-contained HTML; ``beside`` are the files listed on it."""
    parts = [
        *retrieval(reports, found["chance_rank1"]),
        *differences(found.get("differences", ()), reports),
        *published(reports[0], found.get("published")),
        *shortlists(reports, cascades),
        *consistency(found.get("map_consistency", ())),
        *verification(reports),
        *((one.title, [_picture(one)]) for one in pictures),
        *([("Not drawn", [paragraph(line) for line in not_drawn])] if not_drawn else []),
        *camera_pairs(reports),
        *costs(reports),
        *files(reports),
    ]
    lead = heading(reports[0], None) + ([found["split"]] if found.get("split") else [])
    others = f"Other files in this folder: {', '.join(beside)}. " if beside else ""
    body = [
        paragraph("; ".join(lead), "lead"),
        *sections(parts),
        paragraph(f"{others}reid {__version__}", "note"),
    ]
    return page(f"Evaluation on {reports[0].dataset}", body)


def _picture(picture: Picture) -> str:
    """At half its size: pictures are drawn for high-resolution screens."""
    media_type, data = smallest(picture.image)
    return figure(media_type, data, picture.image.shape[1] // 2, picture.title, picture.caption)
