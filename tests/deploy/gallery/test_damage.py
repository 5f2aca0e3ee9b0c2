"""Damaged galleries: found, named, never believed; the intact images stay usable."""

from __future__ import annotations

import grp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reid.cli import main
from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.checking import check_gallery, drop_damaged
from reid.deploy.gallery.opening import open_gallery
from reid.errors import ConfigError, ModelFileError
from reid.files import shared_with
from reid.matching import PairMatcher, VectorMatcher
from reid.types import FloatArray
from tests.deploy.gallery.conftest import PixelRunner, entries_of, people_vectors

VECTORS = people_vectors(4, 10)


@pytest.fixture
def filled(gallery: GalleryStore) -> Path:
    """Forty images in two files: of 30 and of 10."""
    gallery.add(VECTORS[:30], entries_of(30))
    gallery.add(VECTORS[30:], entries_of(10, 30))
    return Path(gallery.name)


def file_of(gallery: Path, rows: int) -> Path:
    """The file of so many rows."""
    head = json.loads((gallery / "gallery.json").read_text())
    return gallery / next(name for name, found, *_ in head["segments"] if found == rows)


def change(file: Path, old: bytes, new: bytes) -> None:
    """Change the one place in a file where some bytes are."""
    content = file.read_bytes()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new))


def spoil(gallery: Path, row: int, vector: FloatArray) -> None:
    """Replace an image's vector behind the gallery's back."""
    file = file_of(gallery, 30 if row < 30 else 10)
    change(file, VECTORS[row].tobytes(), vector.astype(np.float32).tobytes())


def ids(matches):
    return [match.id for match in matches]


SPOILT = {
    "negated": -VECTORS[7],
    "not a number": np.full(16, np.nan, np.float32),
    "huge": np.full(16, 3e38, np.float32),
    "one bit": np.concatenate([[VECTORS[7, 0] * 2], VECTORS[7, 1:]]).astype(np.float32),
}


@pytest.mark.parametrize("vector", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("index", ["exact", "binary"])
def test_a_changed_vector_is_an_error_or_its_image_is_left_out_and_said(
    filled: Path, matcher: VectorMatcher, vector: FloatArray, index: str
) -> None:
    expected = open_gallery(str(filled), matcher).search(VECTORS[[7, 33]], 40)
    open_gallery(str(filled), matcher, index=index).prepare()
    spoil(filled, 7, vector)
    with pytest.raises(ModelFileError, match=r"segment-00000000\.safetensors is damaged"):
        open_gallery(str(filled), matcher, index=index).search(VECTORS[:1], 5)
    said: list[str] = []
    partial = open_gallery(str(filled), matcher, index=index, partial=True, say=said.append)
    found = partial.search(VECTORS[[7, 33]], 40)
    assert [ids(one) for one in found] == [[i for i in ids(one) if i != 7] for one in expected]
    assert len(partial) == 39
    assert partial.left_out == (
        f"{filled} is damaged: 1 images are left out (segment-00000000.safetensors); see reid "
        f"gallery check {filled}"
    )
    assert said == [partial.left_out]


def test_a_changed_name_or_source_is_found_too(filled: Path, matcher: VectorMatcher) -> None:
    file = file_of(filled, 10)
    content = file.read_bytes()
    change(file, b"/images/33.jpg", b"/images/93.jpg")
    with pytest.raises(ModelFileError, match="in the labels of its images"):
        open_gallery(str(filled), matcher).search(VECTORS[33:34], 1)
    partial = open_gallery(str(filled), matcher, partial=True)
    assert ids(partial.search(VECTORS[33:34], 40)[0]).count(33) == 0
    assert partial.entry(33) is None
    file.write_bytes(content.replace(b"p3", b"p0"))  # in the head: whose names are whose?
    with pytest.raises(ModelFileError, match="its head differs from its checksum"):
        open_gallery(str(filled), matcher)
    partial = open_gallery(str(filled), matcher, partial=True)
    assert partial.summary().people == ("p0", "p1", "p2")
    assert "10 images are left out" in partial.left_out


def test_a_file_of_another_gallery_or_of_another_day_is_refused(
    filled: Path, matcher: VectorMatcher, tmp_path: Path
) -> None:
    other = open_gallery(str(tmp_path / "other"), matcher, create=True)
    other.add(people_vectors(3, 10, seed=1), entries_of(30))
    shutil.copy(file_of(tmp_path / "other", 30), file_of(filled, 30))
    with pytest.raises(ModelFileError, match="is not the file that the gallery lists"):
        open_gallery(str(filled), matcher)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_features_that_are_not_finite_are_not_added(gallery: GalleryStore, bad: float) -> None:
    vectors = VECTORS[:10].copy()
    vectors[3, 2] = bad
    with pytest.raises(ModelFileError, match=r"1 of 10 images .* the first of /images/3\.jpg"):
        gallery.add(vectors, entries_of(10))
    assert len(gallery) == 0


def test_maps_of_a_pair_network_are_checked_as_vectors_are(
    tmp_path: Path, pair_matcher: PairMatcher
) -> None:
    rng = np.random.default_rng(0)
    described = pair_matcher.describe(
        [rng.integers(0, 256, (8, 4, 3)).astype(np.uint8) for _ in range(20)]
    )
    gallery = open_gallery(str(tmp_path), pair_matcher, create=True)
    gallery.add(described, entries_of(20))
    (file,) = tmp_path.glob("segment-*")
    maps = load_file(file)["described.maps2"]
    change(file, maps[5].tobytes(), (-maps[5]).tobytes())
    with pytest.raises(ModelFileError, match="in the features of its images"):
        open_gallery(str(tmp_path), pair_matcher).search(described, 3)
    partial = open_gallery(str(tmp_path), pair_matcher, partial=True)
    assert sorted(ids(partial.search(described, 20)[0])) == [i for i in range(20) if i != 5]


def test_damaged_rows_are_never_written_into_another_file(
    filled: Path, matcher: VectorMatcher
) -> None:
    gallery = open_gallery(str(filled), matcher)
    spoil(filled, 31, -VECTORS[31])
    before = {path.name: path.read_bytes() for path in filled.glob("*.*") if path.suffix != ".lock"}
    new = people_vectors(1, 20, seed=9)
    with pytest.raises(ModelFileError, match="so that nothing is written"):
        gallery.add(new, entries_of(20, 40))  # would be merged with the ten
    with pytest.raises(ModelFileError, match="so that nothing is written"):
        gallery.delete(Where(cameras=("c1",)))
    partial = open_gallery(str(filled), matcher, partial=True)
    partial.search(VECTORS[:1], 1)
    with pytest.raises(ModelFileError, match="so that nothing is written"):
        partial.add(new, entries_of(20, 40))
    after = {path.name: path.read_bytes() for path in filled.glob("*.*") if path.suffix != ".lock"}
    assert after == before
    partial.confirm(Confirmation("ab", 3, True, 0.0))  # touches no rows


def test_a_file_that_is_mended_is_taken_again(filled: Path, matcher: VectorMatcher) -> None:
    file = file_of(filled, 30)
    content = file.read_bytes()
    spoil(filled, 7, -VECTORS[7])
    said: list[str] = []
    partial = open_gallery(str(filled), matcher, partial=True, say=said.append)
    assert 7 not in ids(partial.search(VECTORS[7:8], 40)[0])
    shutil.copy(file, file.with_suffix(".copy"))
    file.with_suffix(".copy").write_bytes(content)
    os.replace(file.with_suffix(".copy"), file)
    assert ids(partial.search(VECTORS[7:8], 1)[0]) == [7]
    assert partial.left_out == ""
    assert len(said) == 1


CUT = """
import sys
from pathlib import Path
from reid.deploy.gallery.opening import open_gallery
from reid.errors import ModelFileError
from tests.deploy.gallery.conftest import people_vectors, vector_matcher
folder, vectors = Path(sys.argv[1]), people_vectors(4, 10)
strict = open_gallery(str(folder), vector_matcher())
partial = open_gallery(str(folder), vector_matcher(), partial=True)
assert len(strict.search(vectors, 40)[0]) == len(partial.search(vectors, 40)[0]) == 40
with open(folder / sys.argv[2], "r+b") as file:
    file.truncate(5000)
for use in (lambda: strict.search(vectors, 1), lambda: strict.entry(1), strict.summary):
    try:
        use()
    except ModelFileError as error:
        print(error)
print(len(partial.search(vectors, 40)[0]), partial.entry(1), partial.entry(35).source)
print(partial.left_out)
"""


def test_a_file_that_is_cut_short_in_use_does_not_end_the_process(tmp_path: Path) -> None:
    from tests.deploy.gallery.conftest import vector_matcher

    gallery = open_gallery(str(tmp_path / "g"), vector_matcher(), create=True)
    pictures = [GalleryEntry(f"{i}", content=f"{i}", picture=bytes(9000)) for i in range(30)]
    gallery.add(VECTORS[:30], pictures)
    gallery.add(VECTORS[30:], entries_of(10, 30))
    file = file_of(tmp_path / "g", 30).name
    done = subprocess.run(
        [sys.executable, "-c", CUT, tmp_path / "g", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *errors, found, left_out = done.stdout.splitlines()
    assert len(errors) == 3
    assert all("was truncated while it was in use: expected" in line for line in errors)
    assert found == "10 None /images/35.jpg"
    assert "30 images are left out" in left_out


def test_an_index_that_is_cut_short_in_use_is_left_out(
    filled: Path, matcher: VectorMatcher
) -> None:
    open_gallery(str(filled), matcher, index="binary").prepare()
    said: list[str] = []
    gallery = open_gallery(str(filled), matcher, index="binary", say=said.append)
    gallery.search(VECTORS[:3], 5)
    index = filled / "index" / "index.safetensors"
    os.truncate(index, index.stat().st_size - 4096)
    expected = open_gallery(str(filled), matcher).search(VECTORS[:3], 5)
    assert gallery.search(VECTORS[:3], 5) == expected
    assert [f"{index} is damaged" in line for line in said] == [True]


def as_format_1(gallery: Path) -> None:
    """The gallery as an earlier version would have written it."""
    head = json.loads((gallery / "gallery.json").read_text())
    for name, *_ in head["segments"]:
        columns = {
            key: array
            for key, array in load_file(gallery / name).items()
            if not key.startswith(("check.", "offset_us", "frame", "track", "run", "model"))
            and not key.startswith("picture_ref")
        }
        names = {
            kind: json.dumps([f"{kind[0]}{i}" for i in range(9)]) for kind in ("person", "camera")
        }
        save_file(columns, gallery / name, {"format": "reid gallery segment 1", **names})
    segments = [[name, rows] for name, rows, _ in head["segments"]]
    del head["sha256"]
    head |= {"format": "reid gallery 1", "segments": segments}
    (gallery / "gallery.json").write_text(json.dumps(head))


def test_a_gallery_of_format_1_opens_and_gets_checksums_where_it_is_written(
    filled: Path, matcher: VectorMatcher
) -> None:
    as_format_1(filled)
    assert check_gallery(filled).to_json()["unchecked"] == 40
    gallery = open_gallery(str(filled), matcher)
    assert ids(gallery.search(VECTORS[[35]], 2)[0])[0] == 35
    entry = gallery.entry(35)
    assert entry is not None
    assert (entry.source, entry.frame, entry.seconds, entry.run) == (
        "/images/35.jpg",
        None,
        None,
        "",
    )
    new = people_vectors(1, 12, seed=5)
    gallery.add(new[:2], entries_of(2, 40))  # a file beside the others
    found = check_gallery(filled)
    assert (found.images, found.unchecked, found.damaged) == (42, 40, [])
    gallery.add(new[2:], entries_of(10, 42))  # merged with all before
    found = check_gallery(filled)
    assert (found.images, found.unchecked, found.damaged) == (52, 0, [])
    for row, number in ((VECTORS[35], 35), (new[0], 40), (new[11], 51)):
        assert ids(gallery.search(row[None], 1)[0]) == [number]


def test_a_vector_that_is_not_finite_is_found_without_checksums(
    filled: Path, matcher: VectorMatcher
) -> None:
    as_format_1(filled)
    spoil(filled, 7, np.full(16, 3e38, np.float32))
    with pytest.raises(ModelFileError, match="in the features of its images"):
        open_gallery(str(filled), matcher).search(VECTORS[:1], 1)
    partial = open_gallery(str(filled), matcher, partial=True)
    assert len(partial.search(VECTORS[:1], 40)[0]) == 39
    assert [one.ids for one in check_gallery(filled).damaged] == [(7,)]


def test_dropping_what_is_damaged_leaves_a_gallery_that_is_written_again(
    filled: Path, matcher: VectorMatcher
) -> None:
    open_gallery(str(filled), matcher, index="binary").prepare()
    spoil(filled, 7, -VECTORS[7])
    spoil(filled, 31, -VECTORS[31])
    (filled / "confirmed.json").write_text("{")
    os.truncate(filled / "index/index.safetensors", 3000)
    found = check_gallery(filled)
    assert [(one.file, one.images, one.ids) for one in found.damaged] == [
        ("segment-00000000.safetensors", 1, (7,)),
        ("segment-00000001.safetensors", 1, (31,)),
        ("index/index.safetensors", 0, ()),
        ("confirmed.json", 0, ()),
    ]
    left = drop_damaged(filled)
    assert (left.images, left.damaged) == (38, [])
    gallery = open_gallery(str(filled), matcher)
    assert gallery.unknown(entries_of(40)).nonzero()[0].tolist() == [7, 31]
    assert gallery.add(VECTORS, entries_of(40)) == 2
    assert len(gallery.search(VECTORS[:1], 50)[0]) == 40


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def test_the_command_names_what_is_damaged_and_says_so_by_its_exit_code(
    filled: Path, run: Run
) -> None:
    code, out, _ = run("gallery", "check", filled)
    assert (code, out.splitlines()) == (
        0,
        [f"{filled}: 40 images in 2 files", "no damage found"],
    )
    spoil(filled, 33, -VECTORS[33])
    code, out, err = run("gallery", "check", filled)
    assert code == 1
    assert out.splitlines()[1] == (
        "segment-00000001.safetensors: its described.vector differs from what was written: 1 "
        "images (ids 33)"
    )
    assert "is damaged in segment-00000001.safetensors; restore" in err
    code, out, _ = run("gallery", "check", filled, "--json")
    body = json.loads(out)
    assert (code, body["images"], body["damaged_images"]) == (1, 40, 1)
    assert body["damaged"][0]["ids"] == ["33"]
    code, out, _ = run("gallery", "check", filled, "--drop-damaged", "--json")
    assert (code, json.loads(out)["dropped"], json.loads(out)["images"]) == (0, 1, 39)
    assert run("gallery", "check", filled)[0] == 0
    assert run("gallery", "check", "milvus://host/name")[0] == 1


def test_a_search_of_a_damaged_gallery_finds_the_rest_and_ends_with_an_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: VectorMatcher(PixelRunner()))
    for number in range(4):
        image = np.full((16, 8, 3), 50 + 40 * number, np.uint8)
        image[:8, :, number % 3] = 20
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    files = [tmp_path / f"{number}.png" for number in range(4)]
    options = ("--gallery", tmp_path / "g")
    assert run("index", "m.onnx", *files, *options)[0] == 0
    (file,) = (tmp_path / "g").glob("segment-*")
    vector = load_file(file)["described.vector"][2]
    change(file, vector.tobytes(), (-vector).tobytes())
    code, out, err = run("search", "m.onnx", files[2], *options, "--json")
    body = json.loads(out)
    assert code == 1
    assert sorted(match["id"] for match in body["queries"][0]["matches"]) == ["0", "1", "3"]
    assert "1 images are left out" in body["left_out"]
    assert "this answer is incomplete" in err


def test_a_gallery_is_for_its_owner_or_for_a_group(
    tmp_path: Path, matcher: VectorMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str) -> dict[str, int]:
        gallery = open_gallery(str(tmp_path / name), matcher, create=True, index="binary")
        gallery.add(VECTORS, entries_of(40))
        gallery.confirm(Confirmation("ab", 3, True, 0.0))
        gallery.prepare()
        return modes(tmp_path / name)

    def modes(folder: Path) -> dict[str, int]:
        files = [folder, *folder.rglob("*")]
        return {path.name: path.stat().st_mode & 0o7777 for path in files}

    own = made("own")
    assert own.pop("own") == own.pop("index") == 0o700
    assert set(own.values()) == {0o600}
    with shared_with(grp.getgrgid(os.getgid()).gr_name):
        shared = made("shared")
    assert shared.pop("shared") == shared.pop("index") == 0o2770
    assert shared.pop("writer.lock") == shared.pop("verdicts.jsonl") == 0o660
    assert set(shared.values()) == {0o640}
    # Whoever writes next keeps it so, without saying it again.
    open_gallery(str(tmp_path / "shared"), matcher).add(VECTORS[:5] / 2, entries_of(5, 50))
    assert set(modes(tmp_path / "shared").values()) == {0o2770, 0o640, 0o660}
    with (
        pytest.raises(ConfigError, match="no group 'absent-group'"),
        shared_with("absent-group"),
    ):
        pass


@pytest.mark.parametrize("fault", ["cut", "missing", "changed"])
def test_without_its_list_a_gallery_is_told_of_and_its_intact_images_are_counted(
    filled: Path, matcher: VectorMatcher, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    spoil(filled, 7, -VECTORS[7])
    head = filled / "gallery.json"
    if fault == "missing":
        head.unlink()
    else:
        text = head.read_text()
        head.write_text(text[:40] if fault == "cut" else text.replace("40", "41"))
    with pytest.raises(ModelFileError, match=rf"gallery\.json.*restore.*gallery check {filled}"):
        open_gallery(str(filled), matcher)
    found = check_gallery(filled)
    assert (found.images, found.num_damaged, found.unchecked) == (40, 1, 0)
    assert [one.file for one in found.damaged] == ["gallery.json", "segment-00000000.safetensors"]
    for options in ([], ["--drop-damaged"]):
        assert main(["gallery", "check", str(filled), *options]) == 1
        shown = capsys.readouterr()
        assert "39 images are intact" in shown.err
        assert "gallery.json" in shown.err


def test_a_file_of_rows_that_cannot_be_read_is_named_though_the_list_is_lost(filled: Path) -> None:
    (filled / "gallery.json").write_text("{}")
    file = filled / "segment-00000001.safetensors"
    os.truncate(file, file.stat().st_size - 50)
    found = check_gallery(filled)
    assert (found.images, len(found.damaged)) == (30, 2)
    assert found.damaged[1].file == file.name
