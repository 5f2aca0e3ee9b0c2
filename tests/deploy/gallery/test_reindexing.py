"""A gallery described again with another model keeps its ids, labels and verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.indexing import add_images, content_hash, index_images
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.pictures import jpeg
from reid.deploy.gallery.reindexing import reindex_folder
from reid.deploy.gallery.store import Store
from reid.errors import ModelFileError, OutputError
from reid.matching import VectorMatcher
from tests.deploy.gallery.conftest import PixelRunner

OLD = "ab" * 32
NEW = "cd" * 32


def matcher_of(checkpoint: str) -> VectorMatcher:
    return VectorMatcher(PixelRunner(checkpoint=checkpoint))


def image_of(number: int) -> np.ndarray[Any, Any]:
    image = np.zeros((16, 8, 3), np.uint8)
    image[: 1 + number % 15, :, number % 3] = (40 + 3 * number) % 256
    return image


@pytest.fixture
def gallery(tmp_path: Path) -> GalleryStore:
    """30 image files, and 10 images of a camera with pictures; some erased, verdicts on others."""
    matcher = matcher_of(OLD)
    opened = open_gallery(str(tmp_path / "old"), matcher, create=True)
    files = []
    for number in range(30):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image_of(number))
        files.append(GalleryEntry(str(path), f"p{number // 10}", "c", 60.0 * number))
    index_images(opened, matcher, files)
    seen = [
        GalleryEntry(
            "gate", camera="gate", time_s=5000.0 + i, content=content_hash(b"%d" % i),
            picture=jpeg(image_of(40 + i)), run="r", track=i, frame=i, seconds=i / 25,
        )
        for i in range(10)
    ]  # fmt: skip
    add_images(opened, matcher, [image_of(40 + i) for i in range(10)], seen)
    opened.delete(Where(ids=(4, 5, 39)))
    opened.confirm(Confirmation("ab", 35, True, 1.0, "anna"))
    opened.confirm(Confirmation("ab", 7, False, 2.0))
    return opened


def entries_in(store: GalleryStore) -> dict[int, GalleryEntry]:
    return dict(store.listed(pictures=True))


def test_ids_labels_pictures_and_verdicts_are_kept(gallery: GalleryStore, tmp_path: Path) -> None:
    matcher = matcher_of(NEW)
    done = reindex_folder(Path(gallery.name), tmp_path / "new", matcher)
    assert (done.added, done.total, done.left_out) == (37, 37, ())
    new = open_gallery(str(tmp_path / "new"), matcher)
    assert entries_in(new) == entries_in(gallery)
    assert {one.model for one in entries_in(new).values()} == {NEW[:16]}
    assert new.confirmed() == gallery.confirmed()
    assert new.search(matcher.describe([image_of(7)]), 1)[0][0].id == 7
    # Images that are indexed again are known, and new ones get ids that were never used.
    again = [GalleryEntry(str(tmp_path / f"images/{i}.png"), f"p{i // 10}", "c") for i in (7, 29)]
    assert index_images(new, matcher, again).added == 0
    add_images(new, matcher, [image_of(99)], [GalleryEntry("x", content="x")])
    assert max(entries_in(new)) == 40
    assert len(gallery) == 37


def test_images_without_a_usable_picture_are_named_and_their_verdicts_stay_behind(
    gallery: GalleryStore, tmp_path: Path
) -> None:
    (tmp_path / "images/0.png").unlink()
    cv2.imwrite(str(tmp_path / "images/7.png"), image_of(8))
    done = reindex_folder(Path(gallery.name), tmp_path / "new", matcher_of(NEW))
    assert (done.added, len(done.left_out)) == (35, 2)
    assert "0.png" in done.left_out[0]
    assert "7.png" in done.left_out[1]
    assert "changed" in done.left_out[1]
    new = open_gallery(str(tmp_path / "new"), matcher_of(NEW))
    assert [one.id for one in new.confirmed()] == [35]


def test_a_stopped_run_goes_on_where_it_was(
    gallery: GalleryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.deploy.gallery.reindexing.IMAGES_AT_ONCE", 8)
    real, calls = Store.append, iter(range(100))

    def stop(store: Store, *arguments: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        real(store, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(Store, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            reindex_folder(Path(gallery.name), tmp_path / "new", matcher_of(NEW))
    runner = PixelRunner(checkpoint=NEW)
    done = reindex_folder(Path(gallery.name), tmp_path / "new", VectorMatcher(runner))
    assert 0 < done.added == runner.described < 37
    new = open_gallery(str(tmp_path / "new"), matcher_of(NEW))
    assert entries_in(new) == entries_in(gallery)


def test_the_new_folder_is_neither_the_old_one_nor_another_models(
    gallery: GalleryStore, tmp_path: Path
) -> None:
    with pytest.raises((OutputError, ModelFileError)):
        reindex_folder(Path(gallery.name), Path(gallery.name), matcher_of(NEW))
    with pytest.raises(OutputError, match="itself"):
        reindex_folder(Path(gallery.name), Path(gallery.name), matcher_of(OLD))
    open_gallery(str(tmp_path / "third"), matcher_of("ef" * 32), create=True)
    with pytest.raises(ModelFileError, match="--out"):
        reindex_folder(Path(gallery.name), tmp_path / "third", matcher_of(NEW))


def test_the_command_says_what_it_did(
    gallery: GalleryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: Callable[..., Any] = lambda *_: matcher_of(NEW)  # noqa: E731
    monkeypatch.setattr("reid.matching.open_matcher", opened)
    (tmp_path / "images/0.png").unlink()
    assert main(["gallery", "reindex", gallery.name, "m.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gallery"] == f"{gallery.name}.new"
    assert (found["added"], found["total"], found["num_left_out"]) == (36, 36, 1)
    assert main(["gallery", "reindex", gallery.name, "m.onnx"]) == 0
    assert "0.png" in capsys.readouterr().out
