"""The same gallery in Milvus: in Milvus Lite, and in a real server where there is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Summary, Where
from reid.deploy.gallery.indexing import add_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.pictures import jpeg
from reid.deploy.gallery.reindexing import reindex_collection
from reid.deploy.gallery.retention import prune
from reid.errors import ConfigError, DataError, ModelFileError, ReidError, UnavailableError
from reid.matching import PairMatcher, VectorMatcher
from tests.deploy.gallery.conftest import PixelRunner, entries_of, people_vectors, vector_matcher

pymilvus = pytest.importorskip("pymilvus", reason="needs pymilvus: pip install -e '.[milvus]'")
DataType: Any = pymilvus.DataType

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
        Where(named=True),
        Where(named=False),
    ],
)
def test_filters_choose_what_is_found_and_what_is_deleted(
    gallery: GalleryStore, where: Where
) -> None:
    vectors = people_vectors(4, 10)
    entries = entries_of(40)
    entries[::7] = [dataclasses.replace(one, person="") for one in entries[::7]]
    gallery.add(vectors, entries)
    chosen = [
        i
        for i in range(40)
        if (not where.people or entries[i].person in where.people)
        and (where.named is None or bool(entries[i].person) == where.named)
        and (not where.cameras or f"c{i % 3}" in where.cameras)
        and (where.since_s is None or 600 <= 60 * i < 1200)
    ]
    found = gallery.search(vectors[:1], 40, where)[0]
    assert sorted(people(found)) == sorted(f"/images/{i}.jpg" for i in chosen)
    assert gallery.count(where) == len(chosen)
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


def test_verdicts_are_found_by_query_merged_taken_back_and_erased(gallery: GalleryStore) -> None:
    vectors = people_vectors(2, 10)
    gallery.add(vectors, entries_of(20))
    first, second = (match.id for match in gallery.search(vectors[:1], 2)[0])
    given = [
        Confirmation("ab", first, True, 1.0, "anna"),
        Confirmation("ab", first, False, 2.25, 'ben "b"'),
        Confirmation("ab", second, False, 3.0, "anna"),
        Confirmation("cd", first, True, 4.0),
    ]
    for one in given:
        gallery.confirm(one)
    assert gallery.confirmed() == given
    assert gallery.verdicts("ab") == {first: given[1], second: given[2]}
    gallery.confirm(Confirmation("ab", first, None, 5.0, 'ben "b"'))
    assert gallery.verdicts("ab") == {first: given[0], second: given[2]}
    assert gallery.verdicts('" or query != "') == {}
    assert gallery.delete(Where(ids=(second,))) == 1
    assert gallery.verdicts("ab") == {first: given[0]}
    assert gallery.forget_verdicts(["cd"]) == 1
    assert {one.query for one in gallery.confirmed()} == {"ab"}


def test_verdicts_of_earlier_versions_are_read_and_erased(gallery: GalleryStore) -> None:
    store: Any = gallery
    fields = {"said": (DataType.VARCHAR, {"max_length": 1024})}
    from reid.deploy.gallery.milvus_rows import make_collection

    name = f"{store._collection}_confirmed"
    flat = {"index_type": "FLAT"}
    store._connection.run(
        lambda client, left_s: make_collection(client, name, 2, fields, "", flat, 30.0), 30.0
    )
    rows = [
        {"id": 1_500_000 + i, "vector": [0.0, 0.0], "said": f'["ab", {i}, {word}]'}
        for i, word in enumerate(("true", "false"))
    ]
    store._connection.call("upsert", name, rows, limit_s=30.0)
    assert gallery.verdicts("ab") == {
        0: Confirmation("ab", 0, True, 1.5),
        1: Confirmation("ab", 1, False, 1.500001),
    }
    gallery.forget_verdicts((), [0])
    assert open_gallery(gallery.name, vector_matcher()).confirmed() == [
        Confirmation("ab", 1, False, 1.500001)
    ]


def test_it_is_opened_and_erased_from_without_a_model(gallery: GalleryStore) -> None:
    vectors = people_vectors(2, 10)
    gallery.add(vectors, entries_of(20))
    opened = open_gallery(gallery.name, None)
    listed = dict(opened.listed(Where(people=("p1",))))
    assert sorted(one.source for one in listed.values()) == sorted(
        one.source for one in entries_of(10, 10)
    )
    assert opened.features(list(listed)[:1]).shape == (1, 16)
    with pytest.raises(ConfigError, match="model"):
        add_images(opened, opened._matcher, [], [])  # type: ignore[attr-defined]
    assert prune(opened, 100.0, 700.0) == 10
    assert opened.summary() == Summary(10, ("p1",), ("c0", "c1", "c2"), 600.0, 1140.0)
    opened.compact()


def test_images_described_again_keep_ids_and_verdicts(gallery: GalleryStore) -> None:
    matcher = VectorMatcher(PixelRunner(checkpoint="cd" * 32))
    image = np.full((16, 8, 3), 90, np.uint8)
    entries = [
        GalleryEntry("cam", "p", "cam", float(i), content=str(i), picture=jpeg(image + i))
        for i in range(5)
    ]
    gone = GalleryEntry("/absent.jpg", content="gone")
    gallery.add(people_vectors(1, 6), [*entries, gone])
    numbers = dict(gallery.listed(Where(people=("p",))))
    gallery.confirm(Confirmation("ab", min(numbers), True, 1.0, "anna"))
    new: Any = open_gallery(f"{gallery.name}_new", matcher, create=True)
    for added in (5, 0):
        done = reindex_collection(gallery, new, new.put, matcher)
        assert (done.added, done.total, len(done.left_out)) == (added, 5, 1)
    assert dict(new.listed()) == numbers
    assert new.confirmed() == gallery.confirmed()
    assert len(new.search(matcher.describe([image]), 9)[0]) == 5
    assert new.summary().people == ("p",)
