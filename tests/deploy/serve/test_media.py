"""Frames and recordings: from their folders alone, and in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry
from reid.deploy.gallery.indexing import add_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.serve import media as media_module
from reid.deploy.serve.access import Access
from reid.deploy.serve.media import Media
from reid.deploy.serve.service import GalleryService
from reid.matching import VectorMatcher
from tests.deploy.serve.site import TOKEN, Site, bearer, person, png, running

VIDEO = bytes(range(256)) * 40


def find(folder: Path, camera: str, time_s: float) -> tuple[Path, float] | None:
    """One file for each camera, which begins at 100 s."""
    file = folder / f"{camera}.webm"
    return (file, time_s - 100) if file.exists() and time_s >= 100 else None


@pytest.fixture
def site(tmp_path: Path, matcher: VectorMatcher) -> Iterator[Site]:
    """Four people: with a frame, with a frame outside the folder, through a link, and without."""
    frames, recordings = tmp_path / "frames", tmp_path / "recordings"
    (frames / "gate").mkdir(parents=True)
    recordings.mkdir()
    scene = np.full((90, 80, 3), 77, np.uint8)
    cv2.imwrite(str(frames / "gate" / "a.jpg"), scene)
    cv2.imwrite(str(tmp_path / "outside.jpg"), scene)
    (frames / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (recordings / "gate.webm").write_bytes(VIDEO)
    (recordings / "hall.webm").symlink_to(tmp_path / "outside.jpg")
    gallery = open_gallery(str(tmp_path / "gallery"), matcher, create=True)
    picture = cv2.imencode(".jpg", person(1))[1].tobytes()
    refs = ("gate/a.jpg", "../outside.jpg", "link.jpg", "")
    entries = [
        GalleryEntry(
            "gate",
            f"p{number}",
            camera="hall" if number == 3 else "gate",
            time_s=50.0 if number == 2 else 112.5 + number,
            picture=picture,
            picture_ref=ref,
        )
        for number, ref in enumerate(refs)
    ]
    add_images(gallery, matcher, map(person, range(4)), entries)
    media = Media(frames, recordings, find)
    service = GalleryService(gallery, matcher, media=media)
    access = Access("127.0.0.1", TOKEN)
    with running(gallery, matcher, access, service=service) as running_site:
        yield running_site
        assert running_site.errors == []


def matches(site: Site) -> dict[str, dict[str, object]]:
    found = site.search(png(person(0)), **bearer(TOKEN))["matches"]
    return {one["person"]: one for one in found}


def test_a_frame_is_shown_only_from_the_folder_of_frames(site: Site) -> None:
    found = matches(site)
    assert [found[f"p{number}"]["has_frame"] for number in range(4)] == [True, False, False, False]
    for number in range(4):
        path = f"/api/frame/{found[f'p{number}']['id']}"
        status, headers, body = site.ask("GET", path, None, **bearer(TOKEN))
        assert status == (200 if number == 0 else 404)
        assert site.ask("GET", path)[0] == 401
        if number == 0:
            assert headers["Content-Type"] == "image/jpeg"
            assert cv2.imdecode(np.frombuffer(body, np.uint8), 1).shape == (90, 80, 3)


def test_a_recording_opens_by_a_ticket_and_plays_in_parts(site: Site) -> None:
    found = matches(site)
    assert [found[f"p{number}"]["has_video"] for number in range(4)] == [True, True, False, False]
    asked = f"/api/video/{found['p1']['id']}"
    assert site.ask("POST", asked, b"")[0] == 401
    status, _, body = site.ask("POST", asked, b"", **bearer(TOKEN))
    video = json.loads(body)
    assert (status, video["seconds"], video["type"]) == (200, 13.5, "video/webm")
    assert video["url"].startswith("api/media/")
    path = f"/{video['url']}"  # a player sends no token
    status, headers, body = site.ask("GET", path)
    assert (status, headers["Content-Type"], body) == (200, "video/webm", VIDEO)
    assert headers["Accept-Ranges"] == "bytes"
    status, headers, body = site.ask("GET", path, None, Range="bytes=100-199")
    assert (status, body) == (206, VIDEO[100:200])
    assert headers["Content-Range"] == f"bytes 100-199/{len(VIDEO)}"
    assert site.ask("GET", path, None, Range="bytes=999999-")[0] == 416
    for number in (2, 3):
        other = f"/api/video/{found[f'p{number}']['id']}"
        assert site.ask("POST", other, b"", **bearer(TOKEN))[0] == 404


def test_a_ticket_is_for_a_while(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    number = matches(site)["p0"]["id"]
    monkeypatch.setattr(media_module, "TICKET_S", 0.0)
    _, _, body = site.ask("POST", f"/api/video/{number}", b"", **bearer(TOKEN))
    assert site.ask("GET", f"/{json.loads(body)['url']}")[0] == 404
    assert site.ask("GET", "/api/media/guessed")[0] == 404
    assert site.ask("GET", "/api/media/..%2f..%2fgallery.json")[0] == 404
