"""A stand-in for the ``caffe`` module, as far as a Python layer sees it, and a way to run one.

Real Caffe makes the layer without arguments, sets ``param_str``, and calls ``setup``, ``reshape``,
``forward`` and ``backward`` with lists of blobs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from reid.caffe import reference

Float64 = npt.NDArray[np.float64]


class Blob:
    """``data`` and ``diff`` of one shape."""

    def __init__(self, data: npt.ArrayLike = ()) -> None:
        self.data = np.array(data, np.float64)
        self.diff = np.zeros_like(self.data)

    def reshape(self, *shape: int) -> None:
        self.data, self.diff = np.zeros(shape), np.zeros(shape)


def layers_module() -> ModuleType:
    """``msp_cnn_layers``, imported over the stand-in."""
    caffe = ModuleType("caffe")
    caffe.Layer = type("Layer", (), {"param_str": ""})  # type: ignore[attr-defined]
    path = reference("msp_cnn_test").with_name("msp_cnn_layers.py")
    spec = importlib.util.spec_from_file_location("msp_cnn_layers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"caffe": caffe}):
        spec.loader.exec_module(module)
    return module


class Run:
    """One layer with its blobs."""

    def __init__(
        self, name: str, bottoms: Sequence[npt.ArrayLike], tops: int = 1, **settings: Any
    ) -> None:
        self.layer = getattr(layers_module(), name)()
        self.layer.param_str = repr(settings) if settings else ""
        self.bottom, self.top = [Blob(data) for data in bottoms], [Blob() for _ in range(tops)]
        self.layer.setup(self.bottom, self.top)
        self.layer.reshape(self.bottom, self.top)

    def forward(self) -> list[Float64]:
        self.layer.forward(self.bottom, self.top)
        return [top.data for top in self.top]

    def backward(self, slope: npt.ArrayLike) -> list[Float64]:
        """d(loss) / d(each bottom), from that of the first top."""
        self.top[0].diff[...] = slope
        self.layer.backward(self.top, [True, True, False][: len(self.bottom)], self.bottom)
        return [bottom.diff for bottom in self.bottom]
