"""``cuhk-03.mat``: a MATLAB v7.3 file, which is HDF5, that holds CUHK03's images.

``labeled`` and ``detected`` are cells of five camera pairs, each a cell of people by ten
images: five of the pair's first camera, five of its second. A cell is an array of HDF5
references; MATLAB's columns are HDF5's rows, so all arrays come out transposed. A missing
image is an array of MATLAB's two zero sizes. ``testsets`` has 20 cells of (camera pair,
person) rows, counted from 1.

The images are written to PNG files beside the .mat once: everything else reads files.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.errors import DataError, output_errors
from reid.packages import missing
from reid.progress import progress_bar, say
from reid.types import Image

KINDS = ("detected", "labeled")

_PAIRS, _IMAGES = 5, 10
_MAX_PEOPLE = 999
_MAX_SIDE = 4096


def person_number(pair: int, person: int) -> int:
    """Camera pair 1-5 and person 1-999 of it -> ``person_id``: (2, 17) -> 2017."""
    return 1000 * pair + person


def extract(mat: Path, kind: str) -> Path:
    """Write the ``kind`` of images to ``images_<kind>`` beside the file; return that folder.

    Names are ``P_III_V_NN.png``: camera pair, person, view 1 or 2, column 1-10. The folder
    appears when all are written. Raises DataError for a file that is not CUHK03's,
    OutputError where it cannot be written, MissingPackageError without h5py.
    """
    folder = mat.with_name(f"images_{kind}")
    staging = mat.with_name(f".images_{kind}.{os.getpid()}.part")
    say(f"{mat}: writing its {kind} images to {folder}, once")
    with _opened(mat) as file, output_errors(folder), progress_bar("extracting") as bar:
        try:
            staging.mkdir()
            cells = list(_cells(mat, file, kind))
            advance = bar.begin("extracting", len(cells))
            for name, reference in cells:
                image = _image(mat, file, reference, name)
                if image is not None:
                    _, encoded = cv2.imencode(".png", image)
                    (staging / name).write_bytes(encoded.tobytes())
                advance(1)
            if not folder.is_dir():  # another process may have been as quick
                os.replace(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def read_test_sets(mat: Path) -> tuple[frozenset[int], ...]:
    """The shipped test sets, as ``person_id``s. Raises what ``extract`` raises."""
    with _opened(mat) as file, _reading(mat):
        if "testsets" not in file:
            raise DataError(
                f"{mat}: no testsets in it; expected CUHK03's 20 test sets of 100 people; "
                "take the file from cuhk03_release.zip"
            )
        references = np.asarray(_dataset(file["testsets"], 100)).ravel()
        return tuple(_test_set(_dataset(file[one], 2 * _MAX_PEOPLE)) for one in references)


def _test_set(rows: Any) -> frozenset[int]:
    pairs, people = np.asarray(rows[()], np.float64)
    if not (np.isin(pairs, range(1, _PAIRS + 1)) & np.isin(people, range(1, 1000))).all():
        raise ValueError("a test set names camera pairs beyond 1-5 or people beyond 1-999")
    return frozenset(
        person_number(int(pair), int(person)) for pair, person in zip(pairs, people, strict=True)
    )


def _cells(mat: Path, file: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """File name and reference of every place for an image, empty ones included."""
    with _reading(mat):
        pairs = np.asarray(_dataset(file[kind], _PAIRS)).ravel()
        for pair, one in enumerate(pairs, start=1):
            columns = np.asarray(_dataset(file[one], _IMAGES * _MAX_PEOPLE))
            if columns.ndim != 2 or len(columns) != _IMAGES:
                raise ValueError(
                    f"a camera pair is people x 10 images, found {columns.shape[::-1]}"
                )
            for person, images in enumerate(columns.T, start=1):
                for column, reference in enumerate(images, start=1):
                    view = 1 if column <= _IMAGES // 2 else 2
                    yield f"{pair}_{person:03d}_{view}_{column:02d}.png", reference


def _image(mat: Path, file: Any, reference: Any, name: str) -> Image | None:
    """One image as BGR, or None where MATLAB's cell is empty."""
    with _reading(mat):
        stored = _dataset(file[reference], 3 * _MAX_SIDE**2)
        if stored.ndim < 3 or stored.size == 0:
            return None
        if stored.ndim != 3 or stored.shape[0] != 3 or stored.dtype != np.uint8:
            raise ValueError(f"{name} is {stored.dtype} {stored.shape[::-1]}, not uint8 (H, W, 3)")
        return np.ascontiguousarray(stored[()].T[:, :, ::-1])


def _dataset(found: Any, most: int) -> Any:
    """Check an array's size before it is read."""
    if not hasattr(found, "shape") or found.size > most:
        raise ValueError(f"expected an array of at most {most:,} values, found {found}")
    return found


@contextmanager
def _opened(mat: Path) -> Iterator[Any]:
    try:
        h5py = importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise missing("h5py", mat.name) from error
    with _reading(mat):
        file = h5py.File(mat, "r")
    try:
        yield file
    finally:
        file.close()


@contextmanager
def _reading(mat: Path) -> Iterator[None]:
    """HDF5's complaints, and ours about the structure, as one line of DataError."""
    try:
        yield
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{mat}: not CUHK03's HDF5 file, or damaged ({reason}); expected cuhk-03.mat of "
            "cuhk03_release.zip; unpack it again"
        ) from error
