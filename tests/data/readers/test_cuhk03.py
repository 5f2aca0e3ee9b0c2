"""CUHK03's .mat: images come out as they went in, its test sets divide, damage is one line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from reid.data import inspect_dataset, load_split, read_image
from reid.data.readers.cuhk03_mat import extract, read_test_sets
from reid.errors import DataError, OutputError
from reid.types import ImageRecord

Write = Callable[..., Path]
PEOPLE = (((5, 5), (2, 1), (1, 0)), ((1, 1), (1, 2)), ((2, 2),), ((1, 1),), ((1, 1),))
"""Images by the first and the second camera of each person of the five camera pairs."""

TEST_SETS = (((1, 1), (2, 2)), ((1, 2), (5, 1)))


@pytest.fixture
def root(write_cuhk03: Write, tmp_path: Path) -> Path:
    write_cuhk03(tmp_path / "cuhk03_release" / "cuhk-03.mat", PEOPLE, TEST_SETS)
    return tmp_path


def _ids(records: tuple[ImageRecord, ...]) -> set[int]:
    return {record.person_id for record in records}


def test_each_image_is_extracted_as_matlab_sees_it(root: Path) -> None:
    folder = extract(root / "cuhk03_release" / "cuhk-03.mat", "detected")
    assert folder == root / "cuhk03_release" / "images_detected"
    assert len(list(folder.iterdir())) == sum(map(sum, (two for pair in PEOPLE for two in pair)))
    image = read_image(folder / "2_002_2_07.png")
    assert image.shape == (19, 8, 3)  # column 7 of pair 2, see conftest.photo
    assert image[5, 5].tolist() == [35, 20, 80]  # BGR of red 40 x 2, green 10 x 2, blue 5 x 7
    assert image[0, 1].tolist() == [255, 255, 255]
    assert not (folder / "1_003_2_06.png").exists()  # an empty cell


def test_it_is_extracted_once_and_images_extracted_before_are_taken(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_split("cuhk03_labeled", root)
    assert "labeled images" in capsys.readouterr().err
    assert load_split("cuhk03_labeled", root) == first
    assert capsys.readouterr().err == ""
    (root / "cuhk03_release" / "images_labeled").rename(root / "images_labeled")
    assert load_split("cuhk03_labeled", root).train[0].path.parent == root / "images_labeled"


def test_a_test_set_asks_by_the_first_camera_and_answers_by_the_second(root: Path) -> None:
    split = load_split("cuhk03_detected", root, num_test_identities=2)
    assert (split.dataset, split.protocol.name) == ("cuhk03_detected", "single_shot")
    assert _ids(split.query) == _ids(split.gallery) == {1001, 2002}
    assert {record.camera_id for record in split.query} == {0}
    assert {record.camera_id for record in split.gallery} == {1}
    assert len(split.query) == 6
    assert _ids(split.train) == {1002, 1003, 2001, 3001, 4001, 5001}
    assert split.note == "6/2 identities, test set 0"


def test_the_seed_chooses_the_test_set(root: Path) -> None:
    split = load_split("cuhk03_detected", root, split_seed=1)
    assert _ids(split.query) == {1002, 5001}
    with pytest.raises(DataError, match="2 test sets; expected 0 to 1, found 2"):
        load_split("cuhk03_detected", root, split_seed=2)


def test_another_number_of_test_identities_than_the_sets_have_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="num_test_identities 2 or 0, found"):
        load_split("cuhk03_detected", root, num_test_identities=100)


def test_the_papers_own_protocol_is_three_pairs_without_a_hundred(
    write_cuhk03: Write, tmp_path: Path
) -> None:
    many = [(1, 1)] * 70
    write_cuhk03(tmp_path / "cuhk-03.mat", (many, many, [(1, 1)] * 20, [(1, 1)], [(1, 1)]))
    split = load_split("cuhk03_labeled", tmp_path, validation="apart")
    assert split.note == "59/100 for validation/1 identities, test set 0"
    assert {person // 1000 for person in _ids(split.train)} <= {1, 2, 3}
    assert load_split("cuhk03_labeled", tmp_path).note.startswith("161/1 identities")


def test_too_few_people_for_a_validation_part_is_one_line(root: Path) -> None:
    with pytest.raises(DataError, match=r"100 validation identities.* has 4"):
        load_split("cuhk03_detected", root, validation="apart")


def test_the_file_is_checked_against_the_published_counts(root: Path) -> None:
    found = inspect_dataset("cuhk03_labeled", root)
    assert found.subsets["all"].images == 27
    assert found.subsets["all"].published_images == 14_096
    assert found.single_camera == {"all": (1003,)}
    assert found.split == "6/2 identities, test set 0"


def _release(root: Path) -> Path:
    return root / "cuhk03_release" / "cuhk-03.mat"


def _no_hdf5(mat: Path) -> None:
    mat.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(2000))


def _cut(mat: Path) -> None:
    mat.write_bytes(mat.read_bytes()[:-3000])


def _no_images(mat: Path) -> None:
    with h5py.File(mat, "a") as file:
        del file["detected"]


def _plain_array(mat: Path) -> None:
    with h5py.File(mat, "a") as file:
        del file["detected"]
        file["detected"] = np.zeros((1, 5))


def _a_group(mat: Path) -> None:
    with h5py.File(mat, "a") as file:
        del file["detected"]
        file.create_group("detected")


def _one_image_of(shape: tuple[int, ...], kind: type[np.generic]) -> Callable[[Path], None]:
    def spoil(mat: Path) -> None:
        with h5py.File(mat, "a") as file:
            pair = file[file["detected"][0][0]]
            columns = pair[()]
            columns[0, 0] = file.create_dataset("x", shape, kind).ref
            pair[...] = columns

    return spoil


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_no_hdf5, "not CUHK03's HDF5 file, or damaged"),
        (_cut, "not CUHK03's HDF5 file, or damaged"),
        (_no_images, "not CUHK03's HDF5 file, or damaged"),
        (_plain_array, "not CUHK03's HDF5 file, or damaged"),
        (_a_group, "expected an array of at most 5 values"),
        (_one_image_of((3, 4, 5), np.float32), r"1_001_1_01.png: .*found float32 \(5, 4, 3\)"),
        (
            _one_image_of((4, 5, 3), np.uint8),
            r"expected uint8 \(H, W, 3\), found uint8 \(3, 5, 4\)",
        ),
        (_one_image_of((3, 90_000, 90_000), np.uint8), "at most 50,331,648 values"),
    ],
)
def test_another_file_or_a_damaged_one_is_one_line_and_leaves_nothing(
    root: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(_release(root))
    with pytest.raises(DataError, match=reason) as caught:
        extract(_release(root), "detected")
    assert "\n" not in str(caught.value)
    assert [path.name for path in _release(root).parent.iterdir()] == ["cuhk-03.mat"]


def test_missing_test_sets_are_said(write_cuhk03: Write, tmp_path: Path) -> None:
    write_cuhk03(tmp_path / "cuhk-03.mat", PEOPLE, None)
    with pytest.raises(DataError, match="testsets; expected CUHK03's 20 test sets"):
        load_split("cuhk03_labeled", tmp_path)


def test_a_test_set_of_impossible_people_is_one_line(write_cuhk03: Write, tmp_path: Path) -> None:
    mat = write_cuhk03(tmp_path / "cuhk-03.mat", PEOPLE, (((1, 1), (6, 1)),))
    with pytest.raises(DataError, match="camera pair outside 1-5"):
        read_test_sets(mat)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cuhk-03\.mat not found; expected cuhk-03\.mat"):
        load_split("cuhk03_labeled", tmp_path)
    with pytest.raises(DataError, match="gone: no such folder"):
        load_split("cuhk03_labeled", tmp_path / "gone")


def test_a_folder_that_cannot_be_written_is_one_line(root: Path) -> None:
    (_release(root).parent / "images_detected").write_bytes(b"a file in the way")
    with pytest.raises(OutputError, match=r"cannot write .*images_detected"):
        extract(_release(root), "detected")


def test_any_damaged_byte_is_read_or_refused_and_nothing_else(root: Path) -> None:
    data = _release(root).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 25):
        spoilt = bytearray(data)
        spoilt[place] ^= 0xFF
        _release(root).write_bytes(spoilt)
        with contextlib.suppress(DataError):
            read_test_sets(_release(root))


def test_without_h5py_it_says_what_to_install(root: Path) -> None:
    code = (
        "import sys; sys.modules['h5py'] = None\n"
        "from reid.cli import main\n"
        f"sys.exit(main(['data', 'check', 'cuhk03_labeled', '--data-root', {str(root)!r}]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cuhk-03.mat needs h5py, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cuhk-03.mat")
    with pytest.raises(DataError, match="it is not a regular file"):
        load_split("cuhk03_labeled", tmp_path)
