"""One query against many images in tiles: the answers of one run, whatever the threads and type."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reid.runtime.onnx_runner import OnnxRunner
from reid.runtime.tiles import AT_ONCE, LEAST, Tiles, compares_one_with_many
from reid.types import FloatArray
from tests.runtime.conftest import Comparison
from tests.runtime.test_onnx_runner import write_comparison, write_model


class Recorder:
    """Computes as ``Comparison`` does, and keeps what it was given."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, arrays: Mapping[str, FloatArray]) -> list[FloatArray]:
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
        self.sizes.append(len(arrays["gallery"]))
        self.threads.add(threading.get_ident())
        return [array.copy() for array in Comparison.expected(dict(arrays)).values()]


@pytest.mark.parametrize(
    ("threads", "count", "sizes"),
    [
        (1, 1, [1]),
        (1, AT_ONCE, [AT_ONCE]),
        (1, AT_ONCE + 1, [64, 65]),
        (2, 1, [1]),
        (2, 7, [3, 4]),
        (2, AT_ONCE, [64, 64]),
        (2, AT_ONCE + 1, [32, 32, 32, 33]),
        (3, 2, [1, 1]),
        (3, 66, [22, 22, 22]),
        (16, 16 * LEAST + 1, [8] * 31 + [9]),
    ],
)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_tiles_are_about_equal_and_each_thread_has_as_many(
    comparison: Comparison, threads: int, count: int, sizes: list[int], kind: type
) -> None:
    inputs = comparison.inputs(count)
    given = {name: array.astype(kind) for name, array in inputs.items()}
    wide = {name: array.astype(np.float32) for name, array in given.items()}
    recorder = Recorder()
    tiles = Tiles(recorder, comparison.manifest, threads)
    for _ in range(2):  # the second time in the memory of the first
        found = tiles.run(given)
        assert sorted(recorder.sizes) == sizes
        recorder.sizes.clear()
        for array, expected in zip(found, comparison.expected(wide).values(), strict=True):
            np.testing.assert_array_equal(array, expected)
    tiles.close()
    tiles.close()
    assert (threading.get_ident() in recorder.threads) == (threads == 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_tile_is_raised(comparison: Comparison, threads: int) -> None:
    def fail(arrays: Mapping[str, FloatArray]) -> list[FloatArray]:
        raise KeyError(len(arrays["gallery"]))

    with pytest.raises(KeyError):
        Tiles(fail, comparison.manifest, threads).run(comparison.inputs(9))


def test_onnx_runtime_compares_by_tiles_and_takes_float16(
    tmp_path: Path, comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid.runtime.tiles.AT_ONCE", 8)
    monkeypatch.setattr("reid.runtime.tiles.LEAST", 4)
    path = write_comparison(tmp_path / "compare.onnx", comparison.manifest)
    inputs = comparison.inputs(11)
    half = inputs | {"gallery": inputs["gallery"].astype(np.float16)}
    wide = inputs | {"gallery": half["gallery"].astype(np.float32)}
    with OnnxRunner(path, device="cpu", threads=2) as runner:
        assert (runner.cuts_batches, runner.takes_half) == (True, True)
        found = runner.run(half)
    for name, expected in comparison.expected(wide).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_a_graph_of_images_alone_is_not_cut(tmp_path: Path, comparison: Comparison) -> None:
    with OnnxRunner(write_model(tmp_path / "model.onnx"), device="cpu") as runner:
        assert (runner.cuts_batches, runner.takes_half) == (False, False)
        assert not compares_one_with_many(runner.manifest)
    assert compares_one_with_many(comparison.manifest)
