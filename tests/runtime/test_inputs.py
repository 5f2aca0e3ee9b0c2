"""What every runner checks before its backend sees an array."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reid.errors import ModelFileError
from reid.runtime.inputs import batch_size, checked_inputs, empty_outputs
from reid.types import ArraySpec


def test_arrays_come_back_in_the_manifests_order_and_contiguous(comparison):
    inputs = comparison.inputs(6)
    inputs["gallery"] = inputs["gallery"].swapaxes(1, 2).copy().swapaxes(1, 2)
    assert list(inputs) == ["weight", "gallery", "query"]
    arrays = checked_inputs(inputs, comparison.manifest)
    assert list(arrays) == ["query", "gallery", "weight"]
    for name, array in arrays.items():
        assert array.flags.c_contiguous
        assert np.array_equal(array, inputs[name])
    assert batch_size(arrays, comparison.manifest) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": None}, r"query \(1, 2, 3\), gallery \(N, 2, 3\), weight \(N\); found: "),
        ({"more": np.zeros((5, 1), np.float32)}, "found: .*'more'"),
        ({"gallery": np.zeros((5, 3, 2), np.float32)}, r"takes gallery \(N, 2, 3\), found .*5, 3"),
        ({"gallery": np.zeros((5, 2), np.float32)}, r"takes gallery \(N, 2, 3\), found .*5, 2"),
        ({"gallery": np.zeros((5, 2, 3))}, "'gallery' must be a float32 array, found float64"),
        ({"weight": np.float32(1)}, "'weight' must be a float32 array, found float32"),
        ({"weight": np.zeros((), np.float32)}, r"takes weight \(N\), found shape \(\)"),
        ({"query": np.zeros((2, 2, 3), np.float32)}, r"takes query \(1, 2, 3\), found .*2, 2, 3"),
        ({"query": np.zeros((0, 2, 3), np.float32)}, r"takes query \(1, 2, 3\), found .*0, 2, 3"),
        ({"weight": np.zeros(4, np.float32)}, "batch size, found {'gallery': 5, 'weight': 4}"),
        ({"weight": np.zeros(0, np.float32)}, "batch size, found {'gallery': 5, 'weight': 0}"),
    ],
)
def test_a_wrong_array_among_several_says_what_was_expected(comparison, changes, message):
    inputs = {**comparison.inputs(5), **changes}
    given = {name: array for name, array in inputs.items() if array is not None}
    with pytest.raises(ModelFileError, match=message) as caught:
        checked_inputs(given, comparison.manifest)
    assert "\n" not in str(caught.value)


def test_a_graph_without_a_batched_input_runs_once(comparison):
    spec = ArraySpec("query", (2, 3), batched=False)
    manifest = dataclasses.replace(comparison.manifest, inputs=(spec,))
    arrays = checked_inputs({"query": comparison.inputs(1)["query"]}, manifest)
    assert batch_size(arrays, manifest) == 1


def test_no_images_give_every_output_without_rows(comparison):
    outputs = empty_outputs(comparison.manifest)
    assert {name: array.shape for name, array in outputs.items()} == {
        "score": (0, 1),
        "product": (0, 2, 3),
    }
    assert {array.dtype for array in outputs.values()} == {np.dtype(np.float32)}
