"""Mirror averaging by the matcher: against a literal loop, and never mixed with plain vectors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reid.errors import ConfigError, ModelFileError
from reid.matching import PairMatcher, VectorMatcher
from reid.matching.describing import mirrored
from reid.matching.files import EARLIER, load_descriptions, save_descriptions
from reid.matching.matcher import model_differences
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.types import FloatArray, Image, ImageRecord
from tests.matching.test_vectors import MANIFEST, ProjectionRunner, some_images
from tests.model_file.test_thresholds import THRESHOLDS

ODD = Preprocess(20, 9, 16, 6, "RGB", (100.0, 101.0, 99.0), (58.0, 57.0, 56.0))
"""Three columns more than the crop: one on the left, two on the right."""


def unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector))


def literal(runner: ProjectionRunner, preprocess: Preprocess, images: list[Image]) -> FloatArray:
    """One image after the other: its crop, the crop from right to left, and the mean."""
    vectors = []
    for image in images:
        crop = preprocess(image)
        flipped = np.stack([[row[::-1] for row in plane] for plane in crop])
        both = [unit(form.reshape(-1) @ runner.directions) for form in (crop, flipped)]
        vectors.append(unit((both[0] + both[1]) / 2))
    return np.stack(vectors)


@pytest.mark.parametrize("preprocess", [MANIFEST.preprocess, ODD], ids=["even", "odd"])
def test_a_vector_is_the_mean_of_both_forms_of_length_one(preprocess: Preprocess) -> None:
    runner = ProjectionRunner(dataclasses.replace(MANIFEST, preprocess=preprocess))
    images = some_images(11)
    plain = VectorMatcher(runner, batch_size=4)
    found = plain.mirroring().describe(images)
    np.testing.assert_allclose(found, literal(runner, preprocess, images), atol=1e-5)
    assert np.abs(found - plain.describe(images)).max() > 0.05
    assert found.dtype == np.float32


def test_an_image_and_its_mirror_image_have_the_same_vector() -> None:
    matcher = VectorMatcher(ProjectionRunner(), mirror=True)
    (image,) = some_images(1)
    one, other = matcher.describe([image, np.ascontiguousarray(image[:, ::-1])])
    np.testing.assert_allclose(one, other, atol=1e-5)


class PixelsRunner(ProjectionRunner):
    """Cuts the crop out and normalises it itself, as a file of `reid export --pixels`."""

    def __init__(self) -> None:
        super().__init__(dataclasses.replace(MANIFEST, preprocess=ODD))
        self.manifest = dataclasses.replace(MANIFEST, preprocess=ODD.resize_only(), inside=ODD)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        (pixels,) = inputs.values()
        top, left = ODD.crop_corner
        crops = pixels[:, :, top : top + ODD.crop_height, left : left + ODD.crop_width]
        mean, std = (np.array(x, np.float32).reshape(3, 1, 1) for x in (ODD.mean, ODD.std))
        return super().run({"data": np.ascontiguousarray((crops - mean) / std)})


def test_a_graph_that_cuts_the_crop_out_itself_gets_that_crop_mirrored() -> None:
    runner, images = PixelsRunner(), some_images(5)
    found = VectorMatcher(runner, mirror=True).describe(images)
    np.testing.assert_allclose(found, literal(runner, ODD, images), atol=1e-5)


def test_a_graph_that_mirrors_itself_is_run_once_and_says_so() -> None:
    runner = ProjectionRunner(dataclasses.replace(MANIFEST, mirrored=True))
    said: list[str] = []
    opened = VectorMatcher(runner)
    matcher = mirrored(opened, Path("net.mirror.onnx"), said.append)
    assert matcher is opened
    assert "net.mirror.onnx averages the mirror image inside its graph" in said[0]
    images = some_images(3)
    expected = VectorMatcher(ProjectionRunner()).describe(images)
    assert np.array_equal(VectorMatcher(runner, mirror=True).describe(images), expected)
    assert runner.batches == [3]


def test_mirroring_twice_is_mirroring_once() -> None:
    matcher = VectorMatcher(ProjectionRunner(), 7, mirror=True)
    assert matcher.mirroring() is matcher


def test_a_network_that_compares_pairs_is_refused(matcher: PairMatcher) -> None:
    with pytest.raises(ConfigError, match="compares pairs"):
        matcher.mirroring()


def test_thresholds_of_single_images_do_not_hold_for_means(manifest: Manifest) -> None:
    runner = ProjectionRunner(manifest)
    assert VectorMatcher(runner).manifest.thresholds is not None
    assert VectorMatcher(runner, mirror=True).manifest.thresholds is None
    inside = ProjectionRunner(dataclasses.replace(manifest, mirrored=True))
    assert VectorMatcher(inside, mirror=True).manifest.thresholds is not None


@pytest.fixture
def manifest() -> Manifest:
    """With thresholds, as `reid threshold` writes them."""
    return dataclasses.replace(MANIFEST, thresholds=THRESHOLDS)


def records(count: int) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{number}.jpg"), number, 0) for number in range(count)]


def test_the_identity_tells_them_apart_and_is_the_same_inside_and_outside_the_graph() -> None:
    plain = VectorMatcher(ProjectionRunner())
    outside = plain.mirroring()
    inside = VectorMatcher(ProjectionRunner(dataclasses.replace(MANIFEST, mirrored=True)))
    assert outside.identity == inside.identity != plain.identity
    assert "mirrored" not in plain.identity  # as galleries of earlier versions have it
    words = model_differences(plain.identity, outside.identity)
    assert words == "mirrored no (this model: yes)"
    assert model_differences(outside.identity, plain.identity) == "mirrored yes (this model: no)"


@pytest.mark.parametrize("mirror", [False, True])
def test_files_of_the_other_kind_are_refused(tmp_path: Path, mirror: bool) -> None:
    one, other = (VectorMatcher(ProjectionRunner(), mirror=kind) for kind in (mirror, not mirror))
    path = tmp_path / "gallery.safetensors"
    save_descriptions(path, one, one.describe(some_images(3)), records(3))
    assert np.array_equal(load_descriptions(path, one).descriptions, one.describe(some_images(3)))
    with pytest.raises(ModelFileError, match=r"mirrored (yes|no) \(this model: (yes|no)\)"):
        load_descriptions(path, other)


def test_a_file_of_an_earlier_version_is_not_mirrored(tmp_path: Path) -> None:
    plain = VectorMatcher(ProjectionRunner())
    vectors = plain.describe(some_images(2))
    save_descriptions(tmp_path / "new.safetensors", plain, vectors, records(2))
    path, ids = tmp_path / "old.safetensors", np.arange(2)
    arrays = {**load_file(tmp_path / "new.safetensors"), "person_ids": ids, "camera_ids": ids}
    identity = {key: value for key, value in plain.identity.items() if key != "mirrored"}
    texts = {"format": EARLIER[0], "model": json.dumps(identity), "names": '["0.jpg", "1.jpg"]'}
    save_file(arrays, path, metadata=texts)
    assert np.array_equal(load_descriptions(path, plain).descriptions, vectors)
    with pytest.raises(ModelFileError, match="mirrored no"):
        load_descriptions(path, plain.mirroring())
