"""Describing images into a gallery: once each, in steps that are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry
from reid.deploy.gallery.checking import check_gallery
from reid.deploy.gallery.indexing import (
    Shard,
    add_images,
    cropped,
    index_images,
    require_all_read,
    shard_from,
    with_content,
)
from reid.deploy.gallery.listing import list_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.rows import earlier_keys_of
from reid.errors import DataError, ModelFileError
from reid.matching import VectorMatcher
from reid.types import FloatArray
from tests.deploy.gallery.conftest import PixelRunner
from tests.heard import Heard


def written(folder: Path, count: int) -> list[GalleryEntry]:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = rng.integers(0, 256, (16, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), image)
    return [GalleryEntry(str(folder / f"{number:02d}.png")) for number in range(count)]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    runner = PixelRunner()
    matcher = VectorMatcher(runner)
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    entries = written(tmp_path / "images", 20)

    class Stopped(Heard):
        def heard(self, done: int, total: int, words: str) -> None:
            if done > 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_images(gallery, matcher, entries, Stopped(), at_once=5)
    assert len(gallery) == 10
    runner.described = 0
    done = index_images(gallery, matcher, entries, at_once=5)
    assert (done.found, done.added, runner.described, len(gallery)) == (20, 10, 10, 20)


def test_a_file_with_new_content_is_a_new_image(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    entries = written(tmp_path / "images", 2)
    index_images(gallery, matcher, entries)
    cv2.imwrite(entries[0].source, np.zeros((16, 8, 3), np.uint8))
    assert index_images(gallery, matcher, entries).added == 1


def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner(), batch_size=3)
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    entries = written(tmp_path / "images", 8)
    heard = Heard()
    index_images(gallery, matcher, entries[:5], heard, at_once=4)
    assert heard.calls[-1] == (5, 5, "describing")
    index_images(gallery, matcher, entries, heard, at_once=4)
    assert heard.calls[-1] == (8, 8, "describing")


def test_boxes_of_one_frame_are_images_of_their_own(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (frame,) = written(tmp_path / "images", 1)
    boxes = [(0, 0, 4, 8), (4, 8, 4, 8), (-3, -3, 7, 9)]
    entries = [GalleryEntry(frame.source, box=box) for box in boxes]
    assert index_images(gallery, matcher, entries).added == 3
    image = cv2.imread(frame.source)
    found = gallery.search(matcher.describe([image[8:16, 4:8], image[:6, :4]]), 1)
    assert [matches[0].entry.box for matches in found] == boxes[1:]


@pytest.mark.parametrize("box", [(8, 0, 4, 4), (0, 16, 4, 4), (-5, 0, 5, 4)])
def test_a_box_outside_the_image_is_named(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(DataError, match=r"f\.png: the box .* lies outside the image of 8x16"):
        cropped(np.zeros((16, 8, 3), np.uint8), box, "f.png")


def test_no_number_is_stored_for_an_image_the_network_cannot_describe(tmp_path: Path) -> None:
    class Spoilt(PixelRunner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            found = super().run(inputs)
            found["embedding"][1:, 0] = np.nan
            return found

    matcher = VectorMatcher(Spoilt())
    gallery = open_gallery(str(tmp_path), matcher, create=True)
    images = [np.ones((8, 4, 3), np.uint8)] * 3
    with pytest.raises(ModelFileError, match="NaN or infinite for 2 of 3 images, the first b;"):
        add_images(
            gallery, matcher, images, [GalleryEntry("a"), GalleryEntry("b"), GalleryEntry("c")]
        )
    assert len(gallery) == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: no such image file"):
        with_content(GalleryEntry(str(tmp_path / "gone.jpg")))


def test_shards_are_the_same_wherever_the_images_lie(tmp_path: Path) -> None:
    names = [f"p{i // 10}/{i:04d}.jpg" for i in range(1000)]
    here = [GalleryEntry(f"/here/{name}") for name in names]
    there = [GalleryEntry(f"/mnt/there/{name}") for name in reversed(names)]
    parts = []
    for number in range(1, 9):
        part = {one.source[5:] for one in Shard(number, 8).of_images(here, Path("/here"))}
        other = Shard(number, 8).of_images(there, Path("/mnt/there"))
        assert part == {one.source[10:] for one in other}
        assert 80 <= len(part) <= 175
        parts.append(part)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1000


def test_the_whole_is_one_shard() -> None:
    assert shard_from("", {}) == Shard(1, 1)
    assert shard_from("", {"RANK": "2", "WORLD_SIZE": "4"}) == Shard(3, 4)
    assert shard_from("1/1", {"RANK": "2", "WORLD_SIZE": "4"}) == Shard(1, 1)


def test_shards_are_the_same_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    names = [f"{i}.mp4" for i in range(40)]
    for number in (1, 2):
        parts = []
        for root, lie in (("disk", "disk"), ("data", "data"), ("data", "disk")):
            shard, files = Shard(number, 2), [tmp_path / lie / name for name in names]
            images = [GalleryEntry(str(file)) for file in files]
            parts.append([one.name for one in shard.of_files(files, tmp_path / root)])
            parts.append([Path(s.source).name for s in shard.of_images(images, tmp_path / root)])
        assert all(part == parts[0] for part in parts)
        assert 5 < len(parts[0]) < 35


def test_an_image_is_described_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (tmp_path / "real").mkdir()
    written(tmp_path / "real" / "im", 1)
    (tmp_path / "real" / "l.csv").write_text("path,person_id\nim/00.png,7\n")
    (tmp_path / "link").symlink_to("real")
    ways = ("link/im", "link/l.csv", "real/im", "link/im/00.png", "real/l.csv")
    counts = [index_images(gallery, matcher, list_images([tmp_path / way])).added for way in ways]
    assert counts == [1, 0, 0, 0, 0]


def test_an_image_of_a_gallery_of_before_is_known_by_the_path_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = VectorMatcher(PixelRunner())
    monkeypatch.setattr("reid.deploy.gallery.local.keys_of", earlier_keys_of)
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (entry,) = written(tmp_path / "real", 1)
    (tmp_path / "link").symlink_to("real")
    before = with_content(GalleryEntry(str(tmp_path / "link" / "00.png")))
    add_images(gallery, matcher, [cv2.imread(entry.source)], [before])
    monkeypatch.undo()
    assert index_images(gallery, matcher, list_images([tmp_path / "link"])).added == 0


def test_files_that_cannot_be_read_stop_no_other(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    entries = written(tmp_path / "images", 9)
    cut, empty, gone, outside = (entries[number] for number in (1, 4, 5, 8))
    Path(cut.source).write_bytes(Path(cut.source).read_bytes()[:50])
    Path(empty.source).write_bytes(b"")
    Path(gone.source).unlink()
    entries[8] = dataclasses.replace(outside, box=(50, 50, 4, 4))
    heard = Heard()
    done = index_images(gallery, matcher, entries, heard, at_once=4)
    assert (done.found, done.added, len(gallery)) == (9, 5, 5)
    assert heard.calls[-1][0] == 9
    for one in (cut, empty, gone, outside):
        assert any(one.source in line for line in done.unreadable)
    with pytest.raises(DataError, match=r"4 files .*01\.png.* and 1 more"):
        require_all_read(done.unreadable)


def test_a_part_without_a_readable_image_adds_nothing(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (entry,) = written(tmp_path / "images", 1)
    Path(entry.source).write_bytes(Path(entry.source).read_bytes()[:50])
    done = index_images(gallery, matcher, [entry])
    assert (done.added, len(done.unreadable), len(gallery)) == (0, 1, 0)


def test_an_image_is_known_by_its_content_when_its_folder_has_another_name(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    entries = written(tmp_path / "before", 3)
    assert index_images(gallery, matcher, entries).added == 3
    (tmp_path / "before").rename(tmp_path / "after")
    moved = list_images([tmp_path / "after"])
    done = index_images(gallery, matcher, moved)
    assert (done.added, done.labelled, done.moved) == (0, 0, 3)
    found = gallery.search(matcher.describe([cv2.imread(one.source) for one in moved]), 1)
    assert [match.entry.source for (match,) in found] == [one.source for one in moved]
    assert index_images(gallery, matcher, moved).moved == 0
    boxed = [dataclasses.replace(moved[0], box=(0, 0, 4, 8))]
    assert index_images(gallery, matcher, boxed).added == 1


def test_copies_of_a_file_are_an_image_of_each_person(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (entry,) = written(tmp_path / "images", 1)
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(entry.source).read_bytes())
    ann = dataclasses.replace(entry, person="ann")
    bob = GalleryEntry(str(copy), person="bob")
    for again in (False, True):
        assert index_images(gallery, matcher, [ann, bob, ann]).added == (0 if again else 2)
    assert gallery.summary().people == ("ann", "bob")


def test_a_list_names_images_that_were_indexed_without_a_name(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    entries = written(tmp_path / "images", 4)
    index_images(gallery, matcher, [*entries[:3], dataclasses.replace(entries[3], person="dan")])
    vectors = gallery.search(matcher.describe([cv2.imread(one.source) for one in entries]), 1)
    (tmp_path / "images" / "l.csv").write_text(
        "path,person_id,camera_id,time\n00.png,ann,door,60\n01.png,bob,,\n03.png,eve,door,\n"
    )
    listed = list_images([tmp_path / "images" / "l.csv"])
    done = index_images(gallery, matcher, listed)
    assert (done.added, done.labelled, done.differing) == (0, 3, 1)
    found = gallery.search(matcher.describe([cv2.imread(one.source) for one in entries]), 1)
    assert [(m.id, m.distance) for (m,) in found] == [(m.id, m.distance) for (m,) in vectors]
    labels = [(m.entry.person, m.entry.camera, m.entry.time_s) for (m,) in found]
    assert labels == [
        ("ann", "door", 60.0),
        ("bob", "", None),
        ("", "", None),
        ("dan", "door", None),
    ]
    assert not check_gallery(tmp_path / "g").damaged
    assert index_images(gallery, matcher, listed).labelled == 0


def test_an_image_listed_twice_at_once_keeps_the_labels_of_both(tmp_path: Path) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (entry,) = written(tmp_path / "images", 1)
    twice = [entry, dataclasses.replace(entry, person="ann", camera="door")]
    assert index_images(gallery, matcher, twice).added == 1
    assert gallery.summary().people == ("ann",)
