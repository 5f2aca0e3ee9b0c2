"""A user's own CSV: columns, paths that stay inside, and lines that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from reid.data import inspect_dataset, load_split
from reid.data.readers.division import OwnImages
from reid.errors import DataError
from tests.heard import Heard

Pictures = Callable[[Path, Iterable[str]], Path]
IMAGES = [f"images/{n}.jpg" for n in range(8)]
PEOPLE = "path,person_id,camera_id\n" + "".join(
    f"images/{n}.jpg,p{n // 2},cam{n % 2}\n" for n in range(8)
)
DIVIDED = (
    "split;camera_id;person_id;path;remark\n"
    "train;1;a;images/0.jpg;x\ntrain;1;b;images/1.jpg;\n"
    'Query;1;c;images/2.jpg;\n\ngallery;2;c;"images/3.jpg";\n'
)


@pytest.fixture
def root(write_pictures: Pictures, tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "own", IMAGES)


def _write(root: Path, text: str) -> Path:
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


def test_people_and_cameras_come_from_the_columns(root: Path) -> None:
    split = load_split("csv", _write(root, PEOPLE), num_test_identities=1)
    assert [len(side) for side in (split.train, split.query, split.gallery)] == [6, 1, 1]
    assert {record.camera_id for record in split.train} == {1, 2}
    assert split.dataset == "csv"


def test_columns_come_in_any_order_with_a_split_and_semicolons(root: Path) -> None:
    split = load_split("csv", _write(root, "\ufeff" + DIVIDED))
    assert [record.person_id for record in split.train] == [1, 2]
    assert [(r.person_id, r.camera_id, r.path.name) for r in split.query] == [(3, 1, "2.jpg")]
    assert [(r.person_id, r.camera_id) for r in split.gallery] == [(3, 2)]


def test_windows_paths_and_line_ends_are_read(root: Path) -> None:
    text = PEOPLE.replace("images/", "images\\").replace("\n", "\r\n")
    assert len(load_split("csv", _write(root, text)).train) == 4


def test_without_a_camera_column_there_are_no_cameras(root: Path) -> None:
    text = "".join(line.rpartition(",")[0] + "\n" for line in PEOPLE.splitlines())
    split = load_split("csv", _write(root, text))
    assert "no cameras" in split.note
    found = inspect_dataset("csv", root)
    assert found.notes[0] == "labels from labels.csv"
    assert found.subsets["all"].cameras == 0


def test_missing_images_are_an_error_to_train_and_a_finding_to_check(root: Path) -> None:
    (root / IMAGES[3]).unlink()
    with pytest.raises(DataError, match=r"labels\.csv: 1 of 8 .*3\.jpg"):
        load_split("csv", _write(root, PEOPLE))
    assert len(inspect_dataset("csv", root).unreadable) == 1


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "images/../../secret.jpg", "."])
def test_a_path_that_leads_out_of_the_folder_is_refused(root: Path, path: str) -> None:
    (root.parent / "secret.jpg").touch()
    _write(root, f"{PEOPLE}{path},p1,cam1\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 10: '.*' is outside"):
        load_split("csv", root)


def test_a_link_that_leads_out_of_the_folder_is_refused(root: Path) -> None:
    (root.parent / "secret.jpg").touch()
    (root / "link.jpg").symlink_to(root.parent / "secret.jpg")
    with pytest.raises(DataError, match=r"'link\.jpg' is outside"):
        load_split("csv", _write(root, f"{PEOPLE}link.jpg,p1,cam1\n"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column path; .*path, person_id"),
        ("path,person\n", r"no column person_id \(did you mean 'person'\?\)"),
        ("path,person_id\n", "person/camera/image.jpg"),
        ("path,person_id\na.jpg\n", "line 2: expected a path and a person_id"),
        ("path,person_id,split\na.jpg,p,tain\n", r"line 2: split .*'tain' \(did you mean 'tr"),
        (f"{PEOPLE}images/0.jpg,p9,cam1\n", "line 10: .*'images/0.jpg'.* line 2"),
        ("path,person_id,split\na,p,train\nb,p,\n", "1 of 2 lines have a split"),
        ("path,person_id,camera_id\na,p,1\nb,p,\n", "1 of 2 images have no camera"),
        ('path,person_id\n"a' + "x" * 200_000, "line 2: not CSV"),
        ("path,person_id\na\0.jpg,p\n", "line 2: "),
    ],
)
def test_a_csv_that_cannot_be_used_is_one_line(root: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_split("csv", _write(root, text))


def test_a_csv_of_other_bytes_is_one_line(root: Path) -> None:
    (root / "labels.csv").write_bytes(b"path,person_id\n\xe9.jpg,p\n")
    with pytest.raises(DataError, match="byte 15 is not UTF-8 text"):
        load_split("csv", root)


def test_no_csv_and_two_of_them_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"expected one CSV file .*; found none"):
        load_split("csv", root)
    for name in ("a.csv", "b.CSV"):
        (root / name).touch()
    with pytest.raises(DataError, match=r"found a\.csv, b\.CSV"):
        load_split("csv", root)


def test_rows_that_a_spreadsheet_leaves_are_skipped(root: Path) -> None:
    text = PEOPLE.replace("\n", "\r\n") + ",,\r\n   \r\n,,\r\n"
    assert len(load_split("csv", _write(root, text)).train) == 4


def test_numbers_as_pandas_writes_them_beside_a_gap_are_numbers(root: Path) -> None:
    lines = [f"images/{n}.jpg,{n // 2 + 1}{'.0' * (n % 2)},{n % 2 + 1}.0\n" for n in range(8)]
    found = inspect_dataset("csv", _write(root, "path,person_id,camera_id\n" + "".join(lines)))
    assert "identities: numbers taken from the names, 1 to 4" in found.notes
    assert "cameras: numbers taken from the names, 1 to 2" in found.notes


def test_a_name_in_both_unicode_forms_is_one_person(root: Path) -> None:
    text = PEOPLE.replace("p0,cam1", "Zoe\u0308,cam1").replace("p0,cam0", "Zo\u00eb,cam0")
    assert inspect_dataset("csv", _write(root, text)).subsets["all"].identities == 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,b.jpg,p1,cam1\n", "line 10: expected 3 values .* found 4; quote"),
        ('"images/0.jpg,p1,cam1\n', "not CSV"),
    ],
)
def test_a_row_that_would_be_misread_is_named(root: Path, row: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_split("csv", _write(root, PEOPLE + row))


def test_ids_of_junk_in_a_list_are_people_without_the_options(root: Path) -> None:
    text = PEOPLE.replace(",p0,", ",-1,").replace(",p3,", ",0,")
    found = inspect_dataset("csv", _write(root, text))
    assert found.subsets["all"].identities == 4
    assert any("--junk -1 --distractors 0" in note for note in found.notes)
    own = OwnImages(junk=("-1",), distractors=("0",))
    counts = inspect_dataset("csv", root, own=own).subsets["all"]
    assert (counts.junk, counts.distractors) == (2, 2)
    assert len(load_split("csv", root, own=OwnImages(("-1",), all_test=True)).query) == 3


def test_a_long_list_shows_its_progress(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.data.readers.label_files.ROWS_AT_ONCE", 2)
    heard = Heard()
    _write(root, PEOPLE)
    inspect_dataset("csv", root, reporter=heard)
    assert [call[:2] for call in heard.calls[:2]] == [(3, 10), (5, 10)]


def test_options_of_own_images_are_refused_elsewhere(root: Path) -> None:
    with pytest.raises(DataError, match=r"market1501: .*--junk, --all-test are for your own"):
        load_split("market1501", root, own=OwnImages(("-1",), all_test=True))
    with pytest.raises(DataError, match="--layout is for folder"):
        load_split("csv", _write(root, PEOPLE), own=OwnImages(layout="person"))
