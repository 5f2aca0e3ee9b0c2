"""An 8-bit graph (Q/DQ) in OpenVINO: whether its 8-bit kernels give the graph's own answers.

Two things make them give others. Without VNNI or AMX the sums of two products saturate in 16 bits.
And OpenVINO 2024.6 to 2026.4 compute a concatenation in signed 8 bits wrongly: MSP-CNN's
vectors then have a cosine of 0.73 with the true ones (0.9999 with uint8 activations). The same
graph can be computed in floating point with its rounding kept. That is what is taken there, and
where a comparison of both shows anything else: the graph's answers, as fast as an FP32 file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reid.model_file.manifest import Manifest
from reid.runtime.cpu_flags import has_int8_instructions
from reid.runtime.openvino_library import OV_ERRORS
from reid.types import FloatArray, Image

IN_FLOAT: Mapping[str, Any] = {"LP_TRANSFORMS_MODE": False}
"""The CPU's setting that leaves Q/DQ pairs as rounding in floating point."""

LOWEST_COSINE = 0.98
"""Of an output's rows by 8-bit kernels with those in floating point, on drawn patches. MSP-CNN has
0.9999 and OSNet x0.25 0.993, and 0.92 where kernels are wrong (``tests/benchmarks``)."""

_IMAGES = 4


def why_in_float(
    model: Any, manifest: Manifest, compiled: Callable[[Mapping[str, Any]], Any]
) -> str:
    """Why the 8-bit graph must be computed in floating point; empty if its 8-bit kernels are right.

    ``compiled`` compiles it with further settings. Both forms are run on a few drawn images.
    """
    if has_int8_instructions() is False:
        return "this CPU has no VNNI or AMX"
    if _joins_signed(model):
        return (
            "OpenVINO computes concatenations of signed 8-bit arrays wrongly; a file with uint8 "
            "activations is faster"
        )
    arrays = _probe(manifest)
    try:
        forms = [_outputs(compiled(settings), arrays) for settings in ({}, IN_FLOAT)]
        lowest = min(map(_lowest_cosine, *forms))
    except OV_ERRORS:
        return ""  # whatever is wrong shows where the graph is run
    if lowest >= LOWEST_COSINE:
        return ""
    return f"OpenVINO's 8-bit kernels give other answers, lowest row cosine {lowest:.2f}"


def _joins_signed(model: Any) -> bool:
    """Whether an ONNX graph concatenates floats and quantises floats to signed 8 bits."""
    found = {
        (one.get_type_name(), one.get_output_element_type(0).get_type_name())
        for one in model.get_ops()
        if one.get_output_size()
    }
    return {("Concat", "f32"), ("Convert", "i8")} <= found


def _outputs(compiled: Any, arrays: Mapping[str, FloatArray]) -> list[FloatArray]:
    found = compiled.create_infer_request().infer(dict(arrays))
    return [np.array(found[index]) for index in range(len(compiled.outputs))]


def _probe(manifest: Manifest) -> dict[str, FloatArray]:
    """Images of coloured patches as the graph's images, and noise for arrays of other kinds."""
    rng = np.random.default_rng(0)
    count = manifest.static_batch or _IMAGES
    found: dict[str, FloatArray] = {}
    for spec in manifest.input_arrays:
        if spec.batched and spec.shape == manifest.preprocess.input_shape:
            found[spec.name] = manifest.preprocess.batch([_patches(rng) for _ in range(count)])
        else:
            size = (count if spec.batched else 1, *spec.shape)
            found[spec.name] = np.abs(rng.normal(size=size)).astype(np.float32)
    return found


def _patches(rng: np.random.Generator) -> Image:
    return np.kron(rng.integers(0, 256, (8, 4, 3)), np.ones((20, 20, 1))).astype(np.uint8)


def _lowest_cosine(one: FloatArray, other: FloatArray) -> float:
    """Of corresponding rows; -1 if any is not finite."""
    rows, others = (array.reshape(len(array), -1).astype(np.float64) for array in (one, other))
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    cosines = (rows * others).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return float(np.nan_to_num(cosines, nan=-1.0).min())
