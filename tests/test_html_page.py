"""Pages hold what they are given as text, never as markup, and ask the network for nothing."""

from __future__ import annotations

from pathlib import Path

from reid.html_page import embedded_picture, linked_picture, links, page, paragraph, table

HOSTILE = "<script>alert('x')</script>\"&"
ESCAPED = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;"


def test_texts_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    png.write_bytes(b"png")
    pieces = [
        paragraph(HOSTILE),
        paragraph(HOSTILE, "note"),
        table((HOSTILE,), [(HOSTILE,)]),
        embedded_picture(png, HOSTILE),
        linked_picture("a.png", HOSTILE),
        links([HOSTILE]),
        page(HOSTILE, []),
    ]
    for piece in pieces:
        assert ESCAPED in piece
        assert "<script" not in piece


def test_names_of_files_become_addresses() -> None:
    assert 'href="a%20%231%3F.png"' in links(["a #1?.png"])
    assert 'src="a%20%231%3F.png"' in linked_picture("a #1?.png", "")


def test_a_page_is_light_or_dark_as_the_reader_s_system_and_needs_no_network() -> None:
    text = page("title", ["<p>body</p>"])
    assert "<title>title</title>" in text
    assert "<h1>title</h1>\n<p>body</p>" in text
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text
    assert "url(" not in text


def test_every_colour_of_the_light_page_has_a_dark_one() -> None:
    light, dark = page("title", []).split("@media", 1)
    names = {word.split(":")[0] for word in light.split() if word.startswith("--")}
    assert len(names) >= 6
    assert all(f"{name}: " in dark.partition("body")[0] for name in names)
