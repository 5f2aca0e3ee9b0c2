"""VectorMatcher on a runner made of numpy: order, batches, preprocessing, normalisation."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import reid.matching
from reid.errors import ConfigError, DataError, ModelFileError
from reid.matching import Matcher, VectorMatcher, open_matcher, unit_vectors
from reid.model_file.manifest import BatchProfile, EngineInfo, Manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import FloatArray, Image

MANIFEST = Manifest(
    network="fake",
    stage="embed",
    preprocess=Preprocess(20, 8, 16, 6),
    output_dim=5,
    normalised=False,
)


LARGE_ENGINE = EngineInfo(
    *("sm90", "11.4.0", "tensorrt", 1, 8, 32), more_profiles=(BatchProfile(33, 128, 256),)
)


class ProjectionRunner(Runner):
    """Projects the pixels on fixed random directions: a network that is one product."""

    backend = "numpy"

    def __init__(self, manifest: Manifest = MANIFEST) -> None:
        self.manifest = manifest
        size = int(np.prod(manifest.preprocess.input_shape))
        rng = np.random.default_rng(0)
        self.directions = rng.standard_normal((size, manifest.output_dim)).astype(np.float32)
        self.batches: list[int] = []

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        (images,) = inputs.values()
        self.batches.append(len(images))
        return {"embedding": images.reshape(len(images), -1) @ self.directions}

    def close(self) -> None:
        """Nothing to release."""


def some_images(num: int) -> list[Image]:
    rng = np.random.default_rng(num)
    shapes = [(int(rng.integers(10, 40)), int(rng.integers(5, 20)), 3) for _ in range(num)]
    return [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]


def test_descriptions_are_the_runner_s_unit_vectors_in_the_order_of_the_images() -> None:
    runner = ProjectionRunner()
    images = some_images(11)
    found = VectorMatcher(runner, batch_size=4).describe(images)
    assert found.shape == (11, 5)
    assert found.dtype == np.float32
    for image, vector in zip(images, found, strict=True):
        expected = MANIFEST.preprocess(image).reshape(-1) @ runner.directions
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("engine", "asked", "batches"),
    [
        (None, None, [64, 64, 64, 64, 44]),
        (EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32), None, [64, 64, 64, 64, 44]),
        (LARGE_ENGINE, None, [256, 44]),
        (dataclasses.replace(LARGE_ENGINE, max_batch=1024), None, [256, 44]),
        (LARGE_ENGINE, 200, [200, 100]),
    ],
)
def test_an_engine_for_large_batches_gets_large_batches(
    engine: EngineInfo | None, asked: int | None, batches: list[int]
) -> None:
    runner = ProjectionRunner(dataclasses.replace(MANIFEST, engine=engine))
    image = some_images(1)[0]
    assert len(VectorMatcher(runner, asked).describe(itertools.repeat(image, 300))) == 300
    assert runner.batches == batches


def test_batches_are_full_but_for_the_last_and_progress_adds_up() -> None:
    runner, done = ProjectionRunner(), list[int]()
    VectorMatcher(runner, batch_size=4).describe(iter(some_images(11)), done.append)
    assert runner.batches == [4, 4, 3]
    assert done == [4, 4, 3]


def test_no_images_give_no_vectors_and_no_run() -> None:
    runner = ProjectionRunner()
    assert VectorMatcher(runner).describe([]).shape == (0, 5)
    assert runner.batches == []


def test_vectors_that_the_manifest_calls_normalised_are_left_as_they_are() -> None:
    normalised = dataclasses.replace(MANIFEST, normalised=True)
    runner = ProjectionRunner(normalised)
    (image,) = some_images(1)
    expected = MANIFEST.preprocess(image).reshape(-1) @ runner.directions
    found = VectorMatcher(runner).describe([image])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_the_manifest_s_input_name_is_used() -> None:
    class PickyRunner(ProjectionRunner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            assert list(inputs) == ["crops"]
            return super().run(inputs)

    manifest = dataclasses.replace(MANIFEST, input_name="crops")
    assert VectorMatcher(PickyRunner(manifest)).describe(some_images(2)).shape == (2, 5)


def test_an_output_that_the_model_does_not_have_is_refused() -> None:
    manifest = dataclasses.replace(MANIFEST, output_name="fc7")
    with pytest.raises(ModelFileError, match=r"'fc7'.*embedding"):
        VectorMatcher(ProjectionRunner(manifest)).describe(some_images(1))


def test_an_output_of_another_size_is_refused() -> None:
    runner = ProjectionRunner()
    runner.manifest = dataclasses.replace(MANIFEST, output_dim=256)
    with pytest.raises(ModelFileError, match=r"\(1, 256\).*\(1, 5\)"):
        VectorMatcher(runner).describe(some_images(1))


def test_the_next_batch_is_read_while_the_network_runs() -> None:
    first_of_second_batch_read = threading.Event()

    def images() -> Iterator[Image]:
        for i, image in enumerate(some_images(4)):
            if i == 2:
                first_of_second_batch_read.set()
            yield image

    class WaitingRunner(ProjectionRunner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            assert first_of_second_batch_read.wait(timeout=10)
            return super().run(inputs)

    assert VectorMatcher(WaitingRunner(), batch_size=2).describe(images()).shape == (4, 5)


def test_an_error_while_reading_reaches_the_caller() -> None:
    def images() -> Iterator[Image]:
        yield from some_images(3)
        raise DataError("b.jpg: cut short")

    with pytest.raises(DataError, match=r"b\.jpg"):
        VectorMatcher(ProjectionRunner(), batch_size=2).describe(images())


def test_distances_between_descriptions_are_euclidean() -> None:
    matcher: Matcher[FloatArray] = VectorMatcher(ProjectionRunner())
    vectors = matcher.describe(some_images(6))
    distances = matcher.tiles(vectors[:4], vectors)
    for rows in (slice(0, 4), slice(1, 3)):
        expected = [[float(np.linalg.norm(a - b)) for b in vectors] for a in vectors[rows]]
        np.testing.assert_allclose(distances(rows), expected, atol=1e-3)


def test_a_vector_is_finite_where_every_entry_is() -> None:
    vectors = np.ones((4, 3), np.float32)
    vectors[1, 2], vectors[3, 0] = np.nan, -np.inf
    found = VectorMatcher(ProjectionRunner()).finite(vectors)
    assert found.dtype == np.bool_
    assert found.tolist() == [True, False, True, False]


def test_vectors_are_compared_without_waiting() -> None:
    matcher = VectorMatcher(ProjectionRunner())
    vectors = np.zeros((9, 5), np.float32)
    assert matcher.seconds(vectors, vectors) == matcher.seconds(vectors, vectors, best=3) == 0


def test_vectors_have_no_shortlist() -> None:
    vectors = np.ones((4, 5), np.float32)
    with pytest.raises(ConfigError, match=r"shortlist .*found 3"):
        VectorMatcher(ProjectionRunner()).tiles(vectors, vectors, best=3)


def test_the_matcher_names_the_runner_s_backend_and_closes_it() -> None:
    class ClosingRunner(ProjectionRunner):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    runner = ClosingRunner()
    matcher = VectorMatcher(runner)
    assert matcher.backend == "numpy"
    assert runner.closed == 0
    matcher.close()
    assert runner.closed == 1


def test_a_model_file_is_opened_with_the_device_and_threads_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Path, str, int]] = []
    runner = ProjectionRunner()

    def opened(path: Path, device: str, threads: int) -> dict[str, Runner]:
        asked.append((path, device, threads))
        return {"embed": runner}

    monkeypatch.setattr(reid.matching, "open_runners", opened)
    matcher = open_matcher(Path("model.onnx"), "cpu", 3, batch_size=2)
    assert asked == [(Path("model.onnx"), "cpu", 3)]
    matcher.describe(some_images(3))
    assert runner.batches == [2, 1]


def test_a_model_of_vectors_describes_64_images_at_once_unless_another_number_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = ProjectionRunner()
    monkeypatch.setattr(reid.matching, "open_runners", lambda *_: {"embed": runner})
    open_matcher(Path("model.onnx")).describe(some_images(65))
    assert runner.batches == [64, 1]


def test_a_row_of_zeros_stays_zero_when_normalised() -> None:
    found = unit_vectors(np.array([[0, 0], [3, 4]], np.float32))
    np.testing.assert_allclose(found, [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_a_batch_of_no_images_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        VectorMatcher(ProjectionRunner(), batch_size=0)


def test_a_few_images_are_described_without_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_threads(count: int) -> None:
        raise AssertionError("a thread for each call: its memory in OpenCV never comes back")

    monkeypatch.setattr("reid.matching.matcher.ThreadPoolExecutor", no_threads)
    matcher = VectorMatcher(ProjectionRunner(), batch_size=4)
    assert len(matcher.describe(some_images(3))) == 3
    assert len(matcher.describe([])) == 0
    with pytest.raises(AssertionError, match="a thread for each call"):
        matcher.describe(some_images(4))
