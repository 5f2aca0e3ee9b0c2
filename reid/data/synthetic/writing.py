"""Synthetic pedestrians on disk, in Market-1501's layout.

Identities differ in clothes, colours, build, hair and bags; cameras differ in light, colour
cast, viewpoint, scale, background and occlusion. No real person is shown, so the images can be
published, and the whole toolkit can be tried without a dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reid.data.readers.market_layout import FOLDERS
from reid.data.synthetic.people import Appearance, random_appearance
from reid.data.synthetic.scene import Camera, make_cameras, photograph
from reid.errors import DataError, OutputError
from reid.files import staging_folder
from reid.progress import SILENT, Reporter
from reid.types import DISTRACTOR_ID, JUNK_ID, Image

# One number per use of the random generator: each image draws from (seed, use, ...) only, so
# it does not depend on how many other images are made.
_CAMERAS, _PERSON, _IMAGE, _DISTRACTOR, _JUNK = range(5)

_JUNK_BOX_ERROR = 6.0


@dataclass(frozen=True, slots=True)
class SyntheticCounts:
    """Counts of the written images. ``gallery_images`` includes distractors and junk."""

    train_identities: int
    test_identities: int
    cameras: int
    train_images: int
    query_images: int
    gallery_images: int
    distractors: int
    junk: int


@dataclass(frozen=True, slots=True)
class _Shot:
    """One image to draw: its subset, person, camera, and random stream."""

    subset: str
    person_id: int
    camera: int
    index: int
    stream: tuple[int, ...]

    @property
    def name(self) -> str:
        person = str(JUNK_ID) if self.person_id == JUNK_ID else f"{self.person_id:04d}"
        return f"{person}_c{self.camera + 1}s1_{self.index:06d}_00.jpg"


def write_synthetic(
    root: str | Path,
    *,
    num_train_identities: int = 60,
    num_test_identities: int = 24,
    cameras: int = 4,
    images_per_camera: int = 4,
    num_distractors: int = 24,
    num_junk: int = 12,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> SyntheticCounts:
    """Draw people and write 64x128 JPEGs to ``root`` in Market-1501's layout.

    The first image of each test (identity, camera) is a query; the rest form the gallery,
    with distractors (``0000``) and junk (``-1``). The same seed gives the same bytes.
    The folders appear once all images are written; an interrupted run leaves none.
    ``reporter`` counts the images. Raises DataError for counts too small or too
    large, OutputError if ``root`` already has these folders or cannot be written.
    """
    _check(num_train_identities, num_test_identities, cameras, images_per_camera)
    root = Path(root)
    taken = [name for name in FOLDERS.values() if (root / name).exists()]
    if taken:
        raise OutputError(f"{root} already contains {', '.join(taken)}; choose an empty folder")
    shots = [
        *_people(num_train_identities, num_test_identities, cameras, images_per_camera),
        *_no_identity(DISTRACTOR_ID, _DISTRACTOR, num_distractors, cameras),
        *_no_identity(JUNK_ID, _JUNK, num_junk, cameras),
    ]
    with staging_folder(root / "synthetic") as staging:
        _write_all(staging, shots, cameras, seed, reporter)
        for folder in reversed(FOLDERS.values()):
            os.replace(staging / folder, root / folder)
    written = [shot.subset for shot in shots]
    return SyntheticCounts(
        train_identities=num_train_identities,
        test_identities=num_test_identities,
        cameras=cameras,
        train_images=written.count("train"),
        query_images=written.count("query"),
        gallery_images=written.count("gallery"),
        distractors=num_distractors,
        junk=num_junk,
    )


def _check(train: int, test: int, cameras: int, images: int) -> None:
    for what, found, least in (
        ("training identities", train, 2),
        ("test identities", test, 1),
        ("cameras", cameras, 2),
        ("images per camera", images, 2),
    ):
        if found < least:
            raise DataError(f"synthetic data needs at least {least} {what}, found {found}")
    if train + test > 9999:
        raise DataError(
            "synthetic data has at most 9,999 identities (four digits in a file name), "
            f"found {train + test:,}"
        )


def _people(train: int, test: int, cameras: int, images: int) -> Iterator[_Shot]:
    for person in range(1, train + test + 1):
        for camera in range(cameras):
            for index in range(images):
                subset = "train" if person <= train else "gallery" if index else "query"
                yield _Shot(subset, person, camera, index, (_IMAGE, person, camera, index))


def _no_identity(person_id: int, purpose: int, number: int, cameras: int) -> Iterator[_Shot]:
    for index in range(number):
        yield _Shot("gallery", person_id, index % cameras, index, (purpose, index))


def _write_all(
    staging: Path,
    shots: list[_Shot],
    num_cameras: int,
    seed: int,
    reporter: Reporter,
) -> None:
    cameras = make_cameras(num_cameras, np.random.default_rng((seed, _CAMERAS)))
    for folder in FOLDERS.values():
        (staging / folder).mkdir(parents=True)
    advance = reporter.begin("drawing", len(shots))
    for shot in shots:
        image = _take(shot, cameras[shot.camera], seed)
        quality = [cv2.IMWRITE_JPEG_QUALITY, cameras[shot.camera].quality]
        _, encoded = cv2.imencode(".jpg", image, quality)
        (staging / FOLDERS[shot.subset] / shot.name).write_bytes(encoded.tobytes())
        advance(1)


def _take(shot: _Shot, camera: Camera, seed: int) -> Image:
    rng = np.random.default_rng((seed, *shot.stream))
    if shot.person_id == DISTRACTOR_ID:
        return photograph(camera, None, rng)
    if shot.person_id == JUNK_ID:  # a person cut off by a badly placed box
        return photograph(camera, random_appearance(rng), rng, _JUNK_BOX_ERROR)
    return photograph(camera, _appearance(shot.person_id, seed), rng)


def _appearance(person_id: int, seed: int) -> Appearance:
    return random_appearance(np.random.default_rng((seed, _PERSON, person_id)))
