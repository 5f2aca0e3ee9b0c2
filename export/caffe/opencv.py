"""Run Caffe files with OpenCV's ``dnn`` module, an independent parser and implementation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from reid.caffe.files import blob_shape
from reid.caffe.schema import NetParameter
from reid.caffe.text import format_message
from reid.errors import CaffeError, ModelFileError
from reid.types import FloatArray

from .layers import CaffeLayer, as_pair, blob_writers


class OpenCvNet:
    """The exported files in OpenCV, with access to every blob."""

    def __init__(self, prototxt: bytes, candidate: Path, layers: Sequence[CaffeLayer]) -> None:
        self._name = str(candidate)
        self._input = next(layer.tops[0] for layer in layers if layer.type == "Input")
        # OpenCV returns outputs by layer name; a blob's final value is its last writer's output.
        writers = {b: name for b, name in blob_writers(layers).items() if b != self._input}
        self._blobs, self._layers = tuple(writers), list(writers.values())
        _check_pools(layers, self._name)
        weights = np.fromfile(candidate, np.uint8)
        with self._refusals():
            self._net = cv2.dnn.readNetFromCaffe(np.frombuffer(prototxt, np.uint8), weights)
            self._net.enableFusion(False)

    def blobs(self, data: FloatArray) -> dict[str, FloatArray]:
        """Every blob for one batch, including the input."""
        with self._refusals():
            self._net.setInput(data)
            outputs = self._net.forward(self._layers) if self._layers else ()
        found = {self._input: data}
        for blob, output in zip(self._blobs, outputs, strict=True):
            found[blob] = np.asarray(output, np.float32)
        return found

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn OpenCV's errors into one-line ModelFileErrors, and silence its own log."""
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            yield
        except cv2.error as error:
            reason = " ".join(str(error).split())
            raise ModelFileError(
                f"OpenCV {cv2.__version__} cannot run {self._name}: {reason}"
            ) from None
        finally:
            cv2.utils.logging.setLogLevel(level)


def _check_pools(layers: Sequence[CaffeLayer], name: str) -> None:
    """Raise ModelFileError if a map is smaller than its pooling kernel.

    Caffe and PyTorch then pool the whole map; OpenCV computes a negative size.
    """
    shapes = {top: layer.shape for layer in layers for top in layer.tops}
    for layer in layers:
        if layer.type != "Pooling":
            continue
        sides = shapes[layer.bottoms[0]][1:]
        kernel, pad = as_pair(layer.settings["kernel"]), as_pair(layer.settings["pad"])
        if any(s + 2 * p < k for s, p, k in zip(sides, pad, kernel, strict=True)):
            raise ModelFileError(
                f"{name}: OpenCV cannot pool the {sides[0]}x{sides[1]} map of {layer.name!r} with "
                f"a {kernel[0]}x{kernel[1]} kernel as Caffe does; compare a network with larger "
                "crops"
            )


def cut_net(net: NetParameter, layers: Sequence[CaffeLayer]) -> bytes:
    """The prototxt, as text, of the given ``layers`` only."""
    names = {layer.name for layer in layers}
    kept = NetParameter()
    kept.CopyFrom(net)
    del kept.layer[:]
    kept.layer.extend(message for message in net.layer if message.name in names)
    return format_message(kept).encode()


def check_blobs(layers: Sequence[CaffeLayer], weights: NetParameter, candidate: Path) -> None:
    """Raise CaffeError if a layer's weights are missing or of other shapes; OpenCV does not
    check that."""
    stored = {message.name: message for message in weights.layer if len(message.blobs)}
    for layer in layers:
        if not layer.blob_shapes:
            continue
        message = stored.get(layer.name)
        blobs = message.blobs if message is not None else ()
        where = f"{candidate}: {layer.name}"
        found = tuple(blob_shape(blob, where) for blob in blobs)
        if found != layer.blob_shapes:
            raise CaffeError(
                f"{where}: expected blobs {layer.blob_shapes}, found {found or 'none'}"
            )
