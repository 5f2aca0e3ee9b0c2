"""Synthetic pedestrians: reproducible, laid out as Market-1501, and not too easy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from reid.data import load_split, read_image, write_synthetic
from reid.data.synthetic.figure import Pose, draw_person
from reid.data.synthetic.people import random_appearance
from reid.data.synthetic.scene import make_cameras, photograph
from reid.errors import DataError, OutputError
from reid.types import FloatArray, Image, Split
from tests.heard import Heard


def _small(root: Path, seed: int = 0, train: int = 3) -> dict[str, bytes]:
    write_synthetic(
        root,
        num_train_identities=train,
        num_test_identities=2,
        cameras=2,
        images_per_camera=2,
        num_distractors=2,
        num_junk=1,
        seed=seed,
    )
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Split:
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic(root, num_train_identities=2, num_test_identities=20, images_per_camera=3)
    return load_split("synthetic", root)


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        _small(tmp_path / name, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_an_image_does_not_depend_on_how_many_people_there_are(tmp_path: Path) -> None:
    few, more = _small(tmp_path / "few"), _small(tmp_path / "more", train=4)
    name = "bounding_box_train/0002_c1s1_000000_00.jpg"
    assert few[name] == more[name]


def test_the_first_image_of_each_identity_and_camera_is_the_query(tmp_path: Path) -> None:
    _small(tmp_path)
    split = load_split("synthetic", tmp_path)
    assert {record.person_id for record in split.train} == {1, 2, 3}
    assert len(split.train) == 3 * 2 * 2
    assert [(r.person_id, r.camera_id) for r in split.query] == [(4, 1), (4, 2), (5, 1), (5, 2)]
    gallery = [record.person_id for record in split.gallery]
    assert sorted(gallery) == [-1, 0, 0, 4, 4, 5, 5]


def test_the_counts_are_those_on_disk(tmp_path: Path) -> None:
    counts = write_synthetic(
        tmp_path, num_train_identities=2, num_test_identities=1, cameras=2, images_per_camera=2
    )
    on_disk = [
        len(list((tmp_path / name).iterdir()))
        for name in ("bounding_box_train", "query", "bounding_box_test")
    ]
    assert on_disk == [counts.train_images, counts.query_images, counts.gallery_images]
    assert on_disk == [8, 2, 2 + counts.distractors + counts.junk]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "bounding_box_test",
        "bounding_box_train",
        "query",
    ]


def test_images_are_64_by_128(crowd: Split) -> None:
    assert read_image(crowd.query[0].path).shape == (128, 64, 3)


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    heard = Heard()
    write_synthetic(
        tmp_path,
        num_train_identities=2,
        num_test_identities=1,
        cameras=2,
        images_per_camera=2,
        num_distractors=0,
        num_junk=0,
        reporter=heard,
    )
    assert heard.calls == [(done, 12, "drawing") for done in range(1, 13)]


def test_an_interrupted_run_leaves_no_folder_behind(tmp_path: Path) -> None:
    class Stop(Heard):
        def heard(self, done: int, total: int, words: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path, reporter=Stop())
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "query").mkdir()
    with pytest.raises(OutputError, match="query"):
        write_synthetic(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_synthetic(tmp_path / "file")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_identities": 1}, "at least 2 training identities, found 1"),
        ({"num_test_identities": 0}, "at least 1 test identities, found 0"),
        ({"cameras": 1}, "at least 2 cameras, found 1"),
        ({"images_per_camera": 1}, "at least 2 images per camera, found 1"),
        ({"num_train_identities": 9999}, "9,999 identities"),
    ],
)
def test_counts_that_make_no_dataset_are_refused(
    tmp_path: Path, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_synthetic(tmp_path, **settings)  # type: ignore[arg-type]


def _drawn(bag: str, yaw: float, *, pattern: str = "plain") -> Image:
    appearance = random_appearance(np.random.default_rng(1))
    who = replace(
        appearance, bag=bag, bag_colour=(0, 0, 255), upper=(90, 90, 90), second=(0, 255, 0),
        lower=(60, 60, 60), shoes=(60, 60, 60), hat="none", pattern=pattern,
    )  # fmt: skip
    canvas = np.full((256, 128, 3), 120, np.uint8)
    draw_person(canvas, who, Pose(yaw, 0.5), (64, 250), 240, np.random.default_rng(0))
    return canvas


def _red(image: Image) -> int:
    return int(((image[..., 2] > 150) & (image[..., 1] < 40) & (image[..., 0] < 40)).sum())


def _green(image: Image) -> int:
    return int(((image[..., 1] > 130) & (image[..., 2] < 40) & (image[..., 0] < 40)).sum())


def test_a_backpack_is_seen_whole_from_behind_and_as_straps_from_the_front() -> None:
    front, side, back = (_red(_drawn("backpack", yaw)) for yaw in (0, np.pi / 2, np.pi))
    assert back > 2 * front > 0
    assert side > 0
    assert _red(_drawn("none", np.pi)) == 0


def test_a_logo_is_seen_from_the_front_only() -> None:
    assert _green(_drawn("none", 0, pattern="logo")) > 100
    assert _green(_drawn("none", np.pi, pattern="logo")) == 0


def test_every_two_cameras_show_the_same_moment_in_different_colours() -> None:
    who = random_appearance(np.random.default_rng(2))
    cameras = make_cameras(4, np.random.default_rng(0))
    means = [photograph(c, who, np.random.default_rng(3)).mean((0, 1)) for c in cameras]
    assert all(np.abs(a - b).max() > 4 for a, b in combinations(means, 2))


def _rank1(split: Split, query: FloatArray, gallery: FloatArray) -> float:
    """Market's rank-1, written out."""
    hits = 0
    for vector, asked in zip(query, split.query, strict=True):
        order = np.argsort(np.square(gallery - vector).sum(1), kind="stable")
        for index in order:
            seen = split.gallery[index]
            same = seen.person_id == asked.person_id
            if seen.person_id == -1 or (same and seen.camera_id == asked.camera_id):
                continue
            hits += same
            break
    return hits / len(query)


def _histogram(image: Image) -> FloatArray:
    stripes = np.array_split(image[:, 12:52].astype(np.float32), 6)
    counts = [np.histogram(s[..., c], 8, (0, 256))[0] for s in stripes for c in range(3)]
    histogram = np.concatenate(counts).astype(np.float32)
    return np.asarray(np.sqrt(histogram / histogram.sum()), np.float32)


def _thumbnail(image: Image) -> FloatArray:
    blocks = image.reshape(16, 8, 8, 8, 3).mean((1, 3))
    return np.asarray(blocks.ravel(), np.float32)


@pytest.mark.parametrize("describe", [_histogram, _thumbnail])
def test_matching_colours_or_pixels_as_they_are_does_badly(
    crowd: Split, describe: Callable[[Image], FloatArray]
) -> None:
    query, gallery = (
        np.stack([describe(read_image(record.path)) for record in records])
        for records in (crowd.query, crowd.gallery)
    )
    assert _rank1(crowd, query, gallery) < 0.35
