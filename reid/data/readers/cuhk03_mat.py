"""Read ``cuhk-03.mat``, a MATLAB v7.3 (HDF5) file with CUHK03's images.

``labeled`` and ``detected`` are cells of five camera pairs, each a cell of people by ten
images: five from the pair's first camera, five from its second. A cell is an array of HDF5
references. MATLAB's columns are HDF5's rows, so all arrays are transposed. A missing image is
stored as an array holding MATLAB's two zero sizes. ``testsets`` has 20 cells with rows of
(camera pair, person), counted from 1.

The images are written once to PNG files beside the .mat; everything else reads those files.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.errors import DataError
from reid.files import is_regular, staging_folder
from reid.packages import missing
from reid.progress import progress_bar, say
from reid.types import Image

KINDS = ("detected", "labeled")

_PAIRS, _IMAGES = 5, 10
_MAX_PEOPLE = 999
_MAX_SIDE = 4096


def person_number(pair: int, person: int) -> int:
    """Camera pair 1-5 and person 1-999 within it -> ``person_id``: (2, 17) -> 2017."""
    return 1000 * pair + person


def extract(mat: Path, kind: str) -> Path:
    """Write the images of ``kind`` to ``images_<kind>`` beside the file; return that folder.

    Names are ``P_III_V_NN.png``: camera pair, person, view 1 or 2, column 1-10. The folder
    appears once all images are written. Raises DataError if the file is not CUHK03's,
    OutputError if the folder cannot be written, MissingPackageError without h5py.
    """
    folder = mat.with_name(f"images_{kind}")
    say(f"{mat}: extracting its {kind} images to {folder} (first use only)")
    with (
        _opened(mat) as file,
        staging_folder(folder) as staging,
        progress_bar() as bar,
    ):
        cells = list(_cells(mat, file, kind))
        advance = bar.begin("extracting", len(cells))
        for name, reference in cells:
            image = _image(mat, file, reference, name)
            if image is not None:
                _, encoded = cv2.imencode(".png", image)
                (staging / name).write_bytes(encoded.tobytes())
            advance(1)
        if not folder.is_dir():  # another process may have finished first
            os.replace(staging, folder)
    return folder


def read_test_sets(mat: Path) -> tuple[frozenset[int], ...]:
    """The file's test sets, as sets of ``person_id``. Raises the same errors as ``extract``."""
    with _opened(mat) as file, _reading(mat):
        if "testsets" not in file:
            raise DataError(
                f"{mat}: no variable testsets; expected CUHK03's 20 test sets of 100 people; "
                "use the file from cuhk03_release.zip"
            )
        references = np.asarray(_dataset(file["testsets"], 100)).ravel()
        return tuple(_test_set(_dataset(file[one], 2 * _MAX_PEOPLE)) for one in references)


def _test_set(rows: Any) -> frozenset[int]:
    pairs, people = np.asarray(rows[()], np.float64)
    if not (np.isin(pairs, range(1, _PAIRS + 1)) & np.isin(people, range(1, 1000))).all():
        raise ValueError("a test set has a camera pair outside 1-5 or a person outside 1-999")
    return frozenset(
        person_number(int(pair), int(person)) for pair, person in zip(pairs, people, strict=True)
    )


def _cells(mat: Path, file: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """File name and HDF5 reference of every image cell, including empty ones."""
    with _reading(mat):
        pairs = np.asarray(_dataset(file[kind], _PAIRS)).ravel()
        for pair, one in enumerate(pairs, start=1):
            columns = np.asarray(_dataset(file[one], _IMAGES * _MAX_PEOPLE))
            if columns.ndim != 2 or len(columns) != _IMAGES:
                raise ValueError(
                    f"expected people x 10 images for a camera pair, found {columns.shape[::-1]}"
                )
            for person, images in enumerate(columns.T, start=1):
                for column, reference in enumerate(images, start=1):
                    view = 1 if column <= _IMAGES // 2 else 2
                    yield f"{pair}_{person:03d}_{view}_{column:02d}.png", reference


def _image(mat: Path, file: Any, reference: Any, name: str) -> Image | None:
    """One image as (H, W, 3) uint8 BGR, or None if MATLAB's cell is empty."""
    with _reading(mat):
        stored = _dataset(file[reference], 3 * _MAX_SIDE**2)
        if stored.ndim < 3 or stored.size == 0:
            return None
        if stored.ndim != 3 or stored.shape[0] != 3 or stored.dtype != np.uint8:
            raise ValueError(
                f"{name}: expected uint8 (H, W, 3), found {stored.dtype} {stored.shape[::-1]}"
            )
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
        if not is_regular(mat):  # HDF5 would wait for a pipe's writer
            raise ValueError("it is not a regular file")
        file = h5py.File(mat, "r")
    try:
        yield file
    finally:
        file.close()


@contextmanager
def _reading(mat: Path) -> Iterator[None]:
    """Turn HDF5's errors, and ours about the structure, into a one-line DataError."""
    try:
        yield
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{mat}: not CUHK03's HDF5 file, or damaged ({reason}); expected cuhk-03.mat from "
            "cuhk03_release.zip; unpack it again"
        ) from error
