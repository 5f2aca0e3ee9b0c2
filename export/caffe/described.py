"""What a prototxt says of a network: its layers, its preprocessing, its names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.caffe.files import read_net
from reid.caffe.schema import NetParameter
from reid.errors import CaffeError
from reid.model_file.preprocess import Preprocess
from reid.models import network_named

from .face import readable_face_of, unnamed_network
from .head import Contract, contract_of_head
from .layers import CaffeLayer
from .net import all_layers
from .transform import Transform, image_sources, transform_of

MAX_SIDE = 4096
"""Largest image side in pixels, so that a damaged size cannot exhaust the memory."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A prototxt: its layers, with the classifier under our name, and its contract."""

    file: Path
    layers: tuple[CaffeLayer, ...]
    classifier: str
    """Its name in the file, or none; DGD's names end in the dataset's: ``fc8_cuhk03``."""
    owners: Mapping[str, str]
    """Layer -> the earlier layer with the same named weights."""
    contract: Contract
    said_by: tuple[str, ...]
    """Lines on the source of the contract."""

    @property
    def beside(self) -> list[str]:
        """Layers that the network does not need, and that may do something with its values."""
        odd = (layer for layer in self.layers if layer.problem or layer.type == "GuidedDropout")
        return [f"{layer.name} ({layer.type})" for layer in odd]


def read_graph(prototxt: Path) -> Graph:
    """Read a prototxt of one of the networks. Raises CaffeError, in one line."""
    net = read_net(prototxt)
    said = contract_of_head(net.head, str(prototxt))
    network = unnamed_network() if said is None else said.network
    face = readable_face_of(network)
    layers = all_layers(net.message, str(prototxt), input_shape=face.preprocess.input_shape)
    transform = transform_of(net.message, layers, prototxt)
    if transform is not None and transform.input_size is not None:
        shape = (3, *transform.input_size)
        layers = all_layers(net.message, str(prototxt), input_shape=shape)
    height, width = _input_size(layers, network, prototxt)
    if said is None:
        contract, lines = _unsaid(network, height, width, prototxt.name, transform)
    else:
        _check_said(said.preprocess, (height, width), transform, prototxt)
        contract = said
        lines = (f"mean, channel order, sizes: from the comments in {prototxt.name}",)
    products = [layer.name for layer in layers if layer.type == "InnerProduct"]
    classifier = classifier_name(products, face.classifier)
    renamed = tuple(
        dataclasses.replace(layer, name=face.classifier) if layer.name == classifier else layer
        for layer in layers
    )
    return Graph(prototxt, renamed, classifier, _owners(net.message), contract, lines)


def _input_size(layers: Sequence[CaffeLayer], network: str, prototxt: Path) -> tuple[int, int]:
    """Height and width of the input. Raises CaffeError for a size the network cannot process."""
    source = next(iter(image_sources(layers).values()), None)
    if source is None:
        problem = next((layer.problem for layer in layers if layer.problem), "")
        raise CaffeError(problem or f"{prototxt}: expected an input and convolutions, found none")
    if source.problem:
        raise CaffeError(source.problem)
    conv = next(layer for layer in layers if layer.type == "Convolution")
    shape = next((x.shape for x in layers if conv.bottoms[0] in x.tops), source.shape)
    if len(shape) != 3 or shape[0] != 3:
        raise CaffeError(f"{prototxt}: expected an input of 3 channels, found {shape or 'none'}")
    problem = network_named(network).size_problem(shape[1], shape[2])
    if max(shape) > MAX_SIDE:
        problem = f"expected images of at most {MAX_SIDE} pixels per side, found {shape[1:]}"
    if problem:
        raise CaffeError(f"{prototxt}: {problem}")
    return shape[1], shape[2]


def _check_said(
    said: Preprocess, size: tuple[int, int], transform: Transform | None, prototxt: Path
) -> None:
    """Raise CaffeError if the comments and the layers of a prototxt say different things."""
    if said.input_shape[1:] != size:
        crop = "x".join(map(str, said.input_shape[1:]))
        raise CaffeError(
            f"{prototxt}: the crop in its comments is {crop}, but its input is "
            f"{size[0]}x{size[1]}; correct one of them"
        )
    if transform is None:
        return
    taken = transform.preprocess(said)
    for name in ("mean", "std"):
        ours, theirs = getattr(said, name), getattr(taken, name)
        if not np.allclose(ours, theirs, rtol=1e-6, atol=0):
            raise CaffeError(
                f"{transform.where}: the {name} in the comments is {_listed(ours)}, that of the "
                f"layer {_listed(theirs)}; correct one of them"
            )


def _unsaid(
    network: str, height: int, width: int, name: str, transform: Transform | None
) -> tuple[Contract, tuple[str, ...]]:
    """The contract of a prototxt without comments, and lines on its sources.

    Mean and scale are those of its data layers, what they do not say is the paper's.
    """
    face = readable_face_of(network)
    preprocess = face.preprocess
    if preprocess.input_shape[1:] != (height, width):
        preprocess = dataclasses.replace(
            preprocess,
            resize_height=height,
            resize_width=width,
            crop_height=height,
            crop_width=width,
        )
    embed_at, blob = next(iter(face.embeddings.items()))
    lines: list[str] = []
    if transform is not None:
        # The file's size before the crop may be smaller than the paper's resize.
        cropped = dataclasses.replace(preprocess, resize_height=height, resize_width=width)
        preprocess = transform.preprocess(cropped if transform.image_size else preprocess)
        lines += transform.lines(preprocess)
    p = preprocess
    resize, order = f"resize {p.resize_height}x{p.resize_width}", p.channel_order
    if transform is None:
        taken = f"mean, channel order, sizes: not in {name}, so the paper's are used: {order} mean "
        lines.append(f"{taken}{_listed(p.mean)}, {resize}, the embedding is {blob}")
    elif transform.image_size is None:
        taken = f"channel order, resize: not in {name}, so the paper's are used: {order}, {resize}"
        lines.append(f"{taken}, the embedding is {blob}")
    else:
        taken = f"channel order: not in {name}, so the paper's is used: {order}"
        lines.append(f"{taken}, the embedding is {blob}")
    return Contract(network, preprocess, embed_at), tuple(lines)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def classifier_name(names: Iterable[str], classifier: str) -> str:
    """The classifier among layers: of the network's own name, or the only one that extends it.

    An empty string if there is none.
    """
    known = list(names)
    longer = [
        name for name in known if name.startswith(f"{classifier}_") and not name.endswith("_p")
    ]
    if classifier in known:
        return classifier
    return longer[0] if len(longer) == 1 else ""


def _owners(net: NetParameter) -> dict[str, str]:
    """Layer -> the earlier layer whose named weights it shares."""
    first: dict[tuple[str, ...], str] = {}
    owners: dict[str, str] = {}
    for message in net.layer:
        names = tuple(param.name for param in message.param)
        if any(names) and first.setdefault(names, message.name) != message.name:
            owners[message.name] = first[names]
    return owners
