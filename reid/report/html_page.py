"""Self-contained HTML pages in one style, light or dark by the reader's system."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --faint: #57606a;
        --line: #d8dee4; --link: #1f5fa8; --ok: #1a7f37; --no: #9a6700; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1318; --ink: #e3e8ee; --faint: #9aa5b1; --line: #303842;
          --link: #79b0f2; --ok: #56c271; --no: #d9a53f; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
       max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p.lead, p.note { color: var(--faint); margin-top: 0; }
p.note { font-size: .92rem; margin-top: .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
         font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 8rem; }
a { color: var(--link); } ul { padding-left: 1.2rem; }
td code { white-space: pre-wrap; overflow-wrap: anywhere; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
img { max-width: 100%; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
figure { margin: 0; } figcaption { color: var(--faint); font-size: .92rem; margin-top: .3rem; }
figure .wide { text-align: center; }
@media (min-width: 64rem) { figure .wide { margin: 0 calc(30rem - min(47vw, 44rem)); } }
/* On a narrow screen a picture keeps its size, and is moved under its frame. */
@media (max-width: 48rem) { figure img { max-width: none; } }
summary { cursor: pointer; color: var(--link); padding: .2rem 0; overflow-wrap: anywhere; }
nav ul { columns: 2 16rem; padding-left: 1.2rem; margin: .6rem 0; }
code { font: .85em ui-monospace, monospace; }
.ok { color: var(--ok); font-weight: 600; } .no { color: var(--no); }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole page; ``body`` is HTML, the title is text and also the first heading."""
    name = html.escape(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join([f"<h1>{name}</h1>", *body])
        + "\n</body></html>\n"
    )


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of text; ``kind`` is a class of the style: lead, note, ok, no."""
    return f'<p class="{kind}">{html.escape(words)}</p>' if kind else f"<p>{html.escape(words)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first column is left-aligned, the others right-aligned."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    ]
    return f'<div class="wide"><table><tr>{cells}</tr>{"".join(lines)}</table></div>'


def folded(title: str, pieces: Sequence[str]) -> str:
    """Pieces of HTML that are collapsed until a click on their title."""
    return f"<details><summary>{html.escape(title)}</summary>{''.join(pieces)}</details>"


def embedded_picture(png: Path, words: str) -> str:
    """A PNG file, embedded."""
    encoded = base64.b64encode(png.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{encoded}">'


def figure(media_type: str, data: bytes, width: int, words: str, caption: str) -> str:
    """An embedded image, up to ``width`` CSS pixels wide, with a caption.

    It may be wider than the text. ``words`` are its alternative text.
    """
    encoded = base64.b64encode(data).decode("ascii")
    image = (
        f'<img alt="{html.escape(words)}" style="width: {width}px" '
        f'src="data:{html.escape(media_type)};base64,{encoded}">'
    )
    return (
        f'<figure><div class="wide">{image}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def sections(parts: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """A table of contents, then the parts (title, pieces of HTML)."""
    entries = "".join(
        f'<li><a href="#part{i}">{html.escape(title)}</a></li>'
        for i, (title, _) in enumerate(parts, 1)
    )
    body = [f'<nav aria-label="Contents"><ul>{entries}</ul></nav>']
    for i, (title, pieces) in enumerate(parts, 1):
        body += [f'<h2 id="part{i}">{html.escape(title)}</h2>', *pieces]
    return body


def links(names: Sequence[str]) -> str:
    """A list of files, relative to the page's folder."""
    items = "".join(
        f'<li><a href="{html.escape(quote(name))}"><code>{html.escape(name)}</code></a></li>'
        for name in names
    )
    return f"<ul>{items}</ul>"
