"""Compare exported Caffe files with PyTorch, blob by blob, in an independent reader.

OpenCV's ``dnn`` module loads the two files and runs them on the CPU. Every blob of the test
graph is compared, so that the first difference names the wrong layer.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from reid.caffe.files import read_net, read_weights
from reid.caffe.schema import NetParameter
from reid.errors import CaffeError, ModelFileError
from reid.files import sha256_of_file
from reid.model_file.manifest import Manifest, manifest_path, read_manifest
from reid.model_file.opening import ModelFile
from reid.progress import Advance, ignore
from reid.types import FloatArray, Image

from ..parity.proof import Proof
from ..parity.report import Hashes
from .face import face_of
from .graph import TracedNetwork
from .head import contract_of_head
from .layers import CaffeLayer, Shape, blob_writers
from .net import readable_layers
from .opencv import OpenCvNet, check_blobs, cut_net
from .parity_report import BlobCheck, LayerReport

MAX_CROPS = 16
"""A few crops are enough: every value of every blob is compared, ten million per crop."""

BATCHES = (1, 3, 4)
"""Sizes of the first batches; all further batches have the last size."""


def prove_layers(
    reference: Path | ModelFile,
    candidate: Path,
    crops: Sequence[Image],
    advance: Advance = ignore,
) -> Proof[LayerReport]:
    """Compare a caffemodel, with its prototxt beside it, with the checkpoint it was made from.

    ``crops`` are BGR images of any size. Each side preprocesses them by its own manifest, so a
    wrong mean shows up in the blob ``data``. ``advance`` is called with the number of crops
    done. Raises CaffeError and ModelFileError for files that cannot be read or run, BuildError
    for a network without a Caffe equivalent.
    """
    file = ModelFile.at(reference)
    if not file.is_checkpoint:
        raise ModelFileError(
            f"{file.path}: a .caffemodel is compared layer by layer with the PyTorch network; "
            "expected a run folder or a .pt checkpoint as reference"
        )
    if not candidate.is_file():
        raise CaffeError(f"no caffemodel {candidate}; export one with `reid export RUN --caffe`")
    network, trained = file.network(), file.checkpoint.manifest
    graph = face_of(trained.network).graph
    prototxt = candidate.with_suffix(".prototxt")
    text = read_net(prototxt)
    manifest, remarks = _manifest_of(candidate, text.head, trained)
    traced = TracedNetwork(network, graph)
    expected = traced.layers(trained.preprocess.input_shape)
    layers, problem = _layers_until_a_size_differs(text.message, prototxt, expected)
    check_blobs(layers, read_weights(candidate), candidate)
    net = cut_net(text.message, layers) if problem else prototxt.read_bytes()
    opencv = OpenCvNet(net, candidate, layers)
    errors, sizes = _Errors(), set()
    for batch in _batches(crops):
        ours = traced.blobs(trained.preprocess.batch(batch))
        errors.add(ours, opencv.blobs(manifest.preprocess.batch(batch)))
        sizes.add(len(batch))
        advance(len(batch))
    report = LayerReport(
        reference=f"torch {torch.__version__} cpu",
        candidate=f"opencv {cv2.__version__} cpu",
        num_crops=len(crops),
        batch_sizes=tuple(sorted(sizes)),
        blobs=errors.checks(expected, layers),
        remarks=(*remarks, problem) if problem else remarks,
        hashes=Hashes(
            file.hashes(), {one.name: sha256_of_file(one) for one in (prototxt, candidate)}
        ),
    )
    shown = dataclasses.replace(report, reference=str(reference), candidate=str(candidate))
    return Proof(shown, report, candidate, manifest)


@dataclass
class _Errors:
    """The largest differences so far, by blob."""

    largest: dict[str, float] = field(default_factory=dict)
    max_abs: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(self, ours: Mapping[str, FloatArray], theirs: Mapping[str, FloatArray]) -> None:
        """Compare one batch; NaN on either side remains NaN in the result."""
        for blob, found in theirs.items():
            self.shapes[blob] = tuple(found.shape[1:])
            expected = ours.get(blob)
            if expected is None or expected.shape != found.shape:
                continue
            with np.errstate(invalid="ignore"):
                worst = np.abs(expected - found).max()
            self.max_abs[blob] = float(np.maximum(self.max_abs.get(blob, 0.0), worst))
            largest = np.maximum(self.largest.get(blob, 0.0), np.abs(expected).max())
            self.largest[blob] = float(largest)

    def checks(
        self, expected: Sequence[CaffeLayer], found: Sequence[CaffeLayer]
    ) -> tuple[BlobCheck, ...]:
        """One check per blob of the network's graph, in its order."""
        shapes = {top: layer.shape for layer in expected for top in layer.tops}
        last = found[-1].name if found else "its input"
        checks = []
        for blob, layer in blob_writers(expected).items():
            shape = shapes[blob]
            if blob not in self.shapes:
                problem = f"missing: the graph was run up to {last}"
                checks.append(BlobCheck(blob, layer, shape, problem=problem))
            elif blob not in self.max_abs:
                problem = f"shape {self.shapes[blob]}, expected {shape}"
                checks.append(BlobCheck(blob, layer, shape, problem=problem))
            else:
                error, most = self.max_abs[blob], self.largest[blob]
                relative = error / most if most > 0 else (0.0 if error == 0 else float("inf"))
                checks.append(BlobCheck(blob, layer, shape, error, relative))
        return tuple(checks)


def _manifest_of(
    candidate: Path, head: Sequence[str], trained: Manifest
) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest beside the weights; if there is none, from the prototxt's comments."""
    if manifest_path(candidate).exists():
        return read_manifest(candidate), ()
    contract = contract_of_head(head, str(candidate.with_suffix(".prototxt")))
    if contract is not None:
        said = dataclasses.replace(trained, preprocess=contract.preprocess)
        remark = f"no manifest beside {candidate.name}: used the comments in its prototxt"
        return _as_candidate(said), (remark,)
    remark = f"no manifest beside {candidate.name}: used the reference's preprocessing"
    return _as_candidate(trained), (remark,)


def _as_candidate(manifest: Manifest) -> Manifest:
    return dataclasses.replace(manifest, stage="embed", normalised=False)


def _layers_until_a_size_differs(
    net: NetParameter, prototxt: Path, expected: Sequence[CaffeLayer]
) -> tuple[tuple[CaffeLayer, ...], str]:
    """The prototxt's layers up to the first map of another size, and the reason to stop there.

    With the layers after it, a concatenation might have inputs of different sizes, and OpenCV
    would run nothing at all.
    """
    sizes = {top: layer.shape for layer in expected for top in layer.tops}
    layers, broken = readable_layers(net, str(prototxt))
    for end, layer in enumerate(layers, start=1):
        size = next((sizes[top] for top in layer.tops if top in sizes), layer.shape)
        if size != layer.shape:
            return layers[:end], (
                f"{layer.name} gives {layer.shape}, expected {size}; later layers were not run"
            )
    if not any(layer.type == "Input" for layer in layers):
        raise broken or CaffeError(f"{prototxt}: expected an Input layer, as a test graph has")
    return layers, "" if broken is None else str(broken)


def _batches(crops: Sequence[Image]) -> Iterator[list[Image]]:
    """The crops in batches of the sizes in BATCHES, then of the last size."""
    sizes = itertools.chain(BATCHES, itertools.repeat(BATCHES[-1]))
    start = 0
    while start < len(crops):
        size = next(sizes)
        yield list(crops[start : start + size])
        start += size
