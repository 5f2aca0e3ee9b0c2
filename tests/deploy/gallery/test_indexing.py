"""Describing images into a gallery: once each, in steps that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.deploy.gallery import GalleryEntry
from reid.deploy.gallery.indexing import (
    Shard,
    add_images,
    cropped,
    index_images,
    shard_from,
    with_content,
)
from reid.deploy.gallery.listing import list_images
from reid.deploy.gallery.opening import open_gallery
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
    spoilt = Path(entries[13].source)
    content = spoilt.read_bytes()
    spoilt.write_bytes(content[:50])
    with pytest.raises(DataError, match=r"13\.png"):
        index_images(gallery, matcher, entries, at_once=5)
    assert len(gallery) == 10
    spoilt.write_bytes(content)
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
    tmp_path: Path,
) -> None:
    matcher = VectorMatcher(PixelRunner())
    gallery = open_gallery(str(tmp_path / "g"), matcher, create=True)
    (entry,) = written(tmp_path / "real", 1)
    (tmp_path / "link").symlink_to("real")
    before = with_content(GalleryEntry(str(tmp_path / "link" / "00.png")))
    add_images(gallery, matcher, [cv2.imread(entry.source)], [before])
    assert index_images(gallery, matcher, list_images([tmp_path / "link"])).added == 0
