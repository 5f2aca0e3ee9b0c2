"""Pages hold what they are given as text, never as markup, and ask the network for nothing."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

from reid.report.html_page import embedded_picture, figure, links, page, paragraph, sections, table

HOSTILE = "<script>alert('x')</script>\"&"
ESCAPED = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;"


class Page(HTMLParser):
    """A page as the standard library reads it: what it refers to, its ids, headings, images."""

    REFERRING = ("src", "href", "srcset", "data", "action", "poster", "background")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.images: list[str] = []
        self.tags: list[str] = []
        self.styles = ""
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._open.append(tag)
        self.tags.append(tag)
        self.references += [found[name] for name in self.REFERRING if name in found]
        self.styles += found.get("style", "")
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "img":
            self.images.append(found["src"])
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass  # elements without an end, such as img

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            self.styles += data
            return
        self.words += data
        if "h2" in self._open:
            self.headings[-1] += data

    def outside(self) -> list[str]:
        """What the page needs from elsewhere; nothing for one that stands alone."""
        found = [one for one in self.references if not one.startswith(("#", "data:"))]
        found += [tag for tag in self.tags if tag in ("link", "script", "iframe", "object")]
        return found + re.findall(r"url\([^)]*\)|@import[^;]*", self.styles)


def test_what_a_page_needs_from_elsewhere_is_seen() -> None:
    for piece, needed in (
        ('<img src="a.png">', "a.png"),
        ('<a href="https://x.org/">', "https://x.org/"),
        ('<link rel="stylesheet">', "link"),
        ("<style>body { background: url(a.png) }</style>", "url(a.png)"),
        ('<p style="background: url(b.png)">', "url(b.png)"),
    ):
        assert Page(piece).outside() == [needed]


def test_texts_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    png.write_bytes(b"png")
    pieces = [
        paragraph(HOSTILE),
        paragraph(HOSTILE, "note"),
        table((HOSTILE,), [(HOSTILE,)]),
        embedded_picture(png, HOSTILE),
        figure("image/png", b"png", 9, HOSTILE, HOSTILE),
        links([HOSTILE]),
        page(HOSTILE, []),
        *sections([(HOSTILE, [])]),
    ]
    for piece in pieces:
        assert ESCAPED in piece
        assert "<script" not in piece


def test_names_of_files_become_addresses() -> None:
    assert 'href="a%20%231%3F.png"' in links(["a #1?.png"])


def test_a_figure_holds_its_picture() -> None:
    read = Page(figure("image/jpeg", b"\x00\xff picture", 480, "what it is", "One sentence."))
    (source,) = read.images
    assert base64.b64decode(source.removeprefix("data:image/jpeg;base64,")) == b"\x00\xff picture"
    assert read.outside() == []
    assert "width: 480px" in read.styles
    assert read.words == "One sentence."


def test_the_contents_lead_to_every_section_in_its_order() -> None:
    parts = [("First", ["<p>one</p>"]), ("Second", ["<p>two</p>", "<p>three</p>"])]
    read = Page("".join(sections(parts)))
    assert read.headings == ["First", "Second"]
    assert read.references == [f"#{name}" for name in read.ids]
    assert read.words == "FirstSecondFirstoneSecondtwothree"


def test_a_page_is_light_or_dark_as_the_reader_s_system_and_needs_no_network() -> None:
    text = page("title", ["<p>body</p>"])
    assert "<title>title</title>" in text
    assert "<h1>title</h1>\n<p>body</p>" in text
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text
    assert Page(text).outside() == []


def test_every_colour_of_the_light_page_has_a_dark_one() -> None:
    light, dark = page("title", []).split("@media", 1)
    names = {word.split(":")[0] for word in light.split() if word.startswith("--")}
    assert len(names) >= 6
    assert all(f"{name}: " in dark.partition("body")[0] for name in names)
