"""Which images a user's folders and CSV files name, and what they tell of each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid.deploy.gallery import GalleryEntry, Where
from reid.deploy.gallery.listing import HowRead, labelled, list_images, where_from
from reid.deploy.gallery.times import seconds_from_text, text_from_seconds
from reid.errors import ConfigError, DataError


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def labels(entries: list[GalleryEntry], root: Path) -> dict[str, tuple[str, str]]:
    return {os.path.relpath(one.source, root): (one.person, one.camera) for one in entries}


def test_folders_tell_person_and_camera(tmp_path: Path) -> None:
    put(tmp_path, "alice/gate/1.jpg", "alice/hall/2.jpg", "007/gate/3.jpg", "alice/notes.txt")
    assert labels(list_images([tmp_path]), tmp_path) == {
        "alice/gate/1.jpg": ("alice", "gate"),
        "alice/hall/2.jpg": ("alice", "hall"),
        "007/gate/3.jpg": ("7", "gate"),
    }


def test_names_as_market1501_s_tell_it_too_and_junk_has_no_name(tmp_path: Path) -> None:
    put(tmp_path, "0002_c1s1_000451_03.jpg", "-1_c3s1_000551_00.jpg", "0000_c2s1_1_00.jpg")
    assert labels(list_images([tmp_path]), tmp_path) == {
        "-1_c3s1_000551_00.jpg": ("", "3"),
        "0000_c2s1_1_00.jpg": ("", "2"),
        "0002_c1s1_000451_03.jpg": ("2", "1"),
    }


def test_images_without_an_identity_are_taken_all_the_same(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.png", "._a.jpg", "Thumbs.db")
    assert labels(list_images([tmp_path]), tmp_path) == {"a.jpg": ("", ""), "b.png": ("", "")}


def test_single_images_and_several_sources_come_in_order(tmp_path: Path) -> None:
    put(tmp_path, "one/x.jpg", "two/alice/y.jpg")
    found = list_images([tmp_path / "two", tmp_path / "one/x.jpg"])
    assert [Path(one.source).name for one in found] == ["y.jpg", "x.jpg"]
    assert all(Path(one.source).is_absolute() for one in found)


def test_a_csv_tells_everything(tmp_path: Path) -> None:
    put(tmp_path, "img/a.jpg", "img/b.jpg")
    (tmp_path / "l.csv").write_text(
        "Path;camera_id;time;box;person_id;weather\n"
        "img/a.jpg;gate;2026-05-01T12:00:00+02:00;10 20 30 60;alice;rain\n"
        "img\\b.jpg;;;;;\n"
    )
    base = os.path.realpath(tmp_path)
    assert list_images([tmp_path / "l.csv"]) == [
        GalleryEntry(f"{base}/img/a.jpg", "alice", "gate", 1777629600.0, (10, 20, 30, 60)),
        GalleryEntry(f"{base}/img/b.jpg"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pth,person_id\na.jpg,1\n", r"no column path \(did you mean 'pth'\?\)"),
        ("path\n../a.jpg\n", r"line 2: '\.\./a\.jpg' is not inside the CSV file's folder"),
        ("path\n/etc/passwd\n", r"line 2: '/etc/passwd' is not inside the CSV file's folder"),
        ("path,box\na.jpg,1 2 3\n", "line 2: a box is left, top, width and height"),
        ("path,box\na.jpg,1 2 0 3\n", "line 2: a box is .* at least 1x1; found '1 2 0 3'"),
        ("path,box\na.jpg,1 2 5 -3\n", "line 2: a box is .* at least 1x1"),
        ("path,box\na.jpg,1 2 5 9999999999\n", "line 2: a box is"),
        ('path\n"a.jpg\nb.jpg\n', r"not CSV \(unexpected end of data\)"),
        ("path,time\n\na.jpg,noon\n", "line 3: a time is written 2026-05-01"),
        ("path,time\n,0\n", "line 2: '' is not inside"),
        ("path\na\0.jpg\n", "line 2: found a NUL character"),
        ("", "no column path"),
        ("path\n", "no image found"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "l.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        list_images([file])
    assert "\n" not in str(caught.value)


def test_no_image_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image found; expected a folder of"):
        list_images([tmp_path])
    with pytest.raises(DataError, match="no such folder"):
        list_images([tmp_path / "none"])


def test_what_images_tell_is_not_overwritten(tmp_path: Path) -> None:
    put(tmp_path, "alice/gate/1.jpg")
    known = list_images([tmp_path])
    unknown = GalleryEntry(known[0].source, time_s=5.0)
    os.utime(known[0].source, (100, 100))
    assert [one.camera for one in labelled([*known, unknown], "x", "60")] == ["gate", "x"]
    assert [one.time_s for one in labelled([*known, unknown], "", "60")] == [60.0, 5.0]
    assert [one.time_s for one in labelled([*known, unknown], "", "file")] == [100.0, 5.0]
    assert [one.time_s for one in labelled([*known, unknown], "", "")] == [None, 5.0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1777636800.25", 1777636800.25),
        ("2026-05-01", 1777593600.0),
        ("2026-05-01T12:00", 1777636800.0),
        ("2026-05-01 12:00:00.500Z", 1777636800.5),
        ("2026-05-01T14:00:00+02:00", 1777636800.0),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert seconds_from_text(text) == seconds
    assert seconds_from_text(text_from_seconds(seconds)) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "-1e300", "yesterday", "2026-13-01", "1" * 400, "20260501", "2026-05"],
)
def test_what_is_no_time_is_one_line(text: str) -> None:
    with pytest.raises(DataError, match="a time is written 2026-05-01T12:30:00"):
        seconds_from_text(text)


def test_a_time_beyond_the_calendar_is_still_shown() -> None:
    assert text_from_seconds(9e11) == "900000000000"
    assert text_from_seconds(None) == ""


def test_conditions_are_joined(tmp_path: Path) -> None:
    given = ["person=a=b", "person=c", "camera=1", "since=5", "since=7", "until=2026-05-01"]
    assert where_from(given) == Where(("a=b", "c"), ("1",), 7.0, 1777593600.0)
    # As written, as the listing above keeps it, and as earlier versions did.
    assert where_from(["person=0002", "camera=-1"]) == Where(("0002", "2"), ("-1",))
    assert where_from(["person=Zo\u00eb"]).people == ("Zo\u00eb", "Zoe\u0308")
    with pytest.raises(ConfigError, match="expected person=NAME"):
        where_from(["gate"])


def test_every_image_of_a_folder_is_listed_or_counted(tmp_path: Path) -> None:
    put(
        tmp_path,
        "p1/c1/a.png",
        "p1/c1/tracklet/a.png",
        "p2/c1/tracklet/a.tif",
        "p3/c1/a.webp",
        "0061/0062_c1s1_000000_00.png",
        "loose.jfif",
        "p1/c1/b.heic",
        "p1/notes.txt",
    )
    said: list[str] = []
    assert labels(list_images([tmp_path], say=said.append), tmp_path) == {
        "p1/c1/a.png": ("p1", "c1"),
        "p1/c1/tracklet/a.png": ("p1", "c1"),
        "p2/c1/tracklet/a.tif": ("p2", "c1"),
        "p3/c1/a.webp": ("p3", "c1"),
        "0061/0062_c1s1_000000_00.png": ("", "1"),
        "loose.jfif": ("", ""),
    }
    words = "\n".join(said)
    assert "3 people (p1, p2, p3), 2 cameras (1, c1)" in words
    assert "the first 0061/0062_c1s1_000000_00.png" in words
    assert "not indexed: 1 file in image formats that are not read (.heic)" in words
    assert "not indexed: 1 file that are no images (.txt)" in words


def test_folders_beside_train_and_test_are_listed_too(tmp_path: Path) -> None:
    put(tmp_path, "test/ann/1.jpg", "val/bob/2.jpg", "x.jpg")
    found = labels(list_images([tmp_path]), tmp_path)
    assert set(found) == {"test/ann/1.jpg", "val/bob/2.jpg", "x.jpg"}


def test_number_zero_is_a_person_and_a_camera(tmp_path: Path) -> None:
    put(tmp_path / "in", "0/0/1.jpg", "1/0/2.jpg", "2/00/3.jpg")
    assert labels(list_images([tmp_path / "in"]), tmp_path / "in") == {
        "0/0/1.jpg": ("0", "0"),
        "1/0/2.jpg": ("1", "0"),
        "2/00/3.jpg": ("2", "0"),
    }
    (tmp_path / "l.csv").write_text("path,person_id,camera_id\nin/0/0/1.jpg,0,0.0\n,,\n  \n")
    (entry,) = list_images([tmp_path / "l.csv"])
    assert (entry.person, entry.camera) == ("0", "0")


def test_people_called_as_markets_junk_are_asked_about(tmp_path: Path) -> None:
    put(tmp_path, "-1/1.jpg", "0000/2.jpg", "0002/3.jpg")
    said: list[str] = []
    found = labels(list_images([tmp_path], say=said.append), tmp_path)
    assert {who for who, _ in found.values()} == {"-1", "0", "2"}
    assert any("--junk -1 --distractors 0000" in line for line in said)
    how = HowRead(junk=("-1",), distractors=("0000",))
    found = labels(list_images([tmp_path], how, say=said.append), tmp_path)
    assert {who for who, _ in found.values()} == {"", "2"}
    with pytest.raises(DataError, match="--junk 17: no person has this name"):
        list_images([tmp_path], HowRead(junk=("17",)))


def test_a_pipe_in_place_of_a_list_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l.csv")
    with pytest.raises(DataError, match=r"l\.csv: cannot be read: it is a pipe"):
        list_images([tmp_path / "l.csv"])


def test_names_that_a_terminal_would_act_on_are_escaped(tmp_path: Path) -> None:
    put(tmp_path, "red\x1b[31m/1.jpg", "\udcf6/2.jpg")
    said: list[str] = []
    list_images([tmp_path], say=said.append)
    assert said
    assert all(line.isprintable() for line in said)
    assert "red\\x1b[31m" in said[0]
