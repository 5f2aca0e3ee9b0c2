"""Files as datasets come in: pictures, and MATLAB's two formats, built byte by byte."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt
import pytest

Mat5 = Callable[[Path, Mapping[str, "Sequence[str] | Sequence[int]"]], Path]
Pictures = Callable[[Path, Iterable[str]], Path]
Cuhk03 = Callable[..., Path]
People = Sequence[Sequence[int]]


def picture(shade: int) -> bytes:
    """A PNG of one grey: another shade is another file."""
    return cv2.imencode(".png", np.full((8, 4, 3), shade % 256, np.uint8))[1].tobytes()


@pytest.fixture
def write_pictures() -> Pictures:
    """Writes a picture, each of its own, at every relative name below a folder."""

    def write(root: Path, names: Iterable[str]) -> Path:
        for shade, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(picture(shade))
        return root

    return write


def _element(kind: int, payload: bytes) -> bytes:
    if 0 < len(payload) <= 4:  # the small form: size and value in one tag
        return struct.pack("<HH", kind, len(payload)) + payload.ljust(4, b"\0")
    return struct.pack("<II", kind, len(payload)) + payload + b"\0" * (-len(payload) % 8)


def _matrix(what: int, sizes: tuple[int, int], name: str, values: bytes) -> bytes:
    flags = _element(6, struct.pack("<II", what, 0))
    shape = _element(5, struct.pack("<ii", *sizes))
    return _element(14, flags + shape + _element(1, name.encode()) + values)


@pytest.fixture
def write_mat5() -> Mat5:
    """Writes a MATLAB 5 file as MATLAB does: zlib, uint16 text, doubles kept as small integers."""

    def write(path: Path, arrays: Mapping[str, Sequence[str] | Sequence[int]]) -> Path:
        data = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
        for name, values in arrays.items():
            if values and isinstance(values[0], str):
                texts = (
                    _matrix(4, (1, len(str(text))), "", _element(4, str(text).encode("utf-16-le")))
                    for text in values
                )
                array = _matrix(1, (len(values), 1), name, b"".join(texts))
            else:
                numbers = np.array(values, "<u2").tobytes()
                array = _matrix(6, (1, len(values)), name, _element(4, numbers))
            packed = zlib.compress(array)
            data += struct.pack("<II", 15, len(packed)) + packed
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


def photo(pair: int, person: int, column: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB as MATLAB sees it; its three channels and sizes differ."""
    image = np.zeros((12 + column, 6 + pair, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 40 * pair, 10 * person % 256, 5 * column
    image[0, 1] = 255  # a pixel that shows whether rows and columns were exchanged
    return image


@pytest.fixture
def write_cuhk03() -> Cuhk03:
    """Writes a MATLAB v7.3 file of CUHK03's structure.

    ``people`` are, for each of five camera pairs and each person, how many images the first
    and the second camera have; ``test_sets`` are lists of (pair, person).
    """

    def write(
        path: Path,
        people: Sequence[Sequence[tuple[int, int]]],
        test_sets: Sequence[Sequence[tuple[int, int]]] | None = (((1, 1),),),
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w", userblock_size=512) as file:
            for kind in ("detected", "labeled"):
                pairs = [
                    _cell(file, _people_of(file, pair, counts))
                    for pair, counts in enumerate(people, start=1)
                ]
                file[kind] = _references([pairs]).T.reshape(1, -1)
            if test_sets is not None:
                sets = [_put(file, np.array(one, np.float64).T) for one in test_sets]
                file["testsets"] = _references([sets])
        return path

    return write


def _people_of(
    file: h5py.File, pair: int, counts: Sequence[tuple[int, int]]
) -> list[list[h5py.Reference]]:
    """Rows of ten references; what is no image is MATLAB's empty array."""
    rows = []
    for person, (first, second) in enumerate(counts, start=1):
        there = [column <= (first if column <= 5 else 5 + second) for column in range(1, 11)]
        rows.append(
            [
                _put(file, photo(pair, person, column).T if here else np.zeros(2, np.uint64))
                for column, here in enumerate(there, start=1)
            ]
        )
    return rows


def _cell(file: h5py.File, rows: list[list[h5py.Reference]]) -> h5py.Reference:
    return _put(file, _references(rows).T)


def _references(rows: Sequence[Sequence[h5py.Reference]]) -> npt.NDArray[np.object_]:
    array = np.empty((len(rows), len(rows[0])), h5py.ref_dtype)
    for place in np.ndindex(*array.shape):
        array[place] = rows[place[0]][place[1]]
    return array


def _put(file: h5py.File, array: npt.NDArray[np.generic]) -> h5py.Reference:
    group = file.require_group("#refs#")
    dataset = group.create_dataset(str(len(group)), data=array)
    if array.dtype == np.uint64:
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    return dataset.ref
