"""Checking a runner's inputs by name, type and shape before they reach the backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from reid.errors import ModelFileError
from reid.model_file.manifest import Manifest
from reid.types import ArraySpec, FloatArray


def checked_inputs(
    inputs: Mapping[str, FloatArray], manifest: Manifest, half: bool = False
) -> dict[str, FloatArray]:
    """The manifest's inputs in its order, contiguous float32 (with ``half`` also float16).

    Raises ModelFileError for another name, type or shape, or batches of different sizes, and says
    what was expected.
    """
    specs = manifest.input_arrays
    if set(inputs) != {spec.name for spec in specs}:
        given = ", ".join(repr(key) for key in inputs) or "none"
        raise ModelFileError(
            f"expected the inputs {', '.join(spec.words() for spec in specs)}; found: {given}"
        )
    arrays = {spec.name: _checked(inputs[spec.name], spec, half) for spec in specs}
    sizes = {spec.name: len(arrays[spec.name]) for spec in specs if spec.batched}
    if len(set(sizes.values())) > 1:
        raise ModelFileError(f"the inputs must have the same batch size, found {sizes}")
    return arrays


def batch_size(arrays: Mapping[str, FloatArray], manifest: Manifest) -> int:
    """The N of checked inputs; 1 for a graph without a batched input."""
    sizes = [len(arrays[spec.name]) for spec in manifest.input_arrays if spec.batched]
    return sizes[0] if sizes else 1


def padded_inputs(
    arrays: Mapping[str, FloatArray], manifest: Manifest, sizes: Sequence[int]
) -> dict[str, FloatArray]:
    """Checked inputs with rows of zeros up to the next of ascending ``sizes``; a batch above all of
    them stays as it is."""
    count = batch_size(arrays, manifest)
    size = next((size for size in sizes if size >= count), count)
    batched = {spec.name for spec in manifest.input_arrays if spec.batched}
    return {
        name: _with_zeros(array, size - count) if name in batched else array
        for name, array in arrays.items()
    }


def batches_of(
    arrays: Mapping[str, FloatArray], manifest: Manifest, size: int
) -> Iterator[dict[str, FloatArray]]:
    """Checked inputs in batches of exactly ``size`` images, the last with rows of zeros."""
    batched = {spec.name for spec in manifest.input_arrays if spec.batched}
    for start in range(0, batch_size(arrays, manifest), size):
        part = {
            name: array[start : start + size] if name in batched else array
            for name, array in arrays.items()
        }
        yield padded_inputs(part, manifest, (size,))


def _with_zeros(array: FloatArray, more: int) -> FloatArray:
    if not more:
        return array
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)])


def empty_outputs(manifest: Manifest) -> dict[str, FloatArray]:
    """The outputs for an empty batch."""
    return {spec.name: np.zeros((0, *spec.shape), np.float32) for spec in manifest.output_arrays}


def _checked(array: FloatArray, spec: ArraySpec, half: bool) -> FloatArray:
    kinds = (np.float32, np.float16) if half else (np.float32,)
    if not isinstance(array, np.ndarray) or array.dtype not in kinds:
        found = getattr(array, "dtype", type(array).__name__)
        raise ModelFileError(f"input {spec.name!r} must be a float32 array, found {found}")
    fits = array.ndim == len(spec.shape) + 1 and array.shape[1:] == spec.shape
    if not fits or not (spec.batched or len(array) == 1):
        raise ModelFileError(f"the model takes {spec.words()}, found shape {array.shape}")
    return np.ascontiguousarray(array)
