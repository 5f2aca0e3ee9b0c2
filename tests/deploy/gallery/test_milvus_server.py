"""A real Milvus server: the folder gallery's answers, and what an outage costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reid.deploy.gallery import ANYWHERE, Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.opening import open_gallery
from reid.errors import UnavailableError
from reid.matching import VectorMatcher
from tests.deploy.gallery.conftest import entries_of, people_vectors, vector_matcher
from tests.deploy.gallery.milvus_server import MilvusServer

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("milvus_client")]

T = TypeVar("T")
PEOPLE, EACH = 30, 20
VECTORS = people_vectors(PEOPLE, EACH)
ENTRIES = [
    dataclasses.replace(one, run=f"r{i % 2}", track=i // 5, picture=b"\xff\xd8 picture %d" % i)
    for i, one in enumerate(entries_of(PEOPLE * EACH))
]


@pytest.fixture
def gallery(milvus_server: MilvusServer, request: pytest.FixtureRequest) -> Iterator[GalleryStore]:
    number = abs(hash(request.node.name)) % 10**9
    opened = open_gallery(f"{milvus_server.url}/outage_{number}", vector_matcher(), create=True)
    yield opened
    opened.close()


@pytest.fixture
def local(tmp_path: Path, matcher: VectorMatcher) -> GalleryStore:
    return open_gallery(str(tmp_path / "folder"), matcher, create=True)


def eventually(call: Callable[[], T]) -> T:
    """The answer once the server is back."""
    deadline = time.monotonic() + 240  # a killed one was back after 85 s
    while True:
        try:
            return call()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def sources(gallery: GalleryStore, where: Where = ANYWHERE, k: int = 15) -> list[list[str]]:
    found = gallery.search(VECTORS[::40], k, where)
    return [[match.entry.source for match in matches] for matches in found]


WHERES = (
    Where(people=("p3", "p41", "nobody")),
    Where(cameras=("c1",), since_s=600.0, until_s=6000.0),
    Where(tracks=(("r0", 4), ("r1", 7))),
    Where(cameras=("c2",), tracks=(("r0", 4), ("r1", 7))),
    Where(people=("p0",), until_s=60.0),
)


def test_a_server_finds_and_erases_what_the_folder_does(
    gallery: GalleryStore, local: GalleryStore
) -> None:
    for one in (gallery, local):
        assert one.add(VECTORS, ENTRIES) == len(ENTRIES)
    for where in (ANYWHERE, *WHERES):
        assert sources(gallery, where) == sources(local, where)
    for ours, theirs in zip(gallery.search(VECTORS, 5), local.search(VECTORS, 5), strict=True):
        distances = [match.distance for match in theirs]
        assert [match.distance for match in ours] == pytest.approx(distances, abs=2e-3)
        assert [match.entry for match in ours] == [match.entry for match in theirs]
    assert gallery.summary() == local.summary()
    for where in WHERES:
        assert gallery.delete(where) == local.delete(where)
        assert sources(gallery) == sources(local)
        assert gallery.summary() == local.summary()


def test_what_a_track_looked_like_comes_back_with_its_picture(gallery: GalleryStore) -> None:
    entry = GalleryEntry(
        "gate",
        camera="gate",
        time_s=1_700_000_000.25,
        box=(1, 2, 30, 60),
        content="x",
        picture=bytes(range(256)) * 100,
        frame=12,
        seconds=0.48,
        track=7,
        run="run 1",
        picture_ref="gate/2026-05-01/0001.jpg",
    )
    gallery.add(VECTORS[:1], [entry])
    ((match,),) = gallery.search(VECTORS[:1], 5)
    assert dataclasses.replace(match.entry, picture=entry.picture, content="x") == entry
    found = gallery.entry(match.id)
    assert found is not None
    assert found.picture == entry.picture
    assert gallery.features([match.id]) == pytest.approx(VECTORS[:1])


def test_names_that_were_lacking_are_added_to_rows(gallery: GalleryStore) -> None:
    bare = [dataclasses.replace(one, person="", camera="") for one in ENTRIES[:12]]
    gallery.add(VECTORS[:12], bare)
    assert gallery.label(ENTRIES[:11]).labelled == 11
    assert gallery.label(ENTRIES[:11]) == (0, 0, 0)
    other = dataclasses.replace(ENTRIES[0], person="another")
    assert gallery.label([other]).differing == 1
    assert gallery.summary().people == ("p0", "p1")
    found = gallery.search(VECTORS[:1], 20, Where(people=("p0",)))[0]
    assert {match.entry.source for match in found} == {one.source for one in ENTRIES[:10]}
    assert gallery.features([found[0].id]) == pytest.approx(VECTORS[:1])


def test_a_frozen_server_ends_a_search_and_is_used_again_once_it_answers(
    gallery: GalleryStore, milvus_server: MilvusServer
) -> None:
    gallery.add(VECTORS[:20], ENTRIES[:20])
    before = sources(gallery)
    milvus_server.freeze()
    try:
        for call in (sources, len, lambda opened: opened.summary()):
            with pytest.raises(UnavailableError, match="did not answer") as told:
                call(gallery)
            assert "\n" not in str(told.value)
    finally:
        milvus_server.thaw()
    assert eventually(lambda: sources(gallery)) == before


def test_a_killed_server_loses_nothing_and_is_used_again_once_it_is_back(
    gallery: GalleryStore, milvus_server: MilvusServer
) -> None:
    gallery.add(VECTORS[:40], ENTRIES[:40])
    gallery.confirm(Confirmation("ab", 3, True, 1.5, "anna"))
    gallery.delete(Where(people=("p1",)))
    before = sources(gallery), gallery.summary()
    milvus_server.kill()
    try:
        with pytest.raises(UnavailableError, match="milvus://127"):
            gallery.search(VECTORS[:1], 3)
        with pytest.raises(UnavailableError):
            gallery.add(VECTORS[40:41], ENTRIES[40:41])
    finally:
        milvus_server.start()
    assert eventually(lambda: (sources(gallery), gallery.summary())) == before
    assert eventually(lambda: gallery.verdicts("ab"))[3].user == "anna"


def test_an_addition_that_a_killed_server_stopped_is_repeated_to_the_folders_answers(
    gallery: GalleryStore,
    local: GalleryStore,
    milvus_server: MilvusServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = people_vectors(600, 20, seed=1)
    entries = entries_of(len(vectors))
    connection, batches = gallery._images._connection, 0  # type: ignore[attr-defined]
    call = connection.call

    def killed_behind_three(what: str, *arguments: Any, **settings: Any) -> Any:
        """The server dies between two batches of the addition."""
        nonlocal batches
        if what == "upsert":
            batches += 1
            if batches == 4:
                milvus_server.kill()
        return call(what, *arguments, **settings)

    with monkeypatch.context() as dying:
        dying.setattr(connection, "call", killed_behind_three)
        with pytest.raises(UnavailableError):
            gallery.add(vectors, entries)
    assert batches == 4
    milvus_server.start()
    eventually(lambda: gallery.add(vectors, entries))
    local.add(vectors, entries)
    assert len(gallery) == len(local) == len(entries)
    for where in (ANYWHERE, Where(cameras=("c1",)), Where(people=("p7", "p1100"))):
        found, expected = (one.search(vectors[::2000], 10, where) for one in (gallery, local))
        assert [[m.entry.source for m in each] for each in found] == [
            [m.entry.source for m in each] for each in expected
        ]
    assert gallery.summary() == local.summary()


def test_an_index_of_milvuss_choice_is_told_of_and_replaced(
    milvus_server: MilvusServer, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{milvus_server.url}/of_milvus"
    with monkeypatch.context() as earlier:
        settings = {"index_type": "AUTOINDEX"}
        earlier.setattr("reid.deploy.gallery.milvus.settings_of", lambda kind: settings)
        open_gallery(name, matcher, create=True).add(VECTORS, ENTRIES)
    lines: list[str] = []
    gallery = open_gallery(name, matcher, say=lines.append)
    assert "reid index" in lines[0]
    expected = sources(gallery)
    for large, kind in ((100, "HNSW"), (10_000, "FLAT")):
        monkeypatch.setattr("reid.deploy.gallery.milvus_index.FLAT_ROWS", large)
        lines.clear()
        gallery.prepare()
        assert any(kind in line for line in lines)
        assert sources(gallery) == expected
        lines.clear()
        gallery.prepare()
        assert lines == []
