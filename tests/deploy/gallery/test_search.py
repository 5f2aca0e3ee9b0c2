"""Search by an index: as exact search, filtered or not, and an index file that is only a cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.deploy.gallery import GalleryStore, Where
from reid.deploy.gallery import search as search_module
from reid.deploy.gallery.index import (
    FORMAT,
    KIND,
    RETIRED_KINDS,
    BinaryCodes,
    built_index,
    nearest_by_index,
)
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.vectors import Vectors
from reid.errors import ConfigError
from reid.matching import VectorMatcher, unit_vectors
from reid.matching.columns import read_columns, write_columns
from tests.deploy.gallery.conftest import entries_of, people_vectors

PEOPLE, EACH = 150, 10
NUM = PEOPLE * EACH
VECTORS = people_vectors(PEOPLE, EACH)
QUERIES = people_vectors(PEOPLE, EACH, seed=0)[::50] + np.float32(0.01)


@pytest.fixture(autouse=True)
def no_gallery_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter's choice is searched by the index, however few it chooses."""
    monkeypatch.setattr(search_module, "FILTERED_ROWS", 0)
    monkeypatch.setattr(search_module, "FILTERED_SHARE", 0.0)


@pytest.fixture
def full(gallery: GalleryStore) -> str:
    """The name of a gallery of all vectors in two files."""
    gallery.add(VECTORS[:1000], entries_of(1000))
    gallery.add(VECTORS[1000:], entries_of(NUM - 1000, 1000))
    return gallery.name


def ids(found):
    return [[match.id for match in matches] for matches in found]


def recall(found, exact) -> float:
    pairs = list(zip(ids(found), ids(exact), strict=True))
    return sum(len(set(a) & set(b)) for a, b in pairs) / sum(len(b) for _, b in pairs)


def index_file(gallery: str) -> Path:
    return Path(gallery, *search_module.FILE)


@pytest.mark.parametrize(
    "where",
    [
        Where(),
        Where(cameras=("c1",)),
        Where(since_s=60.0 * 200, until_s=60.0 * 800),
        Where(since_s=60.0 * 200, until_s=60.0 * 205),  # fewer than are asked for
        Where(people=tuple(f"p{i}" for i in range(0, 150, 7))),
    ],
)
def test_an_index_finds_what_exact_search_finds(
    full: str, matcher: VectorMatcher, where: Where
) -> None:
    said: list[str] = []
    gallery = open_gallery(full, matcher, index=KIND, say=said.append)
    gallery.prepare()
    exact = open_gallery(full, matcher, index="exact").search(QUERIES, 10, where)
    found = gallery.search(QUERIES, 10, where)
    assert [len(matches) for matches in found] == [len(matches) for matches in exact]
    assert recall(found, exact) >= 0.97
    for matches, others in zip(found, exact, strict=True):
        assert matches[0].distance == pytest.approx(others[0].distance, abs=1e-3)
    measured = re.search(r"index of 1,500 images: recall@10 ([\d.]+) ", said[1])
    assert measured
    assert float(measured[1]) >= 0.99


def test_rows_that_came_or_went_since_are_right_at_once(full: str, matcher: VectorMatcher) -> None:
    gallery = open_gallery(full, matcher, index=KIND)
    gallery.prepare()
    gallery.delete(Where(people=("p0", "p70", "p149")))
    late = people_vectors(5, 10, seed=9)
    gallery.add(late, entries_of(50, NUM))
    assert ids(gallery.search(late[:3], 1)) == [[NUM], [NUM + 1], [NUM + 2]]
    queries = np.concatenate([VECTORS[[0, 700, 1499, 55]], late[20:21]])
    for reader in (gallery, open_gallery(full, matcher, index=KIND)):
        exact = open_gallery(full, matcher, index="exact").search(queries, 10)
        # Lower than elsewhere: some queries show people without an image left.
        assert recall(reader.search(queries, 10), exact) >= 0.85
        gone = {"p0", "p70", "p149"}
        found = {m.entry.person for matches in reader.search(queries, 30) for m in matches}
        assert not found & gone


def test_codes_of_what_was_deleted_are_on_the_disk_no_more(
    full: str, matcher: VectorMatcher
) -> None:
    gallery = open_gallery(full, matcher, index="binary")
    gallery.prepare()
    gallery.delete(Where(people=("no one",)))
    assert index_file(full).exists()
    gallery.delete(Where(people=("p3",)))
    assert not index_file(full).exists()
    assert len(gallery.search(QUERIES, 10)[0]) == 10


def test_more_results_than_the_effort_was_chosen_for_are_found_too(
    full: str, matcher: VectorMatcher
) -> None:
    gallery = open_gallery(full, matcher, index=KIND)
    gallery.prepare()
    exact = open_gallery(full, matcher, index="exact").search(QUERIES, 50)
    assert recall(gallery.search(QUERIES, 50), exact) >= 0.97


def test_the_next_reader_takes_the_index_from_its_file(full: str, matcher: VectorMatcher) -> None:
    first = open_gallery(full, matcher, index=KIND)
    first.prepare()
    said: list[str] = []
    second = open_gallery(full, matcher, index=KIND, say=said.append)
    second.prepare()
    assert said == []
    assert ids(second.search(QUERIES, 10)) == ids(first.search(QUERIES, 10))


def test_a_damaged_index_is_built_again_and_never_believed(
    full: str, matcher: VectorMatcher
) -> None:
    open_gallery(full, matcher, index=KIND).prepare()
    path, rng = index_file(full), np.random.default_rng(0)
    content = path.read_bytes()
    exact = ids(open_gallery(full, matcher, index="exact").search(QUERIES, 10))
    for turn in range(12):
        spoilt = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            spoilt[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(spoilt if turn % 3 else spoilt[: rng.integers(0, len(content))])
        reader = open_gallery(full, matcher, index=KIND)
        assert ids(reader.search(QUERIES, 10)) == exact
    said: list[str] = []
    open_gallery(full, matcher, index=KIND, say=said.append).prepare()
    assert said[0] == "building a binary index of 1,500 images"
    assert path.read_bytes() == content


def test_arrays_that_do_not_fit_the_vectors_are_refused() -> None:
    vectors = Vectors([VECTORS], 16)
    learned = dict(BinaryCodes.built(vectors).arrays)
    for name, wrong in (
        ("codes", learned["codes"][:-1]),
        ("codes", learned["codes"].astype(np.int64)),
        ("planes", learned["planes"][:, :-8]),
        ("middle", learned["middle"].astype(np.float64)),
    ):
        with pytest.raises(ValueError, match=f"the {'codes' if name == 'codes' else 'planes'} "):
            BinaryCodes({**learned, name: wrong}, vectors)


def as_a_retired_kind(gallery: str, kind: str) -> bytes:
    """Turn the index's file into one of an older version."""
    texts, columns = read_columns(index_file(gallery), FORMAT, "index", "")
    texts["engine"] = kind
    columns = {"ids": np.array(columns["ids"]), "lists": np.zeros(NUM, np.int32)}
    write_columns(index_file(gallery), FORMAT, texts, {k: [v] for k, v in columns.items()})
    return index_file(gallery).read_bytes()


@pytest.mark.parametrize("kind", RETIRED_KINDS)
@pytest.mark.parametrize("chosen", ["auto", KIND])
def test_an_index_of_a_retired_kind_is_one_line_and_exact_search(
    full: str, matcher: VectorMatcher, kind: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "EXACT_ROWS", NUM - 1)
    open_gallery(full, matcher, index=KIND).prepare()
    content = as_a_retired_kind(full, kind)
    exact = ids(open_gallery(full, matcher, index="exact").search(QUERIES, 10))
    said: list[str] = []
    gallery = open_gallery(full, matcher, index=chosen, say=said.append)
    for _ in range(2):
        assert ids(gallery.search(QUERIES, 10)) == exact
    assert len(said) == 1
    for word in (str(index_file(full)), kind, "reid index", "--index binary"):
        assert word in said[0]
    assert index_file(full).read_bytes() == content
    gallery.prepare()
    said.clear()
    again = open_gallery(full, matcher, index=chosen, say=said.append)
    assert recall(again.search(QUERIES, 10), gallery.search(QUERIES, 10)) == 1
    assert said == []


def test_rows_of_an_old_index_are_erased_with_its_file(full: str, matcher: VectorMatcher) -> None:
    open_gallery(full, matcher, index=KIND).prepare()
    as_a_retired_kind(full, "ivf")
    open_gallery(full, matcher).delete(Where(people=("p3",)))
    assert not index_file(full).exists()


def test_a_small_gallery_needs_no_index(full: str, matcher: VectorMatcher) -> None:
    gallery = open_gallery(full, matcher)
    gallery.prepare()
    assert not index_file(full).exists()


def test_a_large_gallery_gets_one_by_itself(
    full: str, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "EXACT_ROWS", NUM - 1)
    said: list[str] = []
    open_gallery(full, matcher, say=said.append).prepare()
    assert said[0] == "building a binary index of 1,500 images"
    assert index_file(full).exists()


def test_an_index_is_built_again_once_it_is_stale(full: str, matcher: VectorMatcher) -> None:
    said: list[str] = []
    gallery = open_gallery(full, matcher, index=KIND, say=said.append)
    gallery.prepare()
    gallery.add(people_vectors(20, 10, seed=4), entries_of(200, NUM))
    gallery.prepare()
    assert len(said) == 2
    gallery.add(people_vectors(30, 10, seed=5), entries_of(300, NUM + 200))
    gallery.prepare()
    assert said[2] == "building a binary index of 2,000 images"


def test_an_index_of_another_gallery_is_not_taken(
    full: str, matcher: VectorMatcher, tmp_path: Path
) -> None:
    open_gallery(full, matcher, index=KIND).prepare()
    other = open_gallery(str(tmp_path / "other"), matcher, create=True, index=KIND)
    other.add(people_vectors(PEOPLE, EACH, seed=8), entries_of(NUM))
    stolen = index_file(other.name)
    stolen.parent.mkdir()
    stolen.write_bytes(index_file(full).read_bytes())
    said: list[str] = []
    open_gallery(other.name, matcher, index=KIND, say=said.append).prepare()
    assert said[0].startswith("building a binary index")


def test_another_gallery_in_the_folder_is_seen_as_another(
    full: str, matcher: VectorMatcher, tmp_path: Path
) -> None:
    reader = open_gallery(full, matcher, index="binary")
    reader.prepare()
    Path(full).rename(tmp_path / "old")
    others = people_vectors(10, 10, seed=8)
    open_gallery(full, matcher, create=True).add(others, entries_of(100))
    assert reader.search(others[:1], 1)[0][0].distance < 1e-3
    assert len(reader.search(QUERIES, 200)[0]) == 100


def test_an_index_that_cannot_be_kept_serves_all_the_same(
    full: str, matcher: VectorMatcher
) -> None:
    index_file(full).parent.write_text("a file where the folder should be")
    said: list[str] = []
    gallery = open_gallery(full, matcher, index=KIND, say=said.append)
    gallery.prepare()
    assert said[2].startswith("the index is not saved: cannot write")
    assert len(gallery.search(QUERIES, 10)[0]) == 10
    assert gallery.delete(Where(people=("p3",))) == EACH


def test_an_unknown_index_names_the_nearest(full: str, matcher: VectorMatcher) -> None:
    with pytest.raises(ConfigError, match=r"found 'binray' \(did you mean 'binary'\?\)"):
        open_gallery(full, matcher, index="binray")


def test_exact_search_over_parts_is_a_loop_over_all() -> None:
    parts = [VECTORS[:400], VECTORS[400:401], VECTORS[401:401], VECTORS[401:900]]
    whole, allowed = VECTORS[:900], np.random.default_rng(1).random(900) < 0.4
    for mask in (None, allowed):
        found = Vectors(parts, 16).nearest(QUERIES, 5, mask)
        for query, squares, positions in zip(QUERIES, *found, strict=True):
            every = [float(((query - row) ** 2).sum()) for row in whole]
            order = [i for i in np.argsort(every) if mask is None or mask[i]][:5]
            assert positions.tolist() == order
            assert squares.tolist() == pytest.approx([every[i] for i in order], abs=1e-4)


def test_nothing_is_left_to_filter_once_all_is_erased(full: str, matcher: VectorMatcher) -> None:
    reader = open_gallery(full, matcher, index=KIND)
    reader.prepare()
    open_gallery(full, matcher).delete(Where())
    assert reader.search(QUERIES[:1], 5, Where(cameras=("c1",))) == [[]]
    assert reader.search(QUERIES[:1], 5) == [[]]


def test_an_index_of_rows_that_were_erased_while_it_was_built_is_not_kept(
    full: str, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = search_module.built_index

    def slowly(*details: Any) -> Any:
        found = built(*details)
        open_gallery(full, matcher).delete(Where(people=("p3",)))
        return found

    monkeypatch.setattr(search_module, "built_index", slowly)
    said: list[str] = []
    open_gallery(full, matcher, index="binary", say=said.append).prepare()
    assert said[-1] == "the index is not saved: images were erased while it was built"
    assert not index_file(full).exists()


def test_what_a_killed_process_left_of_an_index_goes_with_the_rows(
    full: str, matcher: VectorMatcher
) -> None:
    left = index_file(full).with_name(".index.safetensors.7.part")
    left.parent.mkdir()
    left.write_bytes(b"codes")
    open_gallery(full, matcher).delete(Where(people=("p3",)))
    assert not left.exists()


def test_an_index_that_another_process_built_is_taken_up(full: str, matcher: VectorMatcher) -> None:
    said: list[str] = []
    reader = open_gallery(full, matcher, index="binary", say=said.append)
    reader.search(QUERIES, 10)
    open_gallery(full, matcher, index="binary").prepare()
    reader.prepare()
    assert said == []


def test_a_filter_for_a_camera_of_another_light_misses_no_one() -> None:
    rng = np.random.default_rng(1)
    light = 0.9 * rng.standard_normal((2, 1, 1, 32))
    images = light + rng.standard_normal((1, 150, 1, 32)) + rng.normal(0, 0.5, (2, 150, 5, 32))
    unit = unit_vectors(images.reshape(-1, 32).astype(np.float32)).reshape(2, 150, 5, 32)
    vectors = Vectors([unit[:, :, :4].reshape(-1, 32)], 32)
    queries, other_camera = unit[0, :, 4], np.repeat([False, True], 600)
    rows = np.arange(len(vectors))
    index = built_index(vectors, rows)[0]
    found = nearest_by_index(index, vectors, rows, queries, 10, other_camera).positions
    exact = vectors.nearest(queries, 10, other_camera).positions
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True))
    assert hits / exact.size > 0.97
