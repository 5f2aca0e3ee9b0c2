"""A user's own folders: what is understood of them, and how they are divided."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.data import IMAGE_SUFFIXES, inspect_dataset, load_split
from reid.data.readers.division import USUAL, OwnImages
from reid.data.readers.person_folders import labelled_images
from reid.errors import DataError
from reid.evaluation.scoring import measure
from reid.matching.distances import euclidean_distances
from reid.matching.labels import labels_from_records
from reid.types import ImageRecord

Pictures = Callable[[Path, Iterable[str]], Path]
NAMES = [
    f"{person}/{camera}/{image}.jpg"
    for person in ("alice", "bob", "carol", "dave")
    for camera in ("door", "hall")
    for image in range(3)
]


def _ids(records: Iterable[ImageRecord]) -> set[int]:
    return {record.person_id for record in records}


def test_people_and_cameras_are_numbered_by_name_and_half_is_tested(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    split = load_split("folder", write_pictures(tmp_path, NAMES))
    assert _ids(split.train) | _ids(split.query) == {1, 2, 3, 4}
    assert len(_ids(split.train)) == len(_ids(split.query)) == 2
    assert not _ids(split.train) & _ids(split.query)
    queries = Counter((record.person_id, record.camera_id) for record in split.query)
    assert set(queries.values()) == {1}
    assert len(queries) == 4
    assert not {r.path for r in split.query} & {r.path for r in split.gallery}
    assert len(split.gallery) == 8
    assert split.note == "2/2 identities, random split with seed 0"


def test_a_seed_divides_the_same_way_again_and_another_seed_otherwise(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    write_pictures(tmp_path, NAMES)
    splits = [load_split("folder", tmp_path, split_seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len({frozenset(record.path for record in split.query) for split in splits}) > 1


def test_without_cameras_every_image_of_the_person_is_an_answer(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = [f"{person}/{image}.png" for person in "abcd" for image in range(3)]
    split = load_split("folder", write_pictures(tmp_path, names), num_test_identities=2)
    assert "no cameras: " in split.note
    query, gallery = labels_from_records(split.query), labels_from_records(split.gallery)
    assert (len(split.query), len(split.gallery)) == (2, 4)
    exact = euclidean_distances(
        query.person_ids[:, None].astype("f4"), gallery.person_ids[:, None].astype("f4")
    )
    scores = measure(lambda rows: exact[rows], query, gallery, split.protocol).scores
    assert (scores.num_unanswerable, scores.cmc[1], scores.map_step) == (0, 1.0, 1.0)
    found = inspect_dataset("folder", tmp_path)
    assert (found.subsets["all"].cameras, found.single_camera) == (0, {})
    assert any(line.startswith("no cameras: ") for line in found.lines())


def test_a_given_division_is_kept(write_pictures: Pictures, tmp_path: Path) -> None:
    names = ["train/a/c1/1.jpg", "train/b/c1/1.jpg", "query/x/c1/1.jpg", "gallery/x/c2/1.jpg"]
    split = load_split("folder", write_pictures(tmp_path, names))
    assert [len(side) for side in (split.train, split.query, split.gallery)] == [2, 1, 1]
    assert split.query[0].person_id == split.gallery[0].person_id
    assert split.note == "2/1 identities, split given by the data"
    with pytest.raises(DataError, match="has a fixed split; leave num_test_identities at 0"):
        load_split("folder", tmp_path, num_test_identities=1)


def test_a_test_folder_without_queries_gets_them_by_rule(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = [name.replace("alice", "test/alice").replace("bob", "test/bob") for name in NAMES]
    names = [name if name.startswith("test") else f"train/{name}" for name in names]
    split = load_split("folder", write_pictures(tmp_path, names))
    assert [len(side) for side in (split.train, split.query, split.gallery)] == [12, 4, 8]
    assert split.note == "2/2 identities, split given by the data, random queries with seed 0"
    write_pictures(tmp_path, ["gallery/zoe/hall/1.jpg"])
    assert len(load_split("folder", tmp_path).gallery) == 9


def test_test_images_alone_can_be_evaluated(write_pictures: Pictures, tmp_path: Path) -> None:
    names = ["query/x/c1/1.jpg", "gallery/x/c2/1.jpg", "gallery/y/c2/1.jpg"]
    split = load_split("folder", write_pictures(tmp_path, names))
    assert (split.train, len(split.query), len(split.gallery)) == ((), 1, 2)


def test_names_as_markets_keep_their_numbers_junk_and_distractors(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = ["0007_c1_1.jpg", "0007_c2_1.jpg", "0009_c1_1.jpg", "0011_c3_1.jpg"]
    write_pictures(tmp_path, [*names, "-1_c1_1.jpg", "0000_c2_1.jpg"])
    split = load_split("folder", tmp_path)
    assert _ids(split.query) == {7}
    assert _ids(split.train) == {9, 11}
    assert _ids(split.gallery) == {7, -1, 0}


def test_a_camera_in_the_name_counts_inside_a_persons_folder(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = [f"{person}/{person}_c{camera}_1.jpg" for person in ("0002", "0005") for camera in "12"]
    found = inspect_dataset("folder", write_pictures(tmp_path, [*names, "0007/0007_c1_2.jpg"]))
    assert (found.subsets["all"].identities, found.subsets["all"].cameras) == (3, 2)
    assert found.single_camera == {"all": (7,)}
    assert "identities: numbers taken from the names, 2 to 7" in found.notes


def test_numbers_from_zero_are_people_too(write_pictures: Pictures, tmp_path: Path) -> None:
    names = [f"{person}/{camera}/1.jpg" for person in range(12) for camera in (0, 1)]
    found = inspect_dataset("folder", write_pictures(tmp_path, names))
    assert found.subsets["all"].identities == 12
    assert "identities: numbered in the order of their names, 1 = 0 to 12 = 11" in found.notes


def test_what_cannot_be_placed_is_named_with_the_reason(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    odd = ["0002/0003_c1_1.jpg", "holiday.jpg", "0002/c1/deep/1.jpg", "0001_c1_0002_c1.jpg"]
    good = ["0002/0002_c1_1.jpg", "0002/0002_c2_1.jpg", "0003/0003_c1_1.jpg", "0004/0004_c1_1.jpg"]
    write_pictures(tmp_path, [*good, *odd])
    (tmp_path / "Thumbs.db").touch()
    write_pictures(tmp_path, [".cache/x.jpg", "__MACOSX/1.jpg", "0002/._1.jpg"])
    found = inspect_dataset("folder", tmp_path)
    assert found.subsets["all"].images == 5  # and 0002/c1/deep/1.jpg is person 2, camera c1
    assert found.skipped["all"] == (
        "0001_c1_0002_c1.jpg: no identity in the folder or file name",
        "holiday.jpg: no identity in the folder or file name",
        "0002/0003_c1_1.jpg: folder and file name give different identities",
    )


def test_people_in_train_and_test_are_named(write_pictures: Pictures, tmp_path: Path) -> None:
    names = ["train/a/c1/1.jpg", "train/b/c1/1.jpg", "query/a/c1/2.jpg", "gallery/a/c2/1.jpg"]
    found = inspect_dataset("folder", write_pictures(tmp_path, names))
    assert any("1 identities are in both train and test" in note for note in found.notes)


def test_folders_that_are_not_read_are_named(write_pictures: Pictures, tmp_path: Path) -> None:
    names = ["Train/a/1.jpg", "Train/b/1.jpg", "probe/c/1.jpg", "gallery/c/2.jpg", "val/d/1.jpg"]
    found = inspect_dataset("folder", write_pictures(tmp_path / "unpacked", names).parent)
    assert found.subsets["train"].images == 2
    assert found.notes[:2] == (
        "Train is train, gallery is gallery, probe is query",
        "ignored: val",
    )


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "expected images as person/camera/image.jpg"),
        (("a/1/1.jpg", "a/2/1.jpg"), "at least 2 identities, found 0"),
        (("a/1/1.jpg", "b/1/1.jpg"), "by two cameras or more.* none among 2"),
        (("a/1.jpg", "b/1.jpg"), "in two images or more.* none among 2"),
        (("a/1/1.jpg", "b/1.jpg"), "1 of 2 images have no camera.*b/1.jpg"),
        (("train/a/1.jpg", "bounding_box_train/b/1.jpg"), "are both train; keep one"),
        (("train/a/1.jpg", "train/b/1.jpg"), "expected query and gallery, or test"),
        (("query/a/1.jpg", "gallery/-1_c1_1.jpg"), "1 of 2 images have no camera"),
        (("query/-1_c1_1.jpg", "gallery/a/1/1.jpg"), "with 0 queries and 1 gallery images"),
        (("train/a/1.jpg", "query/c/1.jpg", "gallery/c/2.jpg"), "at least 2 identities, found 1"),
    ],
)
def test_folders_that_make_no_dataset_are_one_line(
    write_pictures: Pictures, tmp_path: Path, names: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        load_split("folder", write_pictures(tmp_path, names))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder"):
        load_split("folder", tmp_path / "gone")


def _who(root: Path, **options: str) -> dict[str, tuple[object, object]]:
    found = labelled_images(root, **options)
    paths = {one.path.relative_to(root).as_posix(): one for one in found.images}
    return {path: (one.person, one.camera) for path, one in paths.items()}


CAMERA_FIRST = [f"cam{c}/person{p:03d}/1.jpg" for c in (1, 2) for p in range(4)]
LAYOUTS = {
    "an archive's folder above people": (
        [f"mydata/{person}/{n}.jpg" for person in ("ann", "bob") for n in (1, 2)],
        ("mydata/bob/2.jpg", ("bob", None)),
    ),
    "two archives' folders above people and cameras": (
        ["a/b/ann/cam1/1.jpg", "a/b/bob/cam1/1.jpg", "a/b/bob/cam2/1.jpg"],
        ("a/b/bob/cam2/1.jpg", ("bob", "cam2")),
    ),
    "cameras above people": (CAMERA_FIRST, ("cam2/person003/1.jpg", ("person003", "cam2"))),
    "cameras called after places": (
        [f"{c}/{p}/1.jpg" for c in ("Gate", "hall 2", "side_cam") for p in ("ann", "bob")],
        ("side_cam/bob/1.jpg", ("bob", "side_cam")),
    ),
    "people above places": (
        ["ann/gate/1.jpg", "ann/hall/1.jpg", "ann/yard/1.jpg", "bob/gate/1.jpg"],
        ("ann/yard/1.jpg", ("ann", "yard")),
    ),
    "cameras above numbered people": (
        ["c1/0001/1.jpg", "c2/0001/1.jpg", "c1/0002/1.jpg"],
        ("c2/0001/1.jpg", ("0001", "c2")),
    ),
    "PRID 2011": (
        [
            "prid_2011/multi_shot/cam_a/person_0001/1.png",
            *(f"prid_2011/single_shot/cam_{c}/person_0002/1.png" for c in "ab"),
        ],
        ("prid_2011/multi_shot/cam_a/person_0001/1.png", ("person_0001", "cam_a")),
    ),
    "a person's tracklets": (
        ["ann/cam1/7/1.jpg", "ann/cam2/8/1.jpg", "bob/cam1/9/1.jpg"],
        ("ann/cam2/8/1.jpg", ("ann", "cam2")),
    ),
    "one person": (["ann/cam1/1.jpg", "ann/cam2/1.jpg"], ("ann/cam1/1.jpg", ("ann", "cam1"))),
    "groups of people": (
        ["day1/ann/cam1/1.jpg", "day1/bob/cam2/1.jpg", "day2/cid/cam1/1.jpg"],
        ("day2/cid/cam1/1.jpg", ("cid", "cam1")),
    ),
    "Market-1501's names in a folder": (
        ["batch/0002_c1_1.jpg", "batch/0003_c2_1.jpg", "other/0004_c1_1.jpg"],
        ("other/0004_c1_1.jpg", (4, 1)),
    ),
    "MARS": (
        ["0001/0001C1T0001F001.jpg", "0001/0001C2T0001F001.jpg", "00-1/00-1C3T0001F001.jpg"],
        ("00-1/00-1C3T0001F001.jpg", (-1, 3)),
    ),
    "DukeMTMC-VideoReID": (
        ["0001/0001/0001_C5_F0001_X1.jpg", "0001/0002/0001_C6_F0001_X1.jpg"],
        ("0001/0002/0001_C6_F0001_X1.jpg", ("0001", 6)),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unusual_folders_are_recognised(
    write_pictures: Pictures, tmp_path: Path, layout: str
) -> None:
    names, (one, who) = LAYOUTS[layout]
    found = _who(write_pictures(tmp_path, names))
    assert set(found) == set(names)
    assert found[one] == who


@pytest.mark.parametrize(
    "names",
    [
        ["x/ann/1.jpg", "x/bob/1.jpg", "x/cid/1.jpg", "y/ann/1.jpg", "y/bob/1.jpg"],
        ["x/0001/1.jpg", "x/0002/1.jpg", "y/0001/1.jpg"],
        ["zoe/ann/1.jpg", "zoe/bob/1.jpg"],
        ["zoe/ann/eve/1.jpg", "zoe/bob/eve/1.jpg"],
        ["1/ann/1.jpg", "1/bob/1.jpg", "1/cid/1.jpg", "2/bob/1.jpg"],
        ["cam1/c1/1.jpg", "cam2/c2/1.jpg"],
    ],
)
def test_folders_that_do_not_tell_are_asked_about(
    write_pictures: Pictures, tmp_path: Path, names: list[str]
) -> None:
    write_pictures(tmp_path, names)
    with pytest.raises(DataError, match="--layout person/camera, --layout camera/person") as asked:
        labelled_images(tmp_path)
    assert "\n" not in str(asked.value)
    upper, lower = names[0].split("/")[:2]
    assert _who(tmp_path, layout="camera/person")[names[0]] == (lower, upper)
    assert _who(tmp_path, layout="person/camera")[names[0]] == (upper, lower)
    assert _who(tmp_path, layout="*/person")[names[0]] == (lower, None)


def test_a_folder_of_cameras_alone_names_no_person(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    write_pictures(tmp_path, ["cam1/1.jpg", "cam2/2.jpg"])
    found = labelled_images(tmp_path)
    assert found.images == []
    assert [one.camera for one in found.unplaced["all"]] == ["cam1", "cam2"]


@pytest.mark.parametrize("layout", ["person/cam", "person/person", "persons"])
def test_a_malformed_layout_is_one_line(
    write_pictures: Pictures, tmp_path: Path, layout: str
) -> None:
    write_pictures(tmp_path, NAMES)
    with pytest.raises(DataError, match=r"layout .*person.* camera.*; found"):
        load_split("folder", tmp_path, own=OwnImages(layout=layout))


def test_every_suffix_that_is_decoded_is_listed_and_others_are_named(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = [f"ann/{n}{suffix}" for n, suffix in enumerate(IMAGE_SUFFIXES)]
    write_pictures(tmp_path, [*names, "bob/1.WEBP", "bob/2.heic", "bob/notes.txt"])
    found = inspect_dataset("folder", tmp_path)
    assert found.subsets["all"].images == len(IMAGE_SUFFIXES) + 1
    assert found.skipped["all"] == (
        "bob/2.heic: an image format that is not read; convert it to JPEG or PNG",
    )


def test_a_link_that_leads_back_is_not_followed(write_pictures: Pictures, tmp_path: Path) -> None:
    write_pictures(tmp_path, ["ann/cam1/1.jpg", "bob/cam1/1.jpg"])
    (tmp_path / "bob" / "cam1" / "back").symlink_to(tmp_path)
    assert set(_who(tmp_path)) == {"ann/cam1/1.jpg", "bob/cam1/1.jpg"}


def test_folders_too_deep_to_be_read_are_named(write_pictures: Pictures, tmp_path: Path) -> None:
    deep = "/".join(["x"] * 20)
    write_pictures(tmp_path, ["ann/cam1/1.jpg", "bob/cam1/1.jpg", f"bob/cam1/{deep}/1.jpg"])
    assert any("over 16 levels deep" in note for note in labelled_images(tmp_path).notes)


def test_a_name_in_both_unicode_forms_is_one_person(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    names = [f"{unicodedata.normalize(form, 'Zoë')}/{form}/1.jpg" for form in ("NFC", "NFD")]
    found = inspect_dataset("folder", write_pictures(tmp_path, names))
    assert found.subsets["all"].identities == 1
    assert found.subsets["all"].cameras == 2


MARKET = [
    *(f"{p:04d}_c{c}s1_{n:06d}_00.jpg" for p in (2, 3, 4) for c in (1, 2) for n in (1, 2)),
    *(f"-1_c{c}s1_000003_00.jpg" for c in (1, 2)),
    *(f"0000_c{c}s1_000004_00.jpg" for c in (1, 2)),
]
PERSON_FOLDERS = [f"{name.partition('_')[0]}/{name}" for name in MARKET]
PLAIN_FOLDERS = [
    f"{person}/{camera[:2]}/{rest}"
    for person, camera, rest in (name.split("_", 2) for name in MARKET)
]


def _shape(root: Path, own: OwnImages = USUAL) -> tuple[object, ...]:
    split = load_split("folder", root, own=own)
    sides = (split.train, split.query, split.gallery)
    return tuple(Counter((one.person_id, one.camera_id) for one in side) for side in sides)


def test_markets_file_names_mean_the_same_in_any_folder(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    roots = [write_pictures(tmp_path / "flat", MARKET)]
    roots += [write_pictures(tmp_path / "people", PERSON_FOLDERS)]
    roots += [write_pictures(tmp_path / "cams", [f"cam{n[6]}/{n}" for n in MARKET[:-4]])]
    write_pictures(roots[2], [f"rest/{name}" for name in MARKET[-4:]])
    assert _ids(load_split("folder", roots[0]).gallery) >= {-1, 0}
    assert _shape(roots[0]) == _shape(roots[1]) == _shape(roots[2])


def test_folders_called_as_markets_junk_are_people_without_the_options(
    write_pictures: Pictures, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "flat", MARKET)
    write_pictures(tmp_path / "plain", PLAIN_FOLDERS)
    found = inspect_dataset("folder", tmp_path / "plain")
    assert (found.subsets["all"].junk, found.subsets["all"].distractors) == (0, 0)
    assert found.subsets["all"].identities == 5
    hint = "--junk -1 --distractors 0000"
    assert any(hint in line for line in found.lines())
    assert hint in load_split("folder", tmp_path / "plain").note
    own = OwnImages(junk=("-1",), distractors=("0000",))
    assert _shape(tmp_path / "plain", own) == _shape(tmp_path / "flat")
    named = inspect_dataset("folder", tmp_path / "plain", own=own)
    assert (named.subsets["all"].junk, named.subsets["all"].distractors) == (2, 2)
    assert not any(hint in line for line in named.lines())


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (OwnImages(("dvae",)), "--junk dvae: no person has this name.*did you mean 'dave'"),
        (OwnImages(("bob",), ("bob",)), "bob is given as junk and as distractors"),
    ],
)
def test_junk_that_no_person_is_called_is_one_line(
    write_pictures: Pictures, tmp_path: Path, own: OwnImages, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        load_split("folder", write_pictures(tmp_path, NAMES), own=own)


def test_all_images_can_be_test_images(write_pictures: Pictures, tmp_path: Path) -> None:
    split = load_split("folder", write_pictures(tmp_path, NAMES), own=OwnImages(all_test=True))
    assert split.train == ()
    assert _ids(split.query) == {1, 2, 3, 4}
    assert len(split.query) + len(split.gallery) == len(NAMES)
    assert split.note.startswith("0/4 identities, all images for testing")
    with pytest.raises(DataError, match="--all-test or --test-identities"):
        load_split("folder", tmp_path, own=OwnImages(all_test=True), num_test_identities=2)
    write_pictures(tmp_path / "divided", [f"test/{name}" for name in NAMES])
    with pytest.raises(DataError, match=r"a split of its own .*leave --all-test out"):
        load_split("folder", tmp_path / "divided", own=OwnImages(all_test=True))


def test_a_split_names_its_people(write_pictures: Pictures, tmp_path: Path) -> None:
    split = load_split("folder", write_pictures(tmp_path, NAMES))
    assert split.names == {1: "alice", 2: "bob", 3: "carol", 4: "dave"}
