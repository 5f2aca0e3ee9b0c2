"""A gallery in a folder: what goes in comes out, nearest first, and stays what it was."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.opening import open_gallery
from reid.errors import ConfigError, DataError, ModelFileError, OutputError, ReidError
from reid.locks import locked
from reid.matching import PairMatcher, VectorMatcher
from reid.model_file.manifest import Manifest
from reid.runtime import Runner
from reid.types import ArraySpec, FloatArray, Image
from tests.deploy.gallery.conftest import PREPROCESS, PixelRunner, entries_of, people_vectors


def ids(matches):
    return [match.id for match in matches]


def test_the_nearest_are_found_with_all_that_is_known_of_them(gallery: GalleryStore) -> None:
    vectors = people_vectors(4, 10)
    assert gallery.add(vectors, entries_of(40)) == 40
    found = gallery.search(vectors[[7, 31]], k=3)
    distances = np.linalg.norm(vectors[[7, 31], None] - vectors[None], axis=2)
    assert [ids(matches) for matches in found] == np.argsort(distances, axis=1)[:, :3].tolist()
    assert [m.distance for m in found[0]] == pytest.approx(np.sort(distances[0])[:3], abs=1e-3)
    assert found[1][0].entry == GalleryEntry("/images/31.jpg", "p3", "c1", 1860.0)


def test_an_entry_comes_back_as_it_was(gallery: GalleryStore) -> None:
    full = GalleryEntry(
        "rtsp://a/1", "älice", "gate", 1_700_000_000.123456, (3, -4, 50, 60), "", b"j"
    )
    gallery.add(
        people_vectors(1, 3), [GalleryEntry("a.jpg", content="1"), full, GalleryEntry("b", "x")]
    )
    assert gallery.entry(1) == full
    assert gallery.entry(0) == GalleryEntry("a.jpg")
    assert gallery.entry(3) is None
    assert gallery.entry(-1) is None


def test_an_image_is_described_once(gallery: GalleryStore) -> None:
    vectors = people_vectors(2, 10)
    entries = entries_of(20)
    assert gallery.add(vectors[:12], entries[:12]) == 12
    assert gallery.unknown(entries).tolist() == [False] * 12 + [True] * 8
    twice = [*entries, *entries[12:]]
    assert gallery.add(np.concatenate([vectors, vectors[12:]]), twice) == 8
    assert len(gallery) == 20


def test_what_another_added_is_found_at_the_next_search(
    gallery: GalleryStore, matcher: VectorMatcher
) -> None:
    other = open_gallery(gallery.name, matcher)
    vectors = people_vectors(2, 10)
    gallery.add(vectors, entries_of(20))
    assert ids(other.search(vectors[5:6], k=1)[0]) == [5]
    gallery.delete(Where(people=("p0",)))
    assert ids(other.search(vectors[5:6], k=20)[0])[0] >= 10
    assert len(other) == 10


FILTERS = [
    Where(people=("p1", "p3")),
    Where(cameras=("c2",)),
    Where(since_s=600.0, until_s=1200.0),
    Where(people=("p1",), cameras=("c0", "c1"), since_s=700.0),
    Where(people=("no one",)),
]


def meets(where: Where, i: int) -> bool:
    """The filter, spelt out for entry i of ``entries_of``."""
    return (
        (not where.people or f"p{i // 10}" in where.people)
        and (not where.cameras or f"c{i % 3}" in where.cameras)
        and (where.since_s is None or 60.0 * i >= where.since_s)
        and (where.until_s is None or 60.0 * i < where.until_s)
    )


@pytest.mark.parametrize("where", FILTERS)
def test_filters_choose_before_ranking(gallery: GalleryStore, where: Where) -> None:
    vectors = people_vectors(4, 10)
    for at in (0, 15, 30):  # three segments that the filter crosses
        gallery.add(vectors[at : at + 15], entries_of(40)[at : at + 15])
    allowed = [i for i in range(40) if meets(where, i)]
    distances = np.linalg.norm(vectors[2] - vectors[allowed], axis=1)
    expected = np.array(allowed, np.int64)[np.argsort(distances)][:10].tolist()
    assert ids(gallery.search(vectors[2:3], 10, where)[0]) == expected


@pytest.mark.parametrize("named", [True, False])
def test_images_with_a_name_or_without_one_are_counted_found_and_erased(
    gallery: GalleryStore, named: bool
) -> None:
    vectors = people_vectors(4, 10)
    entries = [
        dataclasses.replace(one, person=one.person if i % 3 == 0 else "")
        for i, one in enumerate(entries_of(40))
    ]
    for at in (0, 15, 30):
        gallery.add(vectors[at : at + 15], entries[at : at + 15])
    wanted = [i for i, one in enumerate(entries) if bool(one.person) == named]
    assert gallery.count(Where(named=named)) == len(wanted)
    assert sorted(ids(gallery.search(vectors[:1], 40, Where(named=named))[0])) == wanted
    since = Where(named=named, since_s=60.0 * 20)
    assert gallery.count(since) == len([i for i in wanted if i >= 20])
    assert gallery.delete(Where(named=named)) == len(wanted)
    assert len(gallery) == 40 - len(wanted)
    assert gallery.count(Where(named=named)) == 0


@pytest.mark.parametrize("where", FILTERS)
def test_deleting_erases_just_what_the_filter_chooses(gallery: GalleryStore, where: Where) -> None:
    vectors = people_vectors(4, 10)
    for at in (0, 15, 30):
        gallery.add(vectors[at : at + 15], entries_of(40)[at : at + 15])
    gone = [i for i in range(40) if meets(where, i)]
    assert gallery.delete(where) == len(gone)
    left = gallery.search(vectors[2:3], 40)[0]
    assert sorted(ids(left)) == [i for i in range(40) if i not in gone]
    for match in left:
        assert match.entry.source == f"/images/{match.id}.jpg"
        assert match.distance == pytest.approx(
            float(np.linalg.norm(vectors[match.id] - vectors[2])), abs=1e-3
        )


def test_what_was_deleted_is_on_the_disk_no_more(gallery: GalleryStore) -> None:
    vectors = people_vectors(2, 10)
    gallery.add(vectors, entries_of(20))
    gallery.delete(Where(people=("p1",)))
    content = b"".join(path.read_bytes() for path in Path(gallery.name).glob("segment-*"))
    assert vectors[3].tobytes() in content
    assert vectors[13].tobytes() not in content
    assert b"/images/13.jpg" not in content
    assert b"p0" in content
    assert b"p1" not in content


def test_an_image_of_unknown_time_is_in_no_span(gallery: GalleryStore) -> None:
    gallery.add(people_vectors(1, 2), [GalleryEntry("a", time_s=5.0), GalleryEntry("b")])
    query = people_vectors(1, 1)
    assert ids(gallery.search(query, 5, Where(since_s=-1e9))[0]) == [0]
    assert len(gallery.search(query, 5)[0]) == 2


def test_many_small_additions_make_few_files(gallery: GalleryStore) -> None:
    vectors = people_vectors(10, 10)
    for i in range(100):
        gallery.add(vectors[i : i + 1], entries_of(1, i))
    assert len(list(Path(gallery.name).glob("segment-*"))) <= 8
    assert ids(gallery.search(vectors[42:43], 1)[0]) == [42]


def test_a_large_addition_is_divided_and_counts_at_once(
    gallery: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.deploy.gallery.local.SEGMENT_BYTES", 1000)
    vectors = people_vectors(4, 10)
    gallery.add(vectors, entries_of(40))
    assert len(list(Path(gallery.name).glob("segment-*"))) == 3
    assert ids(gallery.search(vectors[39:], 1)[0]) == [39]


def test_the_summary_is_what_there_is_to_filter_by(gallery: GalleryStore) -> None:
    gallery.add(people_vectors(2, 10), entries_of(20))
    gallery.delete(Where(people=("p0",)))
    found = gallery.summary()
    assert (found.images, found.people, found.cameras) == (10, ("p1",), ("c0", "c1", "c2"))
    assert (found.first_s, found.last_s) == (600.0, 1140.0)
    gallery.delete(Where())
    assert gallery.summary().first_s is None
    assert gallery.search(people_vectors(1, 2), 3) == [[], []]


def test_what_was_confirmed_is_kept(gallery: GalleryStore, matcher: VectorMatcher) -> None:
    said = [Confirmation("ab", 3, True, 1.5), Confirmation("ab", 4, False, 2.5)]
    for one in said:
        gallery.confirm(one)
    assert open_gallery(gallery.name, matcher).confirmed() == said


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        (PixelRunner(precision="fp16"), r"precision fp32 \(this model: fp16\)"),
        (PixelRunner(checkpoint="cd" * 32), r"checkpoint abababababababab \(this model: cdcd"),
    ],
)
def test_another_model_or_precision_is_refused(
    tmp_path: Path, runner: PixelRunner, said: str
) -> None:
    open_gallery(str(tmp_path), VectorMatcher(PixelRunner()), create=True)
    with pytest.raises(ModelFileError, match=said) as caught:
        open_gallery(str(tmp_path), VectorMatcher(runner))
    assert "\n" not in str(caught.value)


def test_another_preprocessing_is_refused(tmp_path: Path) -> None:
    open_gallery(str(tmp_path), VectorMatcher(PixelRunner()), create=True)
    other = VectorMatcher(PixelRunner())
    other.identity = {**other.identity, "preprocess": "other"}
    with pytest.raises(ModelFileError, match="preprocess 8x4 bilinear, crop 8x4, BGR, mean"):
        open_gallery(str(tmp_path), other)


def test_no_gallery_says_how_to_make_one(tmp_path: Path, matcher: VectorMatcher) -> None:
    with pytest.raises(DataError, match=r"no gallery there; make one: reid index MODEL IMAGES"):
        open_gallery(str(tmp_path / "none"), matcher)


def test_a_folder_of_other_files_is_not_made_a_gallery(
    tmp_path: Path, matcher: VectorMatcher
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"holds other files \(photo.jpg\)"):
        open_gallery(str(tmp_path), matcher, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_writer_learns_who_writes_already(
    gallery: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.locks.PATIENCE_S", 0.05)
    vectors = people_vectors(1, 10)
    with (
        locked(Path(gallery.name) / "writer.lock"),
        pytest.raises(OutputError, match=rf"is being written by process {os.getpid()} on .+ since"),
    ):
        gallery.add(vectors, entries_of(10))
    assert gallery.search(vectors, 1) == [[]] * 10  # a reader needs no lock
    assert gallery.add(vectors, entries_of(10)) == 10


def test_writers_at_once_lose_and_double_nothing(
    gallery: GalleryStore, matcher: VectorMatcher
) -> None:
    vectors = people_vectors(8, 10)

    def write(first: int) -> None:
        mine = open_gallery(gallery.name, matcher)
        for at in range(first, 80, 10):
            at %= 70
            mine.add(vectors[at : at + 20], entries_of(20, at))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = gallery.search(vectors[:1], 100)[0]
    assert sorted(m.entry.source for m in found) == sorted(f"/images/{i}.jpg" for i in range(80))


def test_a_pair_network_s_gallery_ranks_by_its_own_distance(
    tmp_path: Path, pair_matcher: PairMatcher
) -> None:
    rng = np.random.default_rng(0)
    images: list[Image] = [rng.integers(0, 256, (8, 4, 3)).astype(np.uint8) for _ in range(30)]
    described = pair_matcher.describe(images)
    gallery = open_gallery(str(tmp_path), pair_matcher, create=True, shortlist=7)
    gallery.add(described, entries_of(30))
    queries = pair_matcher.describe(images[:4])
    found = gallery.search(queries, 5)
    # The cascade of reid eval: the seven best by the vector, then the network's distance.
    expected = pair_matcher.tiles(queries, described, best=7)(slice(0, 4))
    assert [ids(matches) for matches in found] == np.argsort(expected, axis=1)[:, :5].tolist()
    assert found[0][0].distance == pytest.approx(float(expected[0].min()))
    some = gallery.search(queries, 5, Where(cameras=("c1",)))
    assert all(match.id % 3 == 1 for matches in some for match in matches)


class NoVector(Runner):
    """Describes by sums of pixels alone, compares by their difference."""

    backend = "numpy"

    def __init__(self, stage: str) -> None:
        trained = Manifest("csn", "train", PREPROCESS, checkpoint_sha256="ab" * 32)
        data, sums = ArraySpec("data", PREPROCESS.input_shape), ArraySpec("sums", (3,))
        sides = (ArraySpec("query_sums", (3,), batched=False), ArraySpec("gallery_sums", (3,)))
        graphs = {"describe": ((data,), (sums,)), "compare": (sides, (ArraySpec("score", ()),))}
        self.manifest = trained.of_graph(stage, *graphs[stage])

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        if "data" in inputs:
            return {"sums": inputs["data"].mean(axis=(2, 3))}
        apart = np.abs(inputs["query_sums"] - inputs["gallery_sums"]).sum(axis=1)
        return {"score": np.asarray(1 / (1 + apart), np.float32)}

    def close(self) -> None:
        pass


def test_a_pair_network_without_a_vector_compares_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.deploy.gallery.local.COMPARED_AT_ONCE", 4)
    rng = np.random.default_rng(0)
    images: list[Image] = [rng.integers(0, 256, (8, 4, 3)).astype(np.uint8) for _ in range(30)]
    matcher = PairMatcher(NoVector("describe"), NoVector("compare"), half=False)
    described = matcher.describe(images)
    gallery = open_gallery(str(tmp_path), matcher, create=True)
    gallery.add(described, entries_of(30))
    gallery.prepare()
    expected = matcher.tiles(described, described)(slice(2, 4))
    found = gallery.search(matcher.describe(images[2:4]), 6)
    assert [ids(matches) for matches in found] == np.argsort(expected, axis=1)[:, :6].tolist()
    some = gallery.search(matcher.describe(images[2:3]), 6, Where(cameras=("c0",)))[0]
    assert ids(some) == [i for i in np.argsort(expected[0]).tolist() if i % 3 == 0][:6]


@pytest.mark.parametrize("k", [0, -1])
def test_no_results_cannot_be_asked_for(gallery: GalleryStore, k: int) -> None:
    with pytest.raises(ConfigError, match="k is at least 1"):
        gallery.search(people_vectors(1, 1), k)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (2**31, 0, 1, 1)])
def test_an_impossible_box_is_refused_and_nothing_is_added(
    gallery: GalleryStore, box: tuple[int, int, int, int]
) -> None:
    with pytest.raises(DataError, match="a box is at least 1x1 pixel"):
        gallery.add(people_vectors(1, 1), [GalleryEntry("a", box=box)])
    assert len(gallery) == 0


def damaged(path: Path, rng: np.random.Generator) -> bytes:
    """A file's bytes cut short, or some changed in its first kilobytes."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        return bytes(content[: rng.integers(0, len(content))])
    for at in rng.integers(0, min(len(content), 3000), 4):
        content[at] = rng.integers(0, 256)
    return bytes(content)


@pytest.mark.parametrize("pattern", ["gallery.json", "segment-*"])
def test_damage_is_one_line_or_harmless(
    gallery: GalleryStore, matcher: VectorMatcher, pattern: str
) -> None:
    vectors = people_vectors(3, 10)
    gallery.add(vectors, entries_of(30))
    (path,) = Path(gallery.name).glob(pattern)
    content, rng, refused = path.read_bytes(), np.random.default_rng(1), 0
    for _ in range(200):
        path.write_bytes(damaged(path, rng))
        try:
            opened = open_gallery(gallery.name, matcher)
            opened.search(vectors[:2], 40)
            opened.summary()
        except ReidError as error:
            refused += "\n" not in str(error)
        path.write_bytes(content)
    assert refused > 60


@pytest.mark.parametrize("change", ["confirm", "a refused addition"])
def test_a_filter_chooses_among_the_rows_that_a_change_of_ours_found(
    gallery: GalleryStore, matcher: VectorMatcher, change: str
) -> None:
    vectors, where = people_vectors(6, 10), Where(cameras=("c0",))
    gallery.add(vectors[:40], entries_of(40))
    other = open_gallery(gallery.name, matcher)
    other.search(vectors[:1], 100, where)
    gallery.delete(Where(people=("p0",)))
    gallery.add(vectors[40:], entries_of(20, 40))
    if change == "confirm":
        other.confirm(Confirmation("ab", 20, True, 0.0))
    else:
        with pytest.raises(DataError):
            other.add(vectors[:1], [GalleryEntry("a", box=(0, 0, 0, 5))])
    found = other.search(vectors[:1], 100, where)[0]
    assert sorted(ids(found)) == [i for i in range(10, 60) if i % 3 == 0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("next_id", 10**30),
        ("next_file", 10**18),
        ("next_file", -1),
        ("segments", [["segment-00000000.safetensors", float("inf")]]),
    ],
)
def test_numbers_that_no_gallery_could_go_on_with_are_damage(
    gallery: GalleryStore, matcher: VectorMatcher, name: str, content: object
) -> None:
    gallery.add(people_vectors(1, 10), entries_of(10))
    head = Path(gallery.name, "gallery.json")
    head.write_text(json.dumps({**json.loads(head.read_text()), name: content}))
    with pytest.raises(ModelFileError, match=r"gallery\.json is damaged"):
        open_gallery(gallery.name, matcher)


@pytest.mark.parametrize("name", ["gallery.json", "confirmed.json"])
def test_a_file_nested_without_end_is_damage(
    gallery: GalleryStore, matcher: VectorMatcher, name: str
) -> None:
    Path(gallery.name, name).write_text("[" * 100_000)
    with pytest.raises(ModelFileError, match=f"{name} is damaged"):
        open_gallery(gallery.name, matcher).confirmed()


def test_confirmations_of_wrong_kinds_are_damage(gallery: GalleryStore) -> None:
    row = {"query": "ab", "id": 1, "same": True, "time_s": "soon"}
    Path(gallery.name, "confirmed.json").write_text(json.dumps([row]))
    with pytest.raises(ModelFileError, match="malformed confirmation"):
        gallery.confirmed()


def test_a_file_whose_name_is_no_utf_8_is_found_again(gallery: GalleryStore) -> None:
    known = GalleryEntry(os.fsdecode(b"/images/\xff.jpg"), os.fsdecode(b"b\xf6b"), content="1")
    gallery.add(people_vectors(1, 1), [known])
    found = gallery.entry(0)
    assert found is not None
    assert (found.source, found.person) == (known.source, known.person)


def test_another_model_s_gallery_in_the_folder_is_refused_whoever_noticed_it(
    gallery: GalleryStore, tmp_path: Path
) -> None:
    Path(gallery.name).rename(tmp_path / "old")
    open_gallery(gallery.name, VectorMatcher(PixelRunner(precision="fp16")), create=True)
    gallery.confirm(Confirmation("ab", 1, True, 0.0))
    with pytest.raises(ModelFileError, match="made with another model"):
        gallery.search(people_vectors(1, 1), 1)
