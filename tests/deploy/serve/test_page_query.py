"""Query images on the page, in a real browser: given, boxed, several, kept over a reload."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.serve.queries import HeldQueries
from tests.deploy.serve.browser import Page
from tests.deploy.serve.pages import (
    CARDS,
    FRAME_BOX,
    HOSTILE,
    Filled,
    cards,
    click,
    found,
    frame_of,
    go,
    keep,
    reload,
    search_for,
    searched_by,
    served,
    text,
)

pytestmark = pytest.mark.services


def test_an_image_is_searched_and_filtered(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        assert "20 images · 2 cameras" in text(page, "#about")
        search_for(page, seen.image(3))
        assert len(cards(page)) == 20
        assert HOSTILE in cards(page)[0]  # as text
        assert page.run("document.title") == "Search a gallery"
        keep(page, "serve_search.png")
        searched_by(page, "document.querySelector('#cameras input[value=hall]').click()")
        said = cards(page)
        assert len(said) == 10
        assert all("hall" in card for card in said)
        assert HOSTILE in said[0]
    assert page.complaints == []


def test_a_pasted_image_is_searched(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        page.paste_image(seen.image(4))
        found(page)
        assert "person 4" in cards(page)[0]


@pytest.mark.parametrize("place", ["#drop", "#found"])
def test_a_dropped_file_is_searched_wherever_it_falls(seen: Filled, page: Page, place: str) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        page.drop_file(place, seen.image(5))
        found(page)
        assert "person 5" in cards(page)[0]


def test_a_file_that_is_no_image_is_one_line_and_the_query_stays(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "words.png").write_text("not an image")
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(5))
        page.choose_file("#file", tmp_path / "words.png")
        page.until("!document.getElementById('trouble').hidden")
        assert "cannot show this file" in text(page, "#trouble-words")
        assert "person 5" in cards(page)[0]


def test_a_box_drawn_on_a_frame_finds_the_person_in_it(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "frame.png"), frame_of(7))
    with served(seen, detector=None) as site:
        go(page, site.server.url)
        search_for(page, tmp_path / "frame.png")
        left, top, scale = page.run(
            "(() => { const at = canvas.getBoundingClientRect();"
            " return [at.left, at.top, at.width / canvas.width]; })()"
        )
        x, y, width, height = FRAME_BOX
        page.drag(
            (left + x * scale, top + y * scale),
            (left + (x + width) * scale, top + (y + height) * scale),
        )
        page.until("document.querySelector('.card')?.innerText.includes('person 7')")
        said = page.run("document.querySelector('#box-words').innerText")
        box = [int(word) for word in re.findall(r"\d+", said)]
        assert np.abs(np.array(box) - FRAME_BOX).max() <= 2 / scale
        keep(page, "serve_box.png")
        searched_by(page, "document.querySelector('#whole').click()")
        assert text(page, "#box-words") == "whole image"
    assert page.complaints == []


def test_a_box_can_be_typed_and_one_outside_the_image_is_refused(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "frame.png"), frame_of(6))
    fill = "(box => ['left', 'top', 'width', 'height'].forEach((name, index) => {{ "
    fill += "document.querySelector(`#box-form [name=${{name}}]`).value = box[index]; }}))({})"
    with served(seen, detector=None) as site:
        go(page, site.server.url)
        search_for(page, tmp_path / "frame.png")
        click(page, "#boxing summary")
        page.run(fill.format(list(FRAME_BOX)))
        searched_by(page, "document.querySelector('#box-form button').click()")
        assert "person 6" in cards(page)[0]
        page.run(fill.format([600, 0, 64, 128]))
        click(page, "#box-form button")
        page.until("!document.getElementById('trouble').hidden")
        assert "640 x 480" in text(page, "#trouble-words")


def test_people_found_in_a_frame_can_be_chosen(seen: Filled, page: Page, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "frame.png"), frame_of(7, 2))
    with served(seen) as site:
        go(page, site.server.url)
        page.choose_file("#file", tmp_path / "frame.png")
        page.until("document.querySelectorAll('#people-list button').length == 2")
        assert "2 people" in text(page, "#people-words")
        assert page.run(CARDS) == 0  # the whole frame is no person
        keep(page, "serve_people.png")
        assert page.run("document.activeElement.innerText") == "Person 1"
        page.press("Tab", "Space")  # by keyboard
        found(page)
        assert "person 2" in cards(page)[0]
        chosen = "[...document.querySelectorAll('#people-list button')].map(x => x.ariaPressed)"
        assert page.run(chosen) == ["false", "true"]
        box = page.run("(b => [b.style.left, b.style.top])(document.querySelector('.someone'))")
        assert box == [f"{100 * 400 / 640}%", f"{100 * 200 / 480:.4f}%"]
        searched_by(page, "document.querySelector('.someone').click()")  # by mouse
        assert "person 7" in cards(page)[0]


def test_several_query_images_are_searched_together(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        assert page.run("document.getElementById('queries').hidden")
        search_for(page, seen.image(2))
        assert "to 2 query images" in text(page, "#words")
        first, second = sorted(cards(page)[:2], key=lambda card: "person 2" in card)
        assert "person 1" in first
        assert "person 2" in second
        assert page.run("document.querySelectorAll('#queries li').length") == 2
        keep(page, "serve_two_queries.png")
        searched_by(page, "document.querySelector('[aria-label=\"Remove query 1\"]').click()")
        assert "person 2" in cards(page)[0]
        assert "person 1" not in cards(page)[1]


def test_a_reload_keeps_the_query_and_its_box_in_this_tab_until_it_is_cleared(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "frame.png"), frame_of(7, 2))
    with served(seen) as site:
        go(page, site.server.url)
        page.choose_file("#file", tmp_path / "frame.png")
        page.until("document.querySelectorAll('#people-list button').length == 2")
        searched_by(page, "document.querySelector('#people-list button').click()")
        search_for(page, seen.image(2))
        before = cards(page)
        reload(page)
        page.until("document.querySelectorAll('#queries li').length == 2")
        found(page)
        assert cards(page) == before
        click(page, "#queries .chip")
        assert text(page, "#box-words") == "400, 200, 64 x 128 pixels"
        assert page.run("indexedDB.databases().then(found => found.length)") == 0
        assert page.run("localStorage.length") == 0

        click(page, "#clear")
        page.until(f"{CARDS} == 0")
        page.until("!document.getElementById('choose').hidden")
        reload(page)
        assert not page.run("document.getElementById('choose').hidden")
        assert "iVBOR" not in page.run("JSON.stringify(sessionStorage)")


def test_a_query_too_large_to_keep_is_searched_again_after_a_reload(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1200, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "large.png"), noise)
    assert (tmp_path / "large.png").stat().st_size > 3_500_000
    with served(seen, detector=None) as site:
        go(page, site.server.url)
        search_for(page, tmp_path / "large.png")
        before = cards(page)
        reload(page)
        found(page)
        assert cards(page) == before
        assert page.run("document.getElementById('boxing').hidden")  # the file itself is gone


def test_queries_that_the_server_no_longer_holds_are_sent_again(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        search_for(page, seen.image(2))
        site.server.service.held = HeldQueries()
        searched_by(page, "document.querySelector('#cameras input[value=hall]').click()")
        assert len(cards(page)) == 10
        assert page.run("document.getElementById('trouble').hidden")


@pytest.mark.parametrize(
    ("typed", "shown"), [("500", "200"), ("-3", "1"), ("", "20"), ("2.4", "2")]
)
def test_a_number_of_matches_that_cannot_be_is_set_right(
    seen: Filled, page: Page, typed: str, shown: str
) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        searched_by(
            page,
            f"document.querySelector('#count').value = {typed!r};"
            "document.querySelector('#count').dispatchEvent(new Event('change', {bubbles: true}))",
        )
        assert page.run("document.getElementById('count').value") == shown
        assert "1 to 200" in text(page, "#count-words")
        assert len(cards(page)) == min(20, int(shown))
        assert page.run("document.getElementById('trouble').hidden")
