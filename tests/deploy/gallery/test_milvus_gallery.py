"""The same gallery in Milvus: in Milvus Lite, and in a real server where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.opening import open_gallery
from reid.errors import ConfigError, DataError, ModelFileError, ReidError, UnavailableError
from reid.matching import PairMatcher, VectorMatcher
from tests.deploy.gallery.conftest import entries_of, people_vectors, vector_matcher

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("milvus_client")]


@pytest.fixture
def gallery(milvus_name: str, matcher: VectorMatcher) -> Iterator[GalleryStore]:
    opened = open_gallery(milvus_name, matcher, create=True)
    yield opened
    opened.close()


def people(matches):
    return [match.entry.source for match in matches]


def test_the_nearest_are_found_with_all_that_is_known_of_them(gallery: GalleryStore) -> None:
    vectors = people_vectors(4, 10)
    assert gallery.add(vectors, entries_of(40)) == 40
    assert gallery.add(vectors[5:], entries_of(35, 5)) == 0
    assert len(gallery) == 40
    found = gallery.search(vectors[[7, 31]], k=3)
    distances = np.linalg.norm(vectors[[7, 31], None] - vectors[None], axis=2)
    for matches, row in zip(found, distances, strict=True):
        assert people(matches) == [f"/images/{i}.jpg" for i in np.argsort(row)[:3]]
        assert [m.distance for m in matches] == pytest.approx(np.sort(row)[:3], abs=2e-3)


def test_an_entry_comes_back_as_it_was(gallery: GalleryStore) -> None:
    full = GalleryEntry(
        "rtsp://a/1",
        'ä "l\\',
        "gate",
        1_700_000_000.123456,
        (3, -4, 50, 60),
        "",
        b"j",
        250,
        10.04,
        7,
        "run ü",
        "a/b.jpg",
    )
    vectors = people_vectors(1, 2)
    gallery.add(vectors, [full, GalleryEntry("b")])
    (first, second), _ = gallery.search(vectors, 2)
    assert gallery.entry(first.id) == full
    assert (first.entry.frame, first.entry.seconds) == (250, 10.04)
    assert gallery.entry(second.id) == GalleryEntry("b")
    assert gallery.entry(12345) is None
    odd = GalleryEntry("c", "b\udcf6b", content="1")  # of a folder's name that is no UTF-8
    gallery.add(people_vectors(1, 3)[2:], [odd])
    assert people(gallery.search(vectors[:1], 5, Where(people=(odd.person,)))[0]) == ["c"]
    assert people(gallery.search(vectors[:1], 5, Where(people=(full.person,)))[0]) == ["rtsp://a/1"]


@pytest.mark.parametrize(
    "where",
    [
        Where(people=("p1", "p3")),
        Where(cameras=("c2",), since_s=600.0, until_s=1200.0),
        Where(people=('p1" or person != "',)),
    ],
)
def test_filters_choose_what_is_found_and_what_is_deleted(
    gallery: GalleryStore, where: Where
) -> None:
    vectors = people_vectors(4, 10)
    gallery.add(vectors, entries_of(40))
    chosen = [
        i
        for i in range(40)
        if (not where.people or f"p{i // 10}" in where.people)
        and (not where.cameras or f"c{i % 3}" in where.cameras)
        and (where.since_s is None or 600 <= 60 * i < 1200)
    ]
    found = gallery.search(vectors[:1], 40, where)[0]
    assert sorted(people(found)) == sorted(f"/images/{i}.jpg" for i in chosen)
    assert gallery.delete(where) == len(chosen)
    assert len(gallery) == 40 - len(chosen)


def test_the_summary_and_what_was_confirmed(gallery: GalleryStore) -> None:
    gallery.add(people_vectors(2, 10), entries_of(20))
    found = gallery.summary()
    assert (found.images, found.people, found.cameras) == (20, ("p0", "p1"), ("c0", "c1", "c2"))
    assert (found.first_s, found.last_s) == (0.0, 1140.0)
    assert gallery.confirmed() == []
    said = [Confirmation("ab", 3, True, 1.5), Confirmation("ab", 4, False, 2.5)]
    for one in said:
        gallery.confirm(one)
    assert gallery.confirmed() == said


def test_another_model_is_refused(gallery: GalleryStore) -> None:
    other = vector_matcher()
    other.identity = {**other.identity, "precision": "fp16"}
    with pytest.raises(ModelFileError, match=r"precision fp32 \(this model: fp16\)"):
        open_gallery(gallery.name, other)


def test_no_collection_says_how_to_make_one(milvus_name: str, matcher: VectorMatcher) -> None:
    with pytest.raises(DataError, match="no such collection; make it: reid index"):
        open_gallery(milvus_name, matcher)


def test_a_pair_network_is_sent_to_a_folder(milvus_name: str, pair_matcher: PairMatcher) -> None:
    with pytest.raises(ConfigError, match="make its gallery in a folder"):
        open_gallery(milvus_name, pair_matcher, create=True)


def test_a_text_too_long_for_its_field_is_named_and_nothing_is_added(gallery: GalleryStore) -> None:
    with pytest.raises(DataError, match=r"a: a person of 600 bytes; Milvus keeps up to 512"):
        gallery.add(people_vectors(1, 2), [GalleryEntry("b"), GalleryEntry("a", "x" * 600)])
    assert len(gallery) == 0


def test_a_silent_host_is_one_line_without_the_credentials(
    matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reid.deploy.gallery.milvus.PATIENCE_S", 1.0)
    with pytest.raises(UnavailableError) as caught:
        open_gallery("milvus://ann:s3cret@127.0.0.1:9/people", matcher)
    said = str(caught.value) + "".join(capfd.readouterr())
    assert "milvus://127.0.0.1:9/people: Milvus " in said
    assert "s3cret" not in said
    assert "ann" not in said
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "milvus://host",
        "milvus:",
        "milvus://h:99999/x",
        "milvus://u:s3cret@h/1 x",
        "milvus://u:s/3cret@h/x y",
        "milvus:/x",
        "milvus://u:s3cret@h/x?tls=1",
        "milvus://u:s3cret@h/x?search_s=soon",
        "milvus://u:s3cret@h/x?patience=1",
        "milvus://u:s3cret@h/x#tls",
    ],
)
def test_a_name_that_is_none_says_what_one_is(name: str, matcher: VectorMatcher) -> None:
    with pytest.raises(ReidError, match="is named milvus://host:port/collection") as caught:
        open_gallery(name, matcher)
    assert "3cret" not in str(caught.value)
