"""What a runner takes: checked by name, type and shape before any backend sees it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reid.errors import ModelFileError
from reid.manifest import Manifest
from reid.types import FloatArray


def checked_input(inputs: Mapping[str, FloatArray], manifest: Manifest) -> FloatArray:
    """The one input that ``manifest`` asks for, contiguous: (N, 3, H, W) float32, N >= 0.

    Raises ModelFileError for another name, type or shape, saying what was expected.
    """
    name, shape = manifest.input_name, manifest.preprocess.input_shape
    if set(inputs) != {name}:
        given = ", ".join(repr(key) for key in inputs) or "none"
        raise ModelFileError(f"the model takes one input, {name!r}; given: {given}")
    array = inputs[name]
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        found = getattr(array, "dtype", type(array).__name__)
        raise ModelFileError(f"input {name!r} must be a float32 array, found {found}")
    if array.ndim != 4 or array.shape[1:] != shape:
        raise ModelFileError(
            f"input {name!r} must have shape (N, {', '.join(map(str, shape))}), found {array.shape}"
        )
    return np.ascontiguousarray(array)
