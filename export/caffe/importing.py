"""Import Caffe weights into a run folder, which can be evaluated and exported like any other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reid import __version__
from reid.caffe.files import blob_shape, read_net, read_weights
from reid.caffe.schema import NetParameter
from reid.config.settings import DataConfig, TrainConfig
from reid.config.toml import config_from_tree, config_to_toml
from reid.errors import CaffeError, OutputError, few_of
from reid.files import sha256_of_file, write_text
from reid.model_file.manifest import Manifest
from reid.model_file.opening import CHECKPOINT_NAME
from reid.model_file.preprocess import Preprocess
from reid.models import network_named
from reid.models.description import NetworkSettings
from reid.training.checkpoint import Checkpoint, build_configured_network, save_checkpoint

from .compare import check_graph, has_batch_norm, scales_by_wiring, without_batch_norm
from .face import readable_face_of, unnamed_network
from .graph import traced_layers
from .head import Contract, contract_of_head
from .layers import CaffeLayer
from .net import all_layers
from .transform import Transform, image_sources, transform_of
from .weights import STATISTICS, Matched, Source, fill_folded, fill_state

REPORT_NAME = "import.json"
"""File name of the import's report, in the run folder."""

MAX_SIDE = 4096
"""Largest image side in pixels, so that a damaged size cannot exhaust the memory."""

_NAMED_LAYERS = 3

_MAX_FRESH_IDENTITIES = 100_000


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: the run folder, and lines to print."""

    run: Path
    lines: tuple[str, ...]
    report: dict[str, Any]


def checkpoint_from_caffe(
    prototxt: Path, caffemodel: Path, out: Path, bn_statistic: str = STATISTICS[0]
) -> Imported:
    """Make the run folder ``out`` from Caffe weights, matched by layer name.

    The prototxt must have the network's graph. ``bn_statistic`` is the meaning of the running
    statistic in the fork's BN layers. Mean and channel order are taken from the comments at the
    top of a prototxt written by this toolkit, otherwise from the paper. Raises CaffeError and
    OutputError; nothing is written then.
    """
    if (out / CHECKPOINT_NAME).exists():
        raise OutputError(f"{out} already contains a run; choose another folder")
    graph = _read_graph(prototxt)
    contract, face = graph.contract, graph.contract.face
    config = TrainConfig(
        network=_settings(contract),
        preprocess=contract.preprocess,
        data=DataConfig(name=""),
    )
    weights = read_weights(caffemodel)
    stored = (layer.name for layer in weights.layer if len(layer.blobs) == 2)
    classifier = graph.classifier or _classifier_name(stored, face.classifier) or face.classifier
    num_identities = _num_identities(weights, graph, classifier)
    network = _fresh_network(config, num_identities)
    ours = traced_layers(network, contract.preprocess.input_shape, field=face.classifier)
    folded = not has_batch_norm(graph.layers)
    theirs = without_batch_norm(ours) if folded else ours
    check_graph(_compared(theirs, graph), graph.layers, str(prototxt))
    source = Source(
        weights,
        str(caffemodel),
        bn_statistic,
        optional=face.classifier,
        classifier=classifier,
        scales=scales_by_wiring(graph.layers),
        owners=graph.owners,
    )
    if folded:
        fill_folded(network.state_dict(), ours, source)
    matched = fill_state(network.state_dict(), theirs, source)
    del weights, source  # as large as the file
    manifest = _manifest(contract, sha256_of_file(caffemodel))
    lines = (*graph.said_by, *_lines(matched, bn_statistic, num_identities))
    beside = [f"{layer.name} ({layer.type})" for layer in graph.layers if _is_beside(layer)]
    if beside:
        lines += (f"beside the network, left out: {few_of(beside, _NAMED_LAYERS)}",)
    if folded:
        lines += ("batch norms: folded into the weights; those of the run pass their input on",)
    report = {
        "run": str(out),
        "prototxt": prototxt.name,
        "caffemodel": caffemodel.name,
        "caffemodel_sha256": manifest.source_sha256,
        "bn_statistic": bn_statistic if matched.num_fork_layers else None,
        "num_tensors": len(matched.keys),
        "without": matched.without,
        "folded": folded,
        "second_tower": {"shared": len(matched.shared), "left_out": list(matched.unlike)},
        "left_out": list(matched.left_out),
        "lines": list(lines),
    }
    write_text(out / "config.toml", config_to_toml(config))
    write_text(out / REPORT_NAME, json.dumps(report, indent=2) + "\n")
    checkpoint = Checkpoint(config, manifest, num_identities, network.state_dict())
    save_checkpoint(out / CHECKPOINT_NAME, checkpoint)
    return Imported(out, lines, report)


def _settings(contract: Contract) -> NetworkSettings:
    """The network's settings, of which a prototxt says ``embed_at``."""
    tree = {"network": {"name": contract.network, "embed_at": contract.embed_at}}
    return config_from_tree(tree).network


def _manifest(contract: Contract, source_sha256: str) -> Manifest:
    return Manifest(
        network=contract.network,
        stage="train",
        preprocess=contract.preprocess,
        output_meaning=contract.face.embeddings[contract.embed_at],
        source_sha256=source_sha256,
        toolkit_version=__version__,
    )


@dataclass(frozen=True, slots=True)
class _Graph:
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


def _read_graph(prototxt: Path) -> _Graph:
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
    classifier = _classifier_name(products, face.classifier)
    renamed = tuple(
        dataclasses.replace(layer, name=face.classifier) if layer.name == classifier else layer
        for layer in layers
    )
    return _Graph(prototxt, renamed, classifier, _owners(net.message), contract, lines)


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


def _classifier_name(names: Iterable[str], classifier: str) -> str:
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


def _is_beside(layer: CaffeLayer) -> bool:
    """Whether a graph that was checked did not need the layer, and may do something with it."""
    return bool(layer.problem) or layer.type == "GuidedDropout"


def _owners(net: NetParameter) -> dict[str, str]:
    """Layer -> the earlier layer whose named weights it shares."""
    first: dict[tuple[str, ...], str] = {}
    owners: dict[str, str] = {}
    for message in net.layer:
        names = tuple(param.name for param in message.param)
        if any(names) and first.setdefault(names, message.name) != message.name:
            owners[message.name] = first[names]
    return owners


def _fresh_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """The network before loading, with a fixed seed: a missing classifier is reproducible."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_configured_network(config, num_identities)


def _num_identities(weights: NetParameter, graph: _Graph, classifier: str) -> int:
    """Number of classifier outputs: from the prototxt, else from the weights, else 1."""
    ours = graph.contract.face.classifier
    said = [layer.shape[0] for layer in graph.layers if layer.name == ours and layer.shape]
    stored = [
        blob_shape(layer.blobs[0])[-2:]
        for layer in weights.layer
        if layer.name == classifier and len(layer.blobs) == 2
    ]
    # Blobs are bounded by the file's size; a bare number is bounded here.
    for number in said or [shape[0] for shape in stored if len(shape) == 2]:
        if number > _MAX_FRESH_IDENTITIES or number < 1:
            raise CaffeError(
                f"{graph.file}: {classifier} must have 1 to {_MAX_FRESH_IDENTITIES} outputs, "
                f"found {number}"
            )
        return int(number)
    return 1


def _compared(ours: tuple[CaffeLayer, ...], graph: _Graph) -> tuple[CaffeLayer, ...]:
    """The layers the prototxt must have: all, or the test graph's if it has no classifier."""
    classifier = graph.contract.face.classifier
    if any(layer.name == classifier for layer in graph.layers):
        return ours
    return tuple(layer for layer in ours if layer.name != classifier)


def _lines(matched: Matched, statistic: str, num_identities: int) -> list[str]:
    """Lines about the imported weights, for the user."""
    lines = [f"weights: {len(matched.keys)} tensors found by layer name"]
    if matched.num_fork_layers:
        lines.append(
            f"{matched.num_fork_layers} BN layers of the DGD fork: running statistic read as "
            f"{statistic}"
        )
    if matched.scale_factors:
        factors = ", ".join(f"{factor:g}" for factor in matched.scale_factors)
        empty = " (0: its statistics are all zero)" if 0 in matched.scale_factors else ""
        lines.append(f"stock BatchNorm: statistics divided by scale factor {factors}{empty}")
    for problem in matched.without:
        lines.append(
            f"{problem}: new classifier for {num_identities} identities (the embedding does not "
            "depend on it)"
        )
    if matched.shared:
        lines.append(
            f"second tower: {len(matched.shared)} layers have the weights of the first (checked)"
        )
    if matched.unlike:
        lines.append(
            f"second tower: {len(matched.unlike)} layers have other weights than the first and "
            f"are left out: {few_of(matched.unlike, _NAMED_LAYERS)}"
        )
    lines += [f"not imported, the network has no such layer: {layer}" for layer in matched.left_out]
    return lines
