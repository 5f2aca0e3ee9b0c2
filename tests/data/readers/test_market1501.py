"""Market-1501's layout: names, junk, distractors, and folders that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.data import load_split
from reid.data.readers.market_layout import parse_name
from reid.errors import DataError
from reid.types import ImageRecord

TRAIN = ("0002_c1s1_000451_03.jpg", "0002_c2s1_000301_01.jpg", "0007_c3s3_077419_03.jpg")
QUERY = ("0003_c1s1_000000_00.jpg",)
GALLERY = (
    "0003_c2s1_000001_01.jpg",
    "-1_c1s1_000401_03.jpg",
    "0000_c4s6_038550_05.jpg",
    "0003_c1s1_000002_01.jpg",
)


def _layout(
    root: Path,
    train: Sequence[str] = TRAIN,
    query: Sequence[str] = QUERY,
    gallery: Sequence[str] = GALLERY,
) -> Path:
    picture = cv2.imencode(".jpg", np.zeros((8, 4, 3), np.uint8))[1].tobytes()
    folders = {"bounding_box_train": train, "query": query, "bounding_box_test": gallery}
    for folder, names in folders.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).write_bytes(picture)
    return root


def _who(records: Sequence[ImageRecord]) -> list[tuple[int, int]]:
    return [(record.person_id, record.camera_id) for record in records]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("-1_c3s2_000001_00.jpg", (-1, 3)),
        ("0000_c6s1_000001_00.jpg", (0, 6)),
        ("._0002_c1s1_000451_03.jpg", None),
        ("holiday.jpg", None),
        ("0002_c1_0003_c2.jpg", None),
        ("-7_c1.jpg", None),
        ("99999999999999999999_c1.jpg", None),
    ],
)
def test_a_name_tells_identity_and_camera(name: str, expected: tuple[int, int] | None) -> None:
    assert parse_name(name) == expected


def test_the_gallery_keeps_junk_and_distractors_in_the_order_of_names(tmp_path: Path) -> None:
    split = load_split("market1501", _layout(tmp_path))
    assert split.dataset == "market1501"
    assert split.protocol.name == "market"
    assert _who(split.train) == [(2, 1), (2, 2), (7, 3)]
    assert _who(split.query) == [(3, 1)]
    assert _who(split.gallery) == [(-1, 1), (0, 4), (3, 1), (3, 2)]


def test_training_images_and_queries_always_show_somebody(tmp_path: Path) -> None:
    others = ("-1_c1s1_000001_00.jpg", "0000_c1s1_000001_00.jpg")
    split = load_split("market1501", _layout(tmp_path, (*TRAIN, *others), (*QUERY, *others)))
    assert {record.person_id for record in split.train} == {2, 7}
    assert {record.person_id for record in split.query} == {3}


def test_other_files_and_upper_case_suffixes_do_not_matter(tmp_path: Path) -> None:
    root = _layout(tmp_path, train=("0002_c1s1_000451_03.JPG", "0007_c3s3_077419_03.jpg"))
    (root / "bounding_box_train" / "Thumbs.db").write_bytes(b"x")
    (root / "bounding_box_train" / "._0002_c1s1_000451_03.jpg").write_bytes(b"x")
    assert _who(load_split("market1501", root).train) == [(2, 1), (7, 3)]


@pytest.mark.parametrize(
    "subfolder", ["Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "MARKET1501"]
)
def test_the_datasets_own_folder_is_found_below_the_root(tmp_path: Path, subfolder: str) -> None:
    _layout(tmp_path / subfolder)
    assert len(load_split("market1501", tmp_path).train) == 3


def test_synthetic_data_is_read_the_same_way_under_its_own_name(tmp_path: Path) -> None:
    assert load_split("synthetic", _layout(tmp_path)).dataset == "synthetic"


def test_an_unknown_dataset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'market1051' \(did you mean 'market1501'\?\)"):
        load_split("market1051", tmp_path)


def test_a_missing_root_is_named_with_the_layout_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder; expected the Market-1501 layout"):
        load_split("market1501", tmp_path / "gone")


def test_a_root_without_the_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="bounding_box_train not found; expected the Market-1501 layout"
    ):
        load_split("market1501", tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bounding_box_train: expected images"):
        load_split("market1501", _layout(tmp_path, train=()))


def test_a_folder_of_other_names_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 1 images with other names"):
        load_split("market1501", _layout(tmp_path, gallery=("holiday.jpg",)))


def test_a_missing_query_folder_is_named(tmp_path: Path) -> None:
    root = _layout(tmp_path, query=())
    (root / "query").rmdir()
    with pytest.raises(DataError, match="query: no such folder"):
        load_split("market1501", root)


def test_one_training_identity_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2 identities, found 1 in"):
        load_split("market1501", _layout(tmp_path, train=TRAIN[:2]))


def test_a_query_folder_of_junk_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one query"):
        load_split("market1501", _layout(tmp_path, query=("-1_c1s1_000001_00.jpg",)))


def test_a_fixed_split_refuses_a_number_of_test_identities(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fixed split; leave num_test_identities at 0, found 5"):
        load_split("market1501", _layout(tmp_path), num_test_identities=5)


def test_multiple_queries_are_the_boxes_of_a_querys_identity_and_camera(tmp_path: Path) -> None:
    root = _layout(tmp_path)
    with pytest.raises(DataError, match="gt_bbox: no such folder"):
        load_split("market1501_multi_query", root)
    (root / "gt_bbox").mkdir()
    boxes = ("0003_c1s1_1_00.jpg", "0003_c1s2_9_00.jpg", "0003_c2s1_1_00.jpg", "0002_c1s1_1_00.jpg")
    for name in boxes:
        (root / "gt_bbox" / name).touch()
    split = load_split("market1501_multi_query", root)
    assert (split.dataset, split.protocol.name) == ("market1501_multi_query", "multi_query")
    assert [record.path.name for record in split.query] == list(boxes[:2])
    assert split.gallery == load_split("market1501", root).gallery
    for box in boxes[:2]:
        (root / "gt_bbox" / box).unlink()
    with pytest.raises(DataError, match="gt_bbox: expected boxes"):
        load_split("market1501_multi_query", root)


@pytest.mark.parametrize("folder", ["images", "distractors_500k", "distractors_500k/images"])
def test_the_distractors_have_no_identity_whatever_their_names(tmp_path: Path, folder: str) -> None:
    root = _layout(tmp_path / "Market-1501-v15.09.15").parent
    with pytest.raises(DataError, match=r"expected distractors_500k\.zip unpacked beside"):
        load_split("market1501_500k", root)
    (root / "Market-1501-v15.09.15" / folder).mkdir(parents=True)
    for name in ("0003_c5s1_1_00.jpg", "12.jpg", "Thumbs.db"):
        (root / "Market-1501-v15.09.15" / folder / name).touch()
    split = load_split("market1501_500k", root)
    assert _who(split.gallery[-2:]) == [(0, 5), (0, 0)]
    assert "2 distractors" in split.note
    assert len(load_split("market1501", root).gallery) == 4


@pytest.mark.real_data
def test_real_market1501_images_have_training_people_apart_from_queried_ones(
    real_data: Callable[..., Path],
) -> None:
    folder = real_data("market1501")
    split = load_split("market1501", folder)
    train = {record.person_id for record in split.train}
    query = {record.person_id for record in split.query}
    gallery = {record.person_id for record in split.gallery}
    assert len(train) > 100
    assert not train & query
    assert query <= gallery
    assert {record.camera_id for record in split.train} == {1, 2, 3, 4, 5, 6}
