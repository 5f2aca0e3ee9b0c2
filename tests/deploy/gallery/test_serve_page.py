"""The page in a real browser: an image, a box on a frame, filters, a verdict, a token.

With REID_SCREENSHOTS set to a folder what was seen is kept there, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry, GalleryStore
from reid.deploy.gallery.indexing import add_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.serve.access import Access
from reid.matching import VectorMatcher
from reid.types import Image
from tests.deploy.gallery.browser import Page, browser_page
from tests.deploy.gallery.conftest import PixelRunner
from tests.deploy.serve.site import TOKEN, Site, running

pytestmark = pytest.mark.services

MATCHES = "document.querySelectorAll('#matches li').length"


def figure(number: int, shade: int) -> Image:
    """A person of a few strokes: a head, a coat and trousers in colours of their own."""
    rng = np.random.default_rng(number)
    image = np.full((128, 64, 3), 205 - shade, np.uint8)
    coat, legs = (tuple(map(int, rng.integers(20, 220, 3))) for _ in range(2))
    cv2.circle(image, (32, 20), 11, (150, 175, 215), -1)
    cv2.rectangle(image, (14, 33), (50, 78), coat, -1)
    cv2.rectangle(image, (18, 78), (46, 122), legs, -1)
    return image


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[GalleryStore, VectorMatcher, Path]:
    """Ten people, seen by two cameras; one has a name that a careless page would run."""
    folder = tmp_path_factory.mktemp("page")
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(folder / "gallery"), matcher, create=True)
    entries, images = [], []
    for number in range(20):
        image = figure(number % 10, 8 * (number // 10))
        path = folder / f"seen_{number:02d}.png"
        cv2.imwrite(str(path), image)
        images.append(image)
        name = (
            "<img src=x onerror=document.title='run'>" if number == 3 else f"person {number % 10}"
        )
        camera = "gate" if number < 10 else "hall"
        entries.append(GalleryEntry(str(path), name, camera, 1_777_000_000.0 + 600 * number))
    add_images(gallery, matcher, images, entries)
    return gallery, matcher, folder


@pytest.fixture
def page(browser: str, tmp_path: Path) -> Iterator[Page]:
    with browser_page(browser, tmp_path / "profile") as opened:
        yield opened


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("REID_SCREENSHOTS"):
        page.screenshot(Path(folder, name))


def people(page: Page) -> list[str]:
    """What the cards say, in their order."""
    return page.run("[...document.querySelectorAll('#matches li')].map(x => x.innerText)")


def pictures_are_loaded(page: Page) -> None:
    page.until(
        f"{MATCHES} && [...document.querySelectorAll('#matches li')].every(x => "
        "x.querySelector('img')?.naturalWidth || x.innerText.includes('no picture'))"
    )


def test_an_image_is_searched_filtered_and_a_match_confirmed(
    filled: tuple[GalleryStore, VectorMatcher, Path], page: Page, tmp_path: Path
) -> None:
    gallery, matcher, folder = filled
    with running(gallery, matcher, Access("127.0.0.1")) as site:
        page.do("Page.navigate", url=site.server.url)
        page.until("document.querySelectorAll('#cameras input').length == 2")
        assert "20 images, 2 cameras" in page.run("document.getElementById('about').innerText")
        page.choose_file("#file", folder / "seen_03.png")
        pictures_are_loaded(page)
        cards = people(page)
        assert len(cards) == 20
        assert "<img src=x onerror=" in cards[0]  # as text
        assert page.run("document.title") == "Search a gallery"
        keep(page, "serve_search.png")

        page.run("document.querySelector('#cameras input[value=hall]').click()")
        page.until(f"{MATCHES} == 10")
        cards = people(page)
        assert all("camera hall" in card for card in cards)
        assert "person 3" in cards[0]

        page.run("document.querySelector('#matches li .yes').click()")
        page.until("document.querySelector('#matches li').className == 'same'")
        assert gallery.confirmed()[-1].same is True
        assert site.errors == []
    assert page.complaints == []


def test_a_box_drawn_on_a_frame_finds_the_person_in_it(
    filled: tuple[GalleryStore, VectorMatcher, Path], page: Page, tmp_path: Path
) -> None:
    gallery, matcher, _ = filled
    frame = np.full((480, 640, 3), 120, np.uint8)
    frame[200:328, 400:464] = figure(7, 0)
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    with running(gallery, matcher, Access("127.0.0.1")) as site:
        page.do("Page.navigate", url=site.server.url)
        page.until("document.querySelectorAll('#cameras input').length == 2")
        page.choose_file("#file", tmp_path / "frame.png")
        page.until(f"{MATCHES} == 20")
        left, top, scale = page.run(
            "(() => { const at = canvas.getBoundingClientRect();"
            " return [at.left, at.top, at.width / canvas.width]; })()"
        )
        page.drag((left + 400 * scale, top + 200 * scale), (left + 464 * scale, top + 328 * scale))
        page.until("document.querySelector('#matches li')?.innerText.includes('person 7')")
        pictures_are_loaded(page)
        box = page.run("state.box")
        assert np.abs(np.array(box) - (400, 200, 64, 128)).max() <= 2 / scale
        keep(page, "serve_box.png")
        assert site.errors == []
    assert page.complaints == []


def test_a_gallery_with_a_token_asks_for_it(
    filled: tuple[GalleryStore, VectorMatcher, Path], page: Page
) -> None:
    gallery, matcher, _ = filled
    with running(gallery, matcher, Access("127.0.0.1", TOKEN)) as site:
        page.do("Page.navigate", url=site.server.url)
        page.until("document.getElementById('door')?.hidden === false")
        assert page.run("document.getElementById('room').hidden") is True
        page.run(f"document.getElementById('token').value = {TOKEN!r}")
        page.run("document.querySelector('#door button').click()")
        page.until("!document.getElementById('room').hidden")
        keep(page, "serve_token.png")
        assert isinstance(site, Site)
