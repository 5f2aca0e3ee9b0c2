"""The page for everyone: its door, a sub-path, a small screen, accessibility, a busy server."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from reid.deploy.serve.access import Access
from reid.deploy.serve.refusals import Refusal
from reid.deploy.serve.users import token_hash
from tests.deploy.serve.browser import Page
from tests.deploy.serve.pages import (
    CARDS,
    Filled,
    cards,
    click,
    found,
    go,
    keep,
    reload,
    search_for,
    searched_by,
    served,
    text,
)
from tests.deploy.serve.site import TOKEN, bearer

pytestmark = pytest.mark.services

ROOM = "document.getElementById('room')?.hidden === false"
DOOR = "document.getElementById('door')?.hidden === false"
SMALL_TARGETS = """
[...document.querySelectorAll('button, input, summary, label.check')].filter(part => {
  if (!part.checkVisibility() || part.matches('.check input, .someone, .mark')) return false;
  const { width, height } = part.getBoundingClientRect();
  return Math.round(height) < 44 || Math.round(width) < 44;
}).map(part => `${part.outerHTML.slice(0, 80)} ${part.getBoundingClientRect().width} x `
  + part.getBoundingClientRect().height)
"""
"""What is smaller than a finger. People in a frame and marks on a time line are as large as the
picture has them; each has another way: the list of people, the cards."""

WRAPPED = """
[...document.querySelectorAll('button')].filter(part => part.checkVisibility()
  && !part.matches('.picture, #choose')
  && (part.scrollWidth > part.clientWidth + 1 || part.innerText.trim().includes('\\n')
      || part.getClientRects().length > 1)).map(part => part.outerHTML.slice(0, 100))
"""


def test_a_token_is_asked_for_and_a_wrong_one_is_one_line(seen: Filled, page: Page) -> None:
    with served(seen, Access("127.0.0.1", TOKEN)) as site:
        page.do("Page.navigate", url=site.server.url)
        page.until(DOOR)
        assert page.run("document.getElementById('room').hidden") is True
        assert page.run("document.getElementById('trouble').hidden") is True
        page.run("document.getElementById('token').value = 'a-wrong-token-of-letters'")
        click(page, "#door button")
        page.until("document.querySelector('#trouble-words').innerText.includes('token')")
        page.run(f"document.getElementById('token').value = {TOKEN!r}")
        click(page, "#door button")
        page.until(ROOM)
        assert page.run("document.getElementById('trouble').hidden") is True
        assert TOKEN not in page.run("document.documentElement.outerHTML + location")
        keep(page, "serve_token.png")
        search_for(page, seen.image(1))
        assert "person 1" in cards(page)[0]


def test_after_many_wrong_tokens_the_page_says_how_long_to_wait(seen: Filled, page: Page) -> None:
    with served(seen, Access("127.0.0.1", TOKEN)) as site:
        for _ in range(200):
            if (
                site.ask("GET", "/api/gallery", None, **bearer("a-wrong-token-of-letters"))[0]
                == 429
            ):
                break
        page.do("Page.navigate", url=f"{site.server.url}#token=another-wrong-token")
        page.until(f"{DOOR} && !document.getElementById('trouble').hidden")
        assert "wait" in text(page, "#trouble-words")
        assert page.run("document.getElementById('again').hidden") is False


def test_a_token_in_the_link_opens_the_page_and_leaves_the_address(
    seen: Filled, page: Page
) -> None:
    with served(seen, Access("127.0.0.1", TOKEN)) as site:
        go(page, f"{site.server.url}#token={TOKEN}")
        assert page.run("location.href") == site.server.url
        page.run(f"location.hash = 'token={TOKEN}'")  # a second link in the same tab
        page.until("!location.hash")


def test_a_token_that_is_withdrawn_leads_back_to_the_door_and_the_query_stays(
    seen: Filled, page: Page, tmp_path: Path
) -> None:
    users = tmp_path / "users.toml"
    other = "another-token-of-many-characters"
    line = '[users."anna"]\ntoken_sha256 = "{}"\n'
    users.write_text(line.format(token_hash(TOKEN)))
    with served(seen, Access("127.0.0.1", users=users)) as site:
        go(page, f"{site.server.url}#token={TOKEN}")
        assert "anna" in text(page, "#user")
        search_for(page, seen.image(2))
        users.write_text(line.format(token_hash(other)) + "# changed\n")
        page.until(
            "(document.querySelector('#search').click(), new Promise(done => setTimeout("
            "() => done(!document.getElementById('door').hidden), 300)))"
        )
        assert page.run("document.getElementById('room').hidden")
        page.run("document.querySelector('#words').textContent = ''")
        page.run(f"document.getElementById('token').value = {other!r}")
        click(page, "#door button")
        page.until(ROOM)
        found(page)
        assert "person 2" in cards(page)[0]
        click(page, "#leave")
        page.until(f"{DOOR} && {CARDS} == 0")
        assert page.run("sessionStorage.length") == 0


def test_what_a_user_may_not_do_is_not_offered(seen: Filled, page: Page, tmp_path: Path) -> None:
    users = tmp_path / "users.toml"
    users.write_text(f'[users.guard]\ntoken_sha256 = "{token_hash(TOKEN)}"\nmay = ["search"]\n')
    with served(seen, Access("127.0.0.1", users=users)) as site:
        go(page, f"{site.server.url}#token={TOKEN}")
        search_for(page, seen.image(2))
        offered = "[...document.querySelectorAll(%r)].some(part => part.checkVisibility())"
        assert not page.run(offered % ".verdict, #choosing, #keys")
        assert page.run(offered % ".with")


def test_the_page_works_under_a_path_of_a_proxy(seen: Filled, page: Page) -> None:
    with served(seen, Access("127.0.0.1", public_url="http://127.0.0.1/cameras/reid/")) as site:
        host, port = site.server.server_address
        root = f"http://{host}:{port}/cameras/reid/"
        go(page, root)
        search_for(page, seen.image(2))
        click(page, ".card .yes")
        page.until("document.querySelector('.card').dataset.said == 'same'")
        click(page, ".card .picture")
        click(page, "[data-kind=video]")
        page.until("document.querySelector('video')?.readyState > 0")
        asked = page.run("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert len(asked) > 10
        assert [url for url in asked if not url.startswith((root, "data:", "blob:"))] == []
    assert page.complaints == []


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE])
def test_a_busy_server_is_one_line_and_a_button_tries_again(
    seen: Filled, page: Page, monkeypatch: pytest.MonkeyPatch, status: HTTPStatus
) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(2))
        real, service = site.server.service.search_held, site.server.service
        answers = [Refusal(status, "the gallery is busy", retry_after_s=7)]

        def busy(*details: Any) -> Any:
            if answers:
                raise answers.pop()
            return real(*details)

        monkeypatch.setattr(service, "search_held", busy)
        click(page, "#cameras input[value=hall]")
        page.until("!document.getElementById('trouble').hidden")
        assert text(page, "#trouble-words") == "the gallery is busy; try again in 7 s"
        assert len(cards(page)) == 20  # as before
        searched_by(page, "document.querySelector('#again').click()")
        assert len(cards(page)) == 10
        assert page.run("document.getElementById('trouble').hidden")


def test_a_picture_that_a_busy_server_refused_comes_a_little_later(
    seen: Filled, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        service = site.server.service
        real, refused = service.picture, set[int]()

        def busy(number: int) -> bytes:
            if number not in refused:
                refused.add(number)
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "busy", retry_after_s=1)
            return real(number)

        monkeypatch.setattr(service, "picture", busy)
        search_for(page, seen.image(2))
        page.until("document.querySelectorAll('.card img').length >= 4")
        assert len(refused) >= 4


def test_a_server_that_is_gone_is_one_line_and_the_matches_stay(seen: Filled, page: Page) -> None:
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(2))
    click(page, "#search")
    page.until("!document.getElementById('trouble').hidden")
    assert page.run("document.getElementById('again').hidden") is False
    assert len(cards(page)) == 20


def test_a_phone_shows_everything_in_its_width_and_large_enough_for_a_finger(
    seen: Filled, page: Page
) -> None:
    page.emulate_phone(360)
    fits = "document.documentElement.scrollWidth <= innerWidth && innerWidth == 360"
    with served(seen, max_distance=0.3) as site:
        go(page, site.server.url)
        page.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert page.run(fits)
        search_for(page, seen.image(3))
        search_for(page, seen.image(4))
        page.run("document.querySelector('.card .picture').focus()")
        page.press("s")
        page.until("document.querySelector('.card').dataset.said == 'same'")
        click(page, "#choosing")
        for view in ("list", "person", "track"):
            click(page, f"[data-view={view}]")
            assert page.run(fits)
            assert page.run(SMALL_TARGETS) == []
            assert page.run(WRAPPED) == []
            keep(page, f"serve_phone_{view}.png")
        click(page, ".card .picture")
        page.until("document.querySelector('#view img')?.naturalWidth > 0")
        assert page.run("(d => d.scrollWidth <= d.clientWidth)(document.getElementById('dialog'))")
        assert page.run(SMALL_TARGETS) == []
        keep(page, "serve_phone_match.png")


@pytest.mark.parametrize("width", [1280, 900, 768, 480])
def test_no_button_breaks_into_two_lines(seen: Filled, page: Page, width: int) -> None:
    page.do(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    with served(seen) as site:
        go(page, site.server.url)
        search_for(page, seen.image(3))
        assert page.run(WRAPPED) == []
        assert page.run("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(seen: Filled, page: Page, axe: str, scheme: str) -> None:
    page.emulate_scheme(scheme)
    with served(seen, Access("127.0.0.1", TOKEN), max_distance=0.3) as site:
        page.do("Page.navigate", url=site.server.url)
        page.until(DOOR)
        page.run(axe)
        assert faults(page) == {}
        page.run(f"document.getElementById('token').value = {TOKEN!r}")
        click(page, "#door button")
        page.until(ROOM)
        assert faults(page) == {}
        search_for(page, seen.image(3))
        search_for(page, seen.image(4))
        page.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        page.run("document.querySelector('.card .picture').focus()")
        page.press("s", "ArrowRight", "d")
        page.until(
            "document.querySelectorAll('[data-said=same], [data-said=different]').length == 2"
        )
        click(page, "#choosing")
        for view in ("list", "person", "track"):
            click(page, f"[data-view={view}]")
            assert faults(page) == {}
        keep(page, f"serve_axe_{scheme}.png")
        click(page, ".card .picture")
        for kind in ("picture", "frame", "video"):
            click(page, f"[data-kind={kind}]")
            page.until("document.querySelector('#view').firstElementChild?.tagName != 'P'")
            assert faults(page) == {}


def faults(page: Page) -> dict[str, list[str]]:
    """What axe-core finds: each rule with the elements that break it."""
    said: str = page.run(
        "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',"
        " 'best-practice'] }).then(result => JSON.stringify(Object.fromEntries("
        "result.violations.map(one => [one.id, one.nodes.map(node => node.html.slice(0, 160))]))))"
    )
    answer: dict[str, list[str]] = json.loads(said)
    return answer


def test_a_reload_keeps_the_token_in_this_tab(seen: Filled, page: Page) -> None:
    with served(seen, Access("127.0.0.1", TOKEN)) as site:
        go(page, f"{site.server.url}#token={TOKEN}")
        reload(page)
        assert page.run("localStorage.length + document.cookie.length") == 0
