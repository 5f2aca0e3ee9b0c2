"""The page in a browser, over a gallery of figures of a few strokes that two cameras saw.

With REID_SCREENSHOTS set to a folder what was seen is kept there, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.deploy.gallery import GalleryEntry, GalleryStore
from reid.deploy.gallery.indexing import add_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.people.boxes import People
from reid.deploy.serve.access import Access
from reid.deploy.serve.media import Media
from reid.deploy.serve.service import GalleryService
from reid.matching import VectorMatcher
from reid.types import Image
from tests.deploy.gallery.conftest import PixelRunner
from tests.deploy.serve.browser import Page
from tests.deploy.serve.site import Site, running

CARDS = "document.querySelectorAll('.card').length"
HOSTILE = "<img src=x onerror=document.title='run'>"
"""A name that a careless page would run."""

START_S = 1_777_000_000.0
FRAME_BOX = (400, 200, 64, 128)
"""Where the person stands in every kept frame."""


def figure(number: int, shade: int = 0) -> Image:
    """A person of a few strokes: a head, a coat and trousers in colours of their own."""
    rng = np.random.default_rng(number)
    image = np.full((128, 64, 3), 205 - shade, np.uint8)
    coat, legs = (tuple(map(int, rng.integers(20, 220, 3))) for _ in range(2))
    cv2.circle(image, (32, 20), 11, (150, 175, 215), -1)
    cv2.rectangle(image, (14, 33), (50, 78), coat, -1)
    cv2.rectangle(image, (18, 78), (46, 122), legs, -1)
    return image


def frame_of(*numbers: int) -> Image:
    """A frame of 640 x 480 pixels; the first person stands in ``FRAME_BOX``, others to the left."""
    frame = np.full((480, 640, 3), 120, np.uint8)
    for place, number in enumerate(numbers):
        left = FRAME_BOX[0] - 150 * place
        frame[200:328, left : left + 64] = figure(number)
    return frame


class TwoPeople:
    """A detector that finds two people in every frame."""

    def detect(self, frames: Sequence[Image]) -> list[People]:
        boxes = np.array([[400, 200, 464, 328], [250, 200, 314, 328]], np.float32)
        return [People(boxes, np.array([0.9, 0.8], np.float32)) for _ in frames]

    def close(self) -> None:
        pass


@dataclass
class Filled:
    """A gallery of twenty images of ten people, and the files around it."""

    gallery: GalleryStore
    matcher: VectorMatcher
    folder: Path

    def image(self, number: int) -> Path:
        return self.folder / f"seen_{number:02d}.png"

    def service(self, **details: Any) -> GalleryService:
        """With a detector, frames and a recording of the gate."""
        media = Media(
            self.folder / "frames",
            self.folder / "recordings",
            lambda folder, camera, time_s: (
                (folder / "gate.webm", time_s - START_S) if camera == "gate" else None
            ),
        )
        details = {"detector": TwoPeople(), "media": media, **details}
        return GalleryService(self.gallery, self.matcher, **details)


def filled_in(folder: Path) -> Filled:
    """Person 0 to 9 at the gate, a few seconds apart, then the same in the hall, lighter.

    Person 3 has a hostile name, person 9 has none. Frames are kept of the gate.
    """
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(folder / "gallery"), matcher, create=True)
    entries, images = [], []
    (folder / "frames").mkdir()
    (folder / "recordings").mkdir()
    for number in range(20):
        person, at_gate = number % 10, number < 10
        image = figure(person, 0 if at_gate else 8)
        path = folder / f"seen_{number:02d}.png"
        cv2.imwrite(str(path), image)
        if at_gate:
            cv2.imwrite(str(folder / "frames" / f"{number}.jpg"), frame_of(person))
        images.append(image)
        entries.append(
            GalleryEntry(
                source=str(path),
                person={3: HOSTILE, 9: ""}.get(person, f"person {person}"),
                camera="gate" if at_gate else "hall",
                time_s=START_S + (2.0 if at_gate else 600.0) * person,
                box=None,
                track=person,
                run="morning",
                picture_ref=f"{number}.jpg" if at_gate else "",
            )
        )
    add_images(gallery, matcher, images, entries)
    _write_recording(folder / "recordings" / "gate.webm")
    return Filled(gallery, matcher, folder)


def _write_recording(path: Path) -> None:
    """Twenty seconds, a frame per second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP90"), 1, (320, 240))
    assert writer.isOpened()
    for second in range(20):
        writer.write(np.full((240, 320, 3), 10 * second, np.uint8))
    writer.release()


@contextmanager
def served(filled: Filled, access: Access | None = None, **details: Any) -> Iterator[Site]:
    """The page's server; it has logged no error at the end."""
    service = filled.service(**details)
    with running(
        filled.gallery, filled.matcher, access or Access("127.0.0.1"), service=service
    ) as site:
        yield site
        assert site.errors == []


def go(page: Page, url: str) -> None:
    """Open the page and wait until the gallery is shown."""
    page.do("Page.navigate", url=url)
    page.until("document.querySelectorAll('#cameras input').length == 2")


def reload(page: Page) -> None:
    """Load the page anew, in the same tab."""
    page.run("window.before = true")
    page.do("Page.reload")
    page.until("!window.before && document.querySelectorAll('#cameras input').length == 2")


def search_for(page: Page, path: Path) -> None:
    """Give an image file, and wait for its matches."""
    page.run("document.querySelector('#words').textContent = ''")
    page.choose_file("#file", path)
    found(page)


def found(page: Page) -> None:
    """Wait until the matches of a search and the first pictures are there."""
    page.until(
        "document.querySelector('#words').innerText.includes('nearest image')"
        " && !document.querySelector('#search').disabled"
    )
    page.run("document.querySelector('.card')?.scrollIntoView({ block: 'nearest' })")
    page.until("document.querySelector('.card img')?.naturalWidth")


def searched_by(page: Page, expression: str) -> None:
    """Run something that starts a search, and wait for its matches."""
    page.run("document.querySelector('#words').textContent = ''")
    page.run(expression)
    found(page)


def click(page: Page, selector: str) -> None:
    """Click an element as the mouse does, which focuses it too."""
    page.run(f"(part => {{ part.focus(); part.click(); }})(document.querySelector({selector!r}))")


def text(page: Page, selector: str) -> str:
    said: str = page.run(f"document.querySelector({selector!r}).innerText")
    return said


def cards(page: Page) -> list[str]:
    """What the cards say beside their pictures, in their order."""
    words = "[...card.children].slice(1).map(part => part.innerText).join('\\n')"
    said: list[str] = page.run(f"[...document.querySelectorAll('.card')].map(card => {words})")
    return said


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("REID_SCREENSHOTS"):
        page.screenshot(Path(folder, name))
