"""Search results as a table, as JSON, or as a page with pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import DataError
from reid.model_file.thresholds import Limit
from reid.printing import printable
from reid.report.html_page import page, paragraph

from .gallery import GalleryEntry, Match
from .pictures import picture_of
from .times import position_text, text_from_seconds

_HEAD = ("rank", "distance", "limit", "person", "camera", "time", "source")

WITHIN, BEYOND = "within", "beyond"
"""How a match is marked: up to the limit it means the same person, beyond it it need not."""

_STYLE = """<style>
.ranked { display: flex; flex-wrap: wrap; gap: .9rem; align-items: flex-start; }
.ranked figure { width: 7.5rem; margin: 0; font-size: .8rem; overflow-wrap: anywhere; }
.ranked img, .ranked .none { width: 7.5rem; height: 15rem; object-fit: contain; }
.ranked .none { display: grid; place-items: center; color: var(--faint);
                border: 1px dashed var(--line); border-radius: 6px; box-sizing: border-box; }
.ranked .query { border-right: 3px solid var(--line); padding-right: .9rem; }
.ranked .beyond img { opacity: .55; }
.ranked figcaption { color: var(--faint); } .ranked b { color: var(--ink); }
</style>"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A query and its matches."""

    query: GalleryEntry
    matches: Sequence[Match]


def limit_to_json(limit: Limit) -> dict[str, Any]:
    """The limit, in words too; ``measured`` is false for a guess."""
    return {"distance": limit.distance, "measured": limit.measured, "words": limit.words}


def limit_words(limit: Limit) -> str:
    """The line under a search's matches."""
    return f"{WITHIN}, {BEYOND}: a distance of {limit.words}"


def to_json(match: Match, limit: Limit) -> dict[str, Any]:
    """Plain values; unknown ones are null. ``within``: the distance is up to the limit.

    The id is a text: a browser rounds numbers of 64 bits.
    """
    one = match.entry
    return {
        "id": str(match.id),
        "distance": match.distance,
        "within": match.distance <= limit.distance,
        "person": one.person or None,
        "camera": one.camera or None,
        "time": text_from_seconds(one.time_s) or None,
        "source": one.source,
        "box": list(one.box) if one.box else None,
        "frame": one.frame,
        "seconds": one.seconds,
        "track": one.track,
        "run": one.run or None,
    }


def _mark(match: Match, limit: Limit) -> str:
    return WITHIN if match.distance <= limit.distance else BEYOND


def text_of(answers: Sequence[Answer], limit: Limit) -> str:
    """A table for each query, and the limit by which matches are marked."""
    blocks = []
    for answer in answers:
        rows: list[tuple[str, ...]] = [_HEAD]
        for rank, match in enumerate(answer.matches, 1):
            one = match.entry
            known = (one.person, one.camera, text_from_seconds(one.time_s))
            words = (printable(word) or "-" for word in (*known, _place(one)))
            rows.append((str(rank), f"{match.distance:.4f}", _mark(match, limit), *words))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
        lines = [printable(answer.query.source)]
        lines += [
            "  ".join([*(w.ljust(n) for w, n in zip(row, widths, strict=False)), row[-1]])
            for row in rows
        ]
        blocks.append("\n".join(lines if answer.matches else [lines[0], "nothing found"]))
    marked = any(answer.matches for answer in answers)
    return "\n\n".join([*blocks, *([limit_words(limit)] if marked else [])])


def page_of(
    answers: Sequence[Answer],
    title: str,
    note: str,
    known: Callable[[int], GalleryEntry | None],
    limit: Limit,
) -> str:
    """A self-contained page: each query with its matches, nearest first.

    ``known`` gives the entry of an id with its picture; matches beyond the limit are marked.
    """
    body = [_STYLE, paragraph(note, "lead"), paragraph(limit_words(limit), "note")]
    for answer in answers:
        body.append(f"<h2>{html.escape(Path(answer.query.source).name)}</h2>")
        cells = [_figure(answer.query, "query", "<b>query</b>")]
        for rank, match in enumerate(answer.matches, 1):
            one = known(match.id) or match.entry
            words = [one.person, f"camera {one.camera}" if one.camera else ""]
            words.append(text_from_seconds(one.time_s))
            if one.seconds is not None:
                words.append(f"{Path(one.source).name} at {position_text(one.seconds)}")
            lines = [
                f"<b>{rank}</b> · {match.distance:.4f} · {_mark(match, limit)}",
                *map(html.escape, filter(None, words)),
            ]
            beyond = "" if match.distance <= limit.distance else "beyond"
            cells.append(_figure(one, beyond, "<br>".join(lines)))
        body.append(f'<div class="ranked">{"".join(cells)}</div>')
        if not answer.matches:
            body.append(paragraph("Nothing found.", "note"))
    # A file's name may not be valid UTF-8, which a page must be.
    return page(title, body).encode("utf-8", "replace").decode()


def _place(entry: GalleryEntry) -> str:
    """The source, the box in it, and the place in a video."""
    box = ",".join(map(str, entry.box)) if entry.box else ""
    at = f"at {position_text(entry.seconds)}" if entry.seconds is not None else ""
    frame = f"(frame {entry.frame})" if entry.frame is not None else ""
    return " ".join(filter(None, (entry.source, box, at, frame)))


def _figure(entry: GalleryEntry, kind: str, caption: str) -> str:
    name = html.escape(entry.source)
    try:
        encoded = base64.b64encode(picture_of(entry)).decode("ascii")
        image = f'<img alt="{name}" title="{name}" src="data:image/jpeg;base64,{encoded}">'
    except DataError:
        image = f'<div class="none" title="{name}">no picture</div>'
    return f'<figure class="{kind}">{image}<figcaption>{caption}</figcaption></figure>'
