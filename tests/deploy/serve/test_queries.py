"""Searches with several queries, with images of the gallery, and with what was confirmed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry
from reid.deploy.gallery.indexing import add_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.people.boxes import People
from reid.deploy.serve.access import Access
from reid.deploy.serve.queries import HELD_S, MAX_HELD, HeldQueries, HeldQuery
from reid.deploy.serve.refusals import Refusal
from reid.deploy.serve.service import GalleryService, image_query
from reid.matching import PairMatcher
from tests.deploy.serve.site import Site, person, png, running
from tests.matching.conftest import CompareRunner, DescribeRunner


def hold(site: Site, number: int) -> str:
    status, _, body = site.ask("POST", "/api/queries", png(person(number)))
    assert status == 200, body
    return str(json.loads(body)["query"])


def found(site: Site, **asked: Any) -> dict[str, float]:
    """Person, or id of who has no name -> distance, nearest first."""
    status, body = site.ask_json("/api/search", asked)
    assert status == 200, body
    return {one["person"] or one["id"]: one["distance"] for one in body["matches"]}


def test_a_held_query_is_searched_as_its_image(site: Site) -> None:
    status, _, body = site.ask("POST", "/api/queries?box=0,0,16,32", png(person(4)))
    held = json.loads(body)
    assert (status, held["width"], held["height"]) == (200, 16, 32)
    assert found(site, queries=[held["query"]], k=14) == found(site, queries=[hold(site, 4)], k=14)
    by_image = site.search(png(person(4)), "k=14")["matches"]
    assert list(found(site, queries=[held["query"]], k=14).values()) == [
        one["distance"] for one in by_image
    ]


def test_an_image_s_distance_to_several_queries_is_the_smallest(site: Site) -> None:
    first, second = hold(site, 4), hold(site, 9)
    one, other = found(site, queries=[first], k=14), found(site, queries=[second], k=14)
    both = found(site, queries=[first, second], k=14)
    assert both == pytest.approx({name: min(one[name], other[name]) for name in one})
    assert list(both.values()) == sorted(both.values())
    assert {*list(both)[:2]} == {"p4", "p9"}


def test_filters_and_the_count_hold_for_held_queries_too(site: Site) -> None:
    names = found(site, queries=[hold(site, 4)], k=2, cameras=["c1"], since="1970-01-01T00:03:00Z")
    assert len(names) == 2
    assert all(int(name[1:]) % 2 and int(name[1:]) >= 3 for name in names)


def test_an_image_of_the_gallery_is_a_query(site: Site) -> None:
    number = site.search(png(person(7)))["matches"][0]["id"]
    for given in (number, int(number)):
        assert next(iter(found(site, ids=[given]))) == "p7"
    names = found(site, ids=[number], queries=[hold(site, 2)], k=2)
    assert set(names) == {"p7", "p2"}


def test_a_query_that_is_not_held_is_410_and_named(site: Site) -> None:
    here, gone = hold(site, 4), "0" * 32
    status, body = site.ask_json("/api/search", {"queries": [here, gone]})
    assert (status, body["gone"]) == (410, [gone])


def test_a_search_with_an_image_that_is_gone_is_404(site: Site) -> None:
    status, body = site.ask_json("/api/search", {"ids": ["1", "99"]})
    assert (status, set(body)) == (404, {"error"})
    assert site.gallery.name not in body["error"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"queries": []},
        {"queries": ["../../etc/passwd"]},
        {"ids": ["1e9"]},
        {"ids": ["1"], "k": 201},
        {"ids": ["1"], "k": 0},
        {"ids": ["1"], "since": "yesterday"},
        {"ids": ["1"], "unknown": 1},
        [],
    ],
)
def test_a_malformed_search_is_one_line(site: Site, asked: Any) -> None:
    status, body = site.ask_json("/api/search", asked)
    assert status == 400
    assert set(body) == {"error"}
    assert "\n" not in body["error"]


def test_confirmed_images_join_the_query_and_denied_ones_leave_the_answer(site: Site) -> None:
    query = hold(site, 4)
    everyone = found(site, queries=[query], k=14)
    ids = {
        one["person"] or one["id"]: one["id"]
        for one in site.search(png(person(4)), "k=14")["matches"]
    }
    other, wrong = list(everyone)[5], list(everyone)[1]
    for name, same in ((other, True), (wrong, False)):
        said = {"query": query, "id": ids[name], "same": same}
        assert site.ask_json("/api/confirm", said)[0] == 200
    asked = {"queries": [query], "learn": True, "k": 14}
    status, body = site.ask_json("/api/search", asked)
    assert (status, body["queries"]) == (200, 2)
    learnt = {one["person"] or one["id"]: one for one in body["matches"]}
    assert learnt[other]["distance"] == pytest.approx(0, abs=1e-3)
    assert learnt[other]["confirmed"] is True
    assert wrong not in learnt
    assert len(learnt) == len(everyone) - 1

    shown = site.ask_json("/api/search", {**asked, "show_different": True})[1]["matches"]
    assert (shown[-1]["person"], shown[-1]["confirmed"]) == (wrong, False)
    few = site.ask_json("/api/search", {**asked, "k": 3})[1]["matches"]
    assert len(few) == 3
    assert found(site, queries=[query], k=14) == pytest.approx(everyone)  # without learn

    for name in (other, wrong):
        said = {"query": query, "id": ids[name], "same": None}
        assert site.ask_json("/api/confirm", said) == (200, {"confirmed": None})
    assert found(site, **asked) == pytest.approx(everyone)


def test_verdicts_on_a_search_with_an_image_are_kept_under_that_image(site: Site) -> None:
    number = site.search(png(person(6)))["matches"][0]["id"]
    first = site.ask_json("/api/search", {"ids": [number]})[1]
    assert first["query"] == image_query(int(number))
    near = first["matches"][1]["id"]
    said = {"query": first["query"], "id": near, "same": True}
    assert site.ask_json("/api/confirm", said)[0] == 200
    again = site.ask_json("/api/search", {"ids": [number]})[1]["matches"]
    assert [one["confirmed"] for one in again if one["id"] == near] == [True]


def held_query(name: str, num_bytes: int = 1) -> HeldQuery:
    return HeldQuery(name, np.zeros((1, 4)), 1, 1, b"", num_bytes)


def test_queries_are_held_for_a_while_for_their_user_alone() -> None:
    now = [0.0]
    held = HeldQueries(lambda: now[0])
    held.hold("anna", held_query("a"))
    assert [one.name for one in held.take("anna", ["a"])] == ["a"]
    with pytest.raises(Refusal) as caught:
        held.take("ben", ["a"])
    assert caught.value.gone == ("a",)
    now[0] = HELD_S - 1
    held.take("anna", ["a"])  # used, so held for longer
    now[0] = 2 * HELD_S - 2
    assert len(held) == 1
    now[0] = 2 * HELD_S
    assert len(held) == 0
    with pytest.raises(Refusal):
        held.take("anna", ["a"])


def test_a_user_s_oldest_query_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldQueries()
    held.hold("ben", held_query("b"))
    for number in range(MAX_HELD + 5):
        held.hold("anna", held_query(str(number)))
    assert len(held) == MAX_HELD + 1
    held.take("ben", ["b"])
    held.take("anna", ["5"])
    with pytest.raises(Refusal):
        held.take("anna", ["4"])
    monkeypatch.setattr("reid.deploy.serve.queries.MAX_HELD_BYTES", 100)
    held.hold("anna", held_query("large", 99))
    assert len(held) == 2


class Detector:
    """Finds one person, whose box extends over the frame's border."""

    name, note = "a detector", ""

    def detect(self, frames: Any) -> list[People]:
        boxes = np.array([[30.2, -5.0, 46.0, 200.0], [500, 500, 600, 600]], np.float32)
        return [People(boxes, np.array([0.9, 0.2], np.float32)) for _ in frames]

    def close(self) -> None:
        pass


def test_people_in_a_frame_are_boxes_inside_it(filled: Any, matcher: Any, site: Site) -> None:
    frame = png(np.full((90, 80, 3), 128, np.uint8))
    assert site.ask("POST", "/api/people", frame)[0] == 501
    service = GalleryService(filled, matcher, detector=Detector())
    with running(filled, matcher, Access("127.0.0.1"), service=service) as other:
        status, _, body = other.ask("POST", "/api/people", frame)
        assert status == 200
        (one,) = json.loads(body)["people"]
        assert one == {"box": [30, 0, 16, 90], "score": pytest.approx(0.9)}
        assert json.loads(other.ask("GET", "/api/gallery")[2])["people_detector"] is True
        assert other.ask("POST", "/api/people", b"no image")[0] == 400


def test_a_network_that_compares_pairs_is_searched_with_several_queries_too(
    tmp_path: Path,
) -> None:
    pair_matcher = PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4)
    gallery = open_gallery(str(tmp_path / "gallery"), pair_matcher, create=True)
    entries = [
        GalleryEntry(f"{number}.png", f"p{number}", content=str(number)) for number in range(6)
    ]
    add_images(gallery, pair_matcher, map(person, range(6)), entries)
    with running(gallery, pair_matcher, Access("127.0.0.1")) as site:
        first, second = hold(site, 1), hold(site, 4)
        one, other = found(site, queries=[first]), found(site, queries=[second])
        both = found(site, queries=[first, second])
        assert both == pytest.approx({name: min(one[name], other[name]) for name in one})
        number = site.search(png(person(4)))["matches"][0]["id"]
        assert found(site, queries=[first], ids=[number]) == pytest.approx(both)
        status, _, content = site.ask(
            "POST", "/api/evidence", json.dumps({"queries": [first], "ids": [number]}).encode()
        )
        assert status == 200
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            (image,) = json.loads(packed.read("evidence.json"))["images"]
        assert image["distance"] == pytest.approx(one[image["person"]])
        assert site.errors == []
