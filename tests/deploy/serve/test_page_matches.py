"""Matches on the page, in a real browser: verdicts, one large, groups, evidence, the keyboard."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.serve.browser import Page
from tests.deploy.serve.pages import (
    CARDS,
    FRAME_BOX,
    Filled,
    cards,
    click,
    filled_in,
    found,
    go,
    keep,
    search_for,
    searched_by,
    served,
    text,
)

pytestmark = pytest.mark.services

SAID = "[...document.querySelectorAll('.card')].map(card => card.dataset.said || '')"


@pytest.fixture
def seen(tmp_path: Path) -> Filled:
    """A gallery without verdicts."""
    return filled_in(tmp_path)


def focused(page: Page) -> str:
    """The name of the focused element, as a screen reader says it."""
    said: str = page.run(
        "(e => e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText)"
        "(document.activeElement)"
    )
    return said


def test_a_verdict_is_kept_shown_and_taken_back(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        click(page, ".card .yes")
        page.until(f"{SAID}[0] == 'same'")
        click(page, ".card:nth-child(2) .no")
        page.until(f"{SAID}[1] == 'different'")
        assert [one.same for one in seen.gallery.confirmed()] == [True, False]
        keep(page, "serve_verdicts.png")
        searched_by(page, "document.querySelector('#search').click()")
        assert page.run(SAID)[:3] == ["same", "different", ""]

        click(page, ".card .undo")
        page.until(f"{SAID}[0] == ''")
        click(page, ".card:nth-child(2) .no")  # pressed again it is taken back, too
        page.until(f"{SAID}[1] == ''")
        assert [one.same for one in seen.gallery.confirmed()][2:] == [None, None]
    assert page.complaints == []


def test_every_button_of_a_match_has_a_name_of_its_own(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        names = page.run(
            "[...document.querySelectorAll('#matches button')]"
            ".map(button => button.getAttribute('aria-label'))"
        )
        assert len(set(names)) == len(names) == 5 * 20
        assert "Same as the query: match 3" in names
        assert "Different from the query: match 3" in names


def test_confirmed_images_join_the_query_and_leave_it_again(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        assert page.run("document.getElementById('learn').hidden")
        other = (
            "[...document.querySelectorAll('.card')].find(x => x.innerText.includes('person 6'))"
        )
        page.run(f"{other}.querySelector('.yes').click()")
        click(page, ".card:nth-child(2) .no")
        page.until(f"{SAID}.filter(Boolean).length == 2")
        denied = text(page, ".card:nth-child(2) .head")
        assert "1 confirmed image" in text(page, "#learn")
        searched_by(page, "document.querySelector('#learn').click()")
        assert "to 2 query images" in text(page, "#words")
        assert "person 6" in cards(page)[1]  # at a distance of 0, as the query itself
        assert len(cards(page)) == 19
        searched_by(page, "document.querySelector('#show-different input').click()")
        assert len(cards(page)) == 20
        assert page.run(SAID)[-1] == "different"
        assert (
            denied.split()[1:3]
            == text(page, ".cards:last-of-type .card:last-child .head").split()[1:3]
        )
        searched_by(page, "document.querySelector('#unlearn').click()")
        assert "query images" not in text(page, "#words")
        assert "person 6" not in cards(page)[1]


def test_a_match_becomes_the_query_and_the_query_before_comes_back(
    seen: Filled, page: Page
) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        other = (
            "[...document.querySelectorAll('.card')].find(x => x.innerText.includes('person 6'))"
        )
        searched_by(page, f"{other}.querySelector('.with').click()")
        assert "person 6" in cards(page)[0]
        assert page.run("document.activeElement.id") == "found-title"
        click(page, ".card:nth-child(2) .yes")  # a verdict on a query of the gallery
        page.until(f"{SAID}[1] == 'same'")
        searched_by(page, "document.querySelector('#search').click()")
        assert page.run(SAID)[1] == "same"
        searched_by(page, "document.querySelector('#former').click()")
        assert "person 1" in cards(page)[0]
        assert page.run("document.getElementById('former').hidden")


def test_a_match_opens_with_its_facts_frame_and_recording(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(4))
        click(page, ".card .picture")
        page.until("document.querySelector('#view img')?.naturalWidth == 64")
        facts = text(page, "#facts")
        for fact in ("person 4", "gate", "within", "morning", str(seen.image(4))):
            assert fact in facts
        keep(page, "serve_match.png")

        click(page, "#kinds [data-kind=frame]")
        page.until("document.querySelector('#view img')?.naturalWidth == 640")
        page.press("ArrowRight")
        page.until("document.querySelector('#dialog-title').innerText.startsWith('Match 2')")
        page.press("ArrowLeft")
        click(page, "#kinds [data-kind=video]")
        page.until(
            "(video => video?.currentTime == 8 && !video.seeking)(document.querySelector('video'))"
        )
        assert page.run("document.querySelector('video').videoWidth") == 320

        click(page, "#facts-beside .no")
        page.until(f"{SAID}[0] == 'different'")
        page.press("Escape")
        page.until("!document.getElementById('dialog').open")
        assert "Open match 1" in focused(page)
        page.until("document.querySelector('video') === null")
    assert page.complaints == []


def test_the_box_of_a_match_lies_where_the_person_stands_in_the_frame(
    seen: Filled, page: Page
) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(4))
        page.run(
            "document.addEventListener('open-match', ({ detail }) => "
            f"{{ detail.match.box = {list(FRAME_BOX)}; }}, {{ capture: true, once: true }})"
        )
        click(page, ".card .picture")
        click(page, "#kinds [data-kind=frame]")
        page.until("document.querySelector('#view .box') !== null")
        keep(page, "serve_frame.png")
        left, top, width, height = page.run(
            "(() => { const part = e => document.querySelector(e).getBoundingClientRect();"
            " const [image, box] = [part('#view img'), part('#view .box')];"
            " const scale = 640 / image.width;"
            " return [box.left - image.left, box.top - image.top, box.width, box.height]"
            ".map(x => x * scale); })()"
        )
        assert np.abs(np.array([left, top, width, height]) - FRAME_BOX).max() < 2


def test_matches_are_parted_at_the_limit(seen: Filled, page: Page) -> None:
    with served(seen, max_distance=0.3) as site:
        go(page, site.server.url)
        search_for(page, seen.image(1))
        within = page.run("[...document.querySelectorAll('.card')].map(x => x.dataset.within)")
        count = within.count("true")
        assert 0 < count < 20
        assert f"({count})" in text(page, "h3.within")
        assert f"({20 - count})" in text(page, "h3.beyond")
        order = "(a, b) => a.compareDocumentPosition(b) == Node.DOCUMENT_POSITION_FOLLOWING"
        line, cards_of = "document.querySelector('h3.beyond')", "document.querySelectorAll('.card')"
        assert page.run(f"({order})({cards_of}[{count - 1}], {line})")
        assert page.run(f"({order})({line}, {cards_of}[{count}])")
        assert "0.3" in text(page, "#limit")


def test_matches_are_grouped_by_person_on_a_time_line(seen: Filled, page: Page) -> None:
    with served(seen, max_distance=0.2) as site:
        go(page, site.server.url)
        search_for(page, seen.image(4))
        click(page, "[data-view=person]")
        heads = page.run("[...document.querySelectorAll('.group h3')].map(x => x.innerText)")
        assert heads[0] == "person 4"
        assert heads[-1] == "No name"
        assert len(heads) == 10
        rows = "[...document.querySelector('.time-line').querySelectorAll('.line-camera')]"
        assert page.run(f"{rows}.map(x => x.innerText)") == ["gate", "hall"]
        # The gate's image is of the first seconds, the hall's of minute 40 of 90.
        places = page.run(
            "[...document.querySelectorAll('.time-line')][0].querySelectorAll('.mark').length == 2"
            " && [...document.querySelectorAll('.time-line')[0].querySelectorAll('.mark')]"
            ".map(x => parseFloat(x.style.left))"
        )
        assert places == [pytest.approx(3.85, abs=0.3), pytest.approx(44.9, abs=1)]
        beyond = "[...document.querySelectorAll('.card p.beyond')].every(x => x.checkVisibility())"
        assert page.run(beyond)
        assert page.run("document.querySelectorAll('.card p.beyond').length") == 18
        keep(page, "serve_by_person.png")
        page.run("document.querySelectorAll('.mark')[1].focus()")
        page.press("Enter")
        page.until("document.getElementById('dialog').open")
        assert "hall" in text(page, "#facts")
        page.press("Escape")
        click(page, "[data-view=track]")
        heads = page.run("[...document.querySelectorAll('.group h3')].map(x => x.innerText)")
        assert heads[0] == "Track 4 of gate"
        assert len(heads) == 20
        click(page, "[data-view=list]")
        assert len(cards(page)) == 20
    assert page.complaints == []


def test_chosen_matches_are_downloaded_as_evidence(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "downloads"
    page.do("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(4))
        click(page, "#choosing")
        assert page.run("document.getElementById('download').disabled")
        page.run(
            "[0, 2].forEach(i => document.querySelectorAll('.card .evidence input')[i].click())"
        )
        page.run("document.getElementById('note').value = 'case 12'")
        assert "2 images" in text(page, "#evidence-words")
        keep(page, "serve_evidence.png")
        click(page, "#download")
        page.until("document.querySelector('#evidence-words').innerText.includes('downloaded')")
        while not list(folder.glob("*.zip")):
            page.run("new Promise(done => setTimeout(done, 20))")
        (file,) = folder.glob("*.zip")
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            text_of_all = b"".join(archive.read(name) for name in archive.namelist()).decode(
                "latin-1"
            )
            pictures = [name for name in archive.namelist() if name.endswith(".jpg")]
        assert "case 12" in text_of_all
        assert len(pictures) == 2

        click(page, ".card .yes")
        page.until(f"{SAID}[0] == 'same'")
        click(page, "#verdicts")
        while not list(folder.glob("*.csv")):
            page.run("new Promise(done => setTimeout(done, 20))")
        (file,) = folder.glob("*.csv")
        (said,) = csv.DictReader(file.read_text().splitlines())
        assert (said["id"], said["same"]) == (str(seen.gallery.confirmed()[0].id), "True")
    assert page.complaints == []


def test_the_keyboard_alone_searches_judges_and_opens(seen: Filled, page: Page) -> None:
    page.do("Page.setInterceptFileChooserDialog", enabled=True)
    with served(seen) as site:
        go(page, site.server.url)
        for key in ("Space", "Enter"):
            page.tab_to("#choose")
            page.press(key)
            page.until("true")
            assert page.events.count("Page.fileChooserOpened") == 1
            page.events.clear()
        search_for(page, seen.image(4))
        page.tab_to(".card .picture")
        page.press("Tab")
        assert focused(page) == "Same as the query: match 1"
        page.press("Space")
        page.until(f"{SAID}[0] == 'same'")
        page.press("Tab", "Tab")
        assert focused(page) == "Undo the verdict on match 1"
        page.press("Enter")
        page.until(f"{SAID}[0] == ''")
        assert focused(page) == "Same as the query: match 1"
        page.press("ArrowRight", "d")
        page.until(f"{SAID}[1] == 'different'")
        page.press("u")
        page.until(f"{SAID}[1] == ''")
        assert "match 2" in focused(page)
        page.press("Enter")
        page.until("document.getElementById('dialog').open")
        page.press("s")
        page.until(f"{SAID}[1] == 'same'")
        page.press("Escape")
        assert "Open match 2" in focused(page)
        page.run("document.querySelector('#words').textContent = ''")
        page.tab_to("[aria-label='Search with this one: match 2']")
        page.press("Enter")
        found(page)
        assert "person 4" in cards(page)[0]
    assert page.complaints == []


def test_ids_of_sixty_four_bits_stay_as_they_are(seen: Filled, page: Page) -> None:
    number = 2**62 + 1  # a browser's numbers would round it
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(4))
        page.run(
            "(() => { const real = window.fetch; window.sent = [];"
            " window.fetch = (path, options) => {"
            " window.sent.push([path, options?.body]); return real(path, options); }; })()"
        )
        page.run(
            "document.addEventListener('open-match', (event) => "
            f"{{ event.detail.match.id = '{number}'; }}, {{ capture: true, once: true }})"
        )
        click(page, ".card .picture")
        page.press("s")
        page.until("window.sent.some(([path]) => path == 'api/confirm')")
        body = page.run("window.sent.find(([path]) => path == 'api/confirm')[1]")
        assert json.loads(body)["id"] == str(number)
        assert page.run(CARDS) == 20
