"""The graph of a file of another program: what it takes and gives, found by running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid.errors import ModelFileError, nearest
from reid.runtime.graph_check import first_line
from reid.runtime.onnx_runner import ORT_ERRORS, open_session
from reid.types import FloatArray

from .content import Content, content_of

SMALLEST_DIM, LARGEST_DIM = 2, 65536
"""Sizes that an embedding can have."""

NOTHING = Content(0, "fp32", ())
_FLOAT = "tensor(float)"
_UNIT_ERROR = 1e-3
"""How far lengths of unit vectors may be from 1, in the arithmetic of FP16 too."""
BATCH_ERROR = 0.01
"""The most that a vector may change with its batch, as a share of its length."""


@dataclass(frozen=True, slots=True)
class ForeignGraph:
    """An open graph that takes one image: (batch, 3, height, width) float32."""

    path: Path
    compute: Callable[[FloatArray], dict[str, FloatArray]]
    """All outputs for images (n, 3, H, W). Raises ModelFileError."""
    input_name: str
    batch: int | None
    """The batch size that the graph states; None if it is free."""
    size: tuple[int | None, int | None]
    """Height and width, each None if it is free."""
    metadata: frozenset[str] = frozenset()
    """The keys of the texts in the file."""
    content: Content = NOTHING
    free: Callable[[FloatArray], ForeignGraph] | None = None
    """The same graph for any batch, if it gives these images the same answers; or else itself."""
    save: Callable[[Path], None] | None = None
    """Writes a graph that was changed; None: it is its file."""

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        """All outputs for images (n, 3, H, W). Raises ModelFileError."""
        return self.compute(images)


class Array(NamedTuple):
    """An input as a file states it; a size that is no integer is free."""

    name: str
    sizes: list[Any]
    kind: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """The chosen output. ``static_batch`` is the batch size that runs; 0: any."""

    name: str
    dim: int
    normalised: bool
    static_batch: int
    others: tuple[str, ...]
    """The names of the graph's other outputs."""
    doubts: tuple[str, ...]
    """What looks wrong, as lines."""


def open_onnx(path: Path) -> ForeignGraph:
    """Open an ONNX file. Raises ModelFileError for one that does not take one image."""
    session = open_session(path, "cpu", 0)
    inputs = [Array(one.name, [*one.shape], one.type) for one in session.get_inputs()]
    names = [value.name for value in session.get_outputs()]

    def compute(images: FloatArray) -> dict[str, FloatArray]:
        try:
            arrays = session.run(names, {inputs[0].name: images})
        except ORT_ERRORS as error:
            raise ModelFileError(f"{path} cannot be run on images: {first_line(error)}") from error
        return dict(zip(names, arrays, strict=True))

    graph = graph_of(path, inputs, _FLOAT, compute)
    keys = frozenset(session.get_modelmeta().custom_metadata_map)
    return replace(graph, metadata=keys, content=content_of(path, graph.input_name))


def graph_of(
    path: Path,
    inputs: Sequence[Array],
    float_kind: str,
    compute: Callable[[FloatArray], dict[str, FloatArray]],
) -> ForeignGraph:
    """The graph, from its inputs; ``float_kind`` is what its backend calls float32.

    Raises ModelFileError for one that does not take one image.
    """
    found = ", ".join(f"{one.name} {_shape(one)} {one.kind}" for one in inputs) or "none"
    expected = f"{path}: expected one input, float32 images (N, 3, height, width); found {found}"
    if len(inputs) != 1:
        raise ModelFileError(expected)
    (image,) = inputs
    sizes = [size if isinstance(size, int) else None for size in image.sizes]
    if image.kind != float_kind:
        raise ModelFileError(f"{expected}; export it with float32 inputs")
    if len(sizes) == 4 and sizes[3] == 3 and sizes[1] != 3:
        raise ModelFileError(f"{expected}; export it with the channels before height and width")
    if len(sizes) != 4 or sizes[1] not in (3, None) or 0 in sizes:
        raise ModelFileError(expected)
    return ForeignGraph(path, compute, image.name, sizes[0], (sizes[2], sizes[3]))


def embedding_of(graph: ForeignGraph, images: FloatArray, wanted: str = "") -> Embedding:
    """Find the embedding among the outputs by running a few images, (n, 3, H, W).

    ``wanted`` names it. Raises ModelFileError for a graph without one, or with several of which
    none is named.
    """
    single, whole, batch = _outputs(graph, images)
    name = _chosen(graph, whole, wanted)
    vectors = whole[name]
    if not np.isfinite(vectors).all() or not np.linalg.norm(vectors, axis=1).all():
        raise ModelFileError(
            f"{graph.path}: output {name!r} is zero or not finite for synthetic people; check the "
            "file's weights, and --mean and --std"
        )
    _refuse_probabilities(graph, name, vectors)
    lengths = np.linalg.norm(vectors, axis=1)
    doubts = []
    change = np.linalg.norm(vectors[: len(single[name])] - single[name], axis=1) / lengths[0]
    if change.max() > BATCH_ERROR:
        doubts.append(
            f"a vector changes by {change.max():.0%} with the other images of its batch; export "
            "the network in evaluation mode"
        )
    return Embedding(
        name,
        vectors.shape[1],
        normalised=bool(np.abs(lengths - 1).max() < _UNIT_ERROR),
        static_batch=batch,
        others=tuple(other for other in whole if other != name),
        doubts=tuple(doubts),
    )


def _outputs(
    graph: ForeignGraph, images: FloatArray
) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray], int]:
    """Outputs of the first image alone (or first batch), of all images, and the fixed batch size.

    A graph that states no batch size can still have one inside.
    """
    if graph.batch is not None:
        repeated = np.resize(
            images, (-(-len(images) // graph.batch) * graph.batch, *images.shape[1:])
        )
        parts = [graph.run(part) for part in np.split(repeated, len(repeated) // graph.batch)]
        return parts[0], _joined(parts), graph.batch
    single = graph.run(images[:1])
    try:
        whole = graph.run(images)
    except ModelFileError:
        whole = {}
    rows = {name: array.shape[:1] for name, array in single.items()}
    batched = [name for name, shape in rows.items() if shape == (1,)]
    if whole and all(whole[name].shape[:1] == (len(images),) for name in batched):
        return single, whole, 0
    return single, _joined([graph.run(images[at : at + 1]) for at in range(len(images))]), 1


def _joined(parts: list[dict[str, FloatArray]]) -> dict[str, FloatArray]:
    return {
        name: np.concatenate([part[name] for part in parts]) if array.ndim else array
        for name, array in parts[0].items()
    }


def _chosen(graph: ForeignGraph, outputs: Mapping[str, FloatArray], wanted: str) -> str:
    """The name of the output that can be an embedding. Raises ModelFileError."""
    fitting = [
        name
        for name, array in outputs.items()
        if array.ndim == 2
        and array.dtype == np.float32
        and SMALLEST_DIM <= array.shape[1] <= LARGEST_DIM
    ]
    listed = ", ".join(
        f"{name} ({', '.join(('N', *map(str, array.shape[1:])))}) {array.dtype}"
        for name, array in outputs.items()
    )
    if wanted and wanted not in outputs:
        raise ModelFileError(
            f"{graph.path} has no output {wanted!r}{nearest(wanted, outputs)}; found {listed}"
        )
    if not fitting or (wanted and wanted not in fitting):
        raise ModelFileError(
            f"{graph.path}: expected an output (N, D) float32 with one vector of {SMALLEST_DIM} to "
            f"{LARGEST_DIM} values for each image; found {listed}; is it a detector?"
        )
    if wanted or len(fitting) == 1:
        return wanted or fitting[0]
    raise ModelFileError(
        f"{graph.path} has several outputs that can be the embedding: {listed}; name one with "
        "--output"
    )


def _refuse_probabilities(graph: ForeignGraph, name: str, vectors: FloatArray) -> None:
    """Raise ModelFileError for rows that are probabilities."""
    if vectors.min() >= 0 and np.abs(vectors.sum(axis=1) - 1).max() < _UNIT_ERROR:
        raise ModelFileError(
            f"{graph.path}: output {name!r} gives probabilities of {vectors.shape[1]} classes: it "
            "is a classifier; export it without its classifier, or name the embedding with "
            "--output"
        )


def _shape(array: Array) -> str:
    return f"({', '.join(map(str, array.sizes))})"
