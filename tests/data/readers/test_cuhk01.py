"""CUHK01: random splits by seed, view A asks and view B answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.data import load_split
from reid.errors import DataError
from reid.types import ImageRecord


def _campus(folder: Path, identities: int = 971, images: Iterable[int] = (1, 2, 3, 4)) -> Path:
    """Empty files: a split is made from names alone."""
    folder.mkdir(parents=True)
    for person in range(1, identities + 1):
        for image in images:
            (folder / f"{person:04d}{image:03d}.png").touch()
    return folder


def _ids(records: Iterable[ImageRecord]) -> set[int]:
    return {record.person_id for record in records}


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cuhk01")
    _campus(root / "campus")
    return root


@pytest.mark.parametrize(("asked", "tested"), [(0, 100), (100, 100), (486, 486)])
def test_the_papers_splits_have_their_counts(campus: Path, asked: int, tested: int) -> None:
    split = load_split("cuhk01", campus, num_test_identities=asked)
    assert len(_ids(split.train)) == 971 - tested
    assert len(split.train) == 4 * (971 - tested)
    assert len(split.query) == len(split.gallery) == 2 * tested
    assert _ids(split.query) == _ids(split.gallery)
    assert not _ids(split.train) & _ids(split.query)


def test_queries_are_view_a_and_the_gallery_is_view_b(campus: Path) -> None:
    split = load_split("cuhk01", campus)
    assert {record.path.stem[-3:] for record in split.query} == {"001", "002"}
    assert {record.path.stem[-3:] for record in split.gallery} == {"003", "004"}
    assert {record.camera_id for record in split.query} == {0}
    assert {record.camera_id for record in split.gallery} == {1}
    assert {record.camera_id for record in split.train} == {0, 1}


def test_the_protocol_is_single_shot_drawn_again_from_the_seed(campus: Path) -> None:
    protocol = load_split("cuhk01", campus, split_seed=4).protocol
    assert (protocol.name, protocol.trials, protocol.seed) == ("single_shot", 10, 4)


def test_a_seed_gives_its_split_again_and_another_seed_another(campus: Path) -> None:
    first, again, other = (load_split("cuhk01", campus, split_seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert _ids(first.query) != _ids(other.query)
    assert [r.path for r in first.train] == sorted(r.path for r in first.train)


@pytest.mark.parametrize("subfolder", ["", "campus", "CUHK01/campus"])
def test_the_images_are_found_in_the_root_or_below(tmp_path: Path, subfolder: str) -> None:
    _campus(tmp_path / "root" / subfolder, identities=4)
    split = load_split("cuhk01", tmp_path / "root", num_test_identities=2)
    assert len(split.query) == 4


def test_upper_case_suffixes_are_read_and_other_files_are_not(tmp_path: Path) -> None:
    folder = _campus(tmp_path / "campus", identities=3)
    (folder / "0001001.png").rename(folder / "0001001.PNG")
    for name in ("Thumbs.db", "0001005.png", "readme.png"):
        (folder / name).touch()
    split = load_split("cuhk01", tmp_path, num_test_identities=1)
    assert len(split.train) + len(split.query) + len(split.gallery) == 12


def test_somebody_seen_in_one_view_only_is_never_tested(tmp_path: Path) -> None:
    folder = _campus(tmp_path / "campus", identities=4)
    for image in (3, 4):
        (folder / f"0002{image:03d}.png").unlink()
    for seed in range(5):
        split = load_split("cuhk01", tmp_path, num_test_identities=2, split_seed=seed)
        assert 2 in _ids(split.train)


def test_more_test_identities_than_there_are_is_an_impossible_split(tmp_path: Path) -> None:
    _campus(tmp_path / "campus", identities=4)
    with pytest.raises(DataError, match=r"100 test identities.* has 4"):
        load_split("cuhk01", tmp_path)


def test_a_split_that_leaves_one_identity_to_train_is_refused(tmp_path: Path) -> None:
    _campus(tmp_path / "campus", identities=4)
    with pytest.raises(DataError, match="at least 2 identities, found 1"):
        load_split("cuhk01", tmp_path, num_test_identities=3)


def test_a_negative_number_of_test_identities_is_refused(tmp_path: Path) -> None:
    _campus(tmp_path / "campus", identities=4)
    with pytest.raises(DataError, match="-1 test identities"):
        load_split("cuhk01", tmp_path, num_test_identities=-1)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder"):
        load_split("cuhk01", tmp_path / "gone")
    with pytest.raises(DataError, match="expected images"):
        load_split("cuhk01", tmp_path)


@pytest.mark.real_data
def test_real_cuhk01_splits_as_the_papers_do(real_data: Callable[..., Path]) -> None:
    folder = real_data("cuhk01")
    split = load_split("cuhk01", folder, num_test_identities=486)
    assert len(_ids(split.train)) == 485
    assert len(split.train) == 1940
    assert len(split.query) == len(split.gallery) == 972
