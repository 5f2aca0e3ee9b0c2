"""Import Caffe weights into a run folder, which can be evaluated and exported like any other."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reid import __version__
from reid.caffe.files import blob_shape, read_net, read_weights
from reid.caffe.schema import NetParameter
from reid.config.settings import DataConfig, TrainConfig
from reid.config.toml import config_from_tree, config_to_toml
from reid.errors import CaffeError, OutputError
from reid.files import sha256_of_file, write_text
from reid.model_file.manifest import Manifest
from reid.model_file.opening import CHECKPOINT_NAME
from reid.models import network_named
from reid.models.description import NetworkSettings
from reid.training.checkpoint import Checkpoint, build_configured_network, save_checkpoint

from .compare import check_graph, scales_by_wiring
from .face import face_of, unnamed_network
from .graph import traced_layers
from .head import Contract, contract_of_head
from .layers import CaffeLayer
from .net import readable_layers
from .weights import STATISTICS, Matched, Source, fill_state

REPORT_NAME = "import.json"
"""File name of the import's report, in the run folder."""

MAX_SIDE = 4096
"""Largest image side in pixels, so that a damaged size cannot exhaust the memory."""

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
    num_identities = _num_identities(weights, graph)
    network = _fresh_network(config, num_identities)
    ours = traced_layers(network, contract.preprocess.input_shape, face.classifier)
    check_graph(_compared(ours, graph), graph.layers, str(prototxt), graph.broken)
    scales = scales_by_wiring(graph.layers)
    matched = fill_state(
        network.state_dict(),
        ours,
        Source(weights, str(caffemodel), bn_statistic, face.classifier, scales),
    )
    del weights  # as large as the file
    manifest = _manifest(contract, sha256_of_file(caffemodel))
    lines = (graph.said_by, *_lines(matched, bn_statistic, num_identities))
    report = {
        "run": str(out),
        "prototxt": prototxt.name,
        "caffemodel": caffemodel.name,
        "caffemodel_sha256": manifest.source_sha256,
        "bn_statistic": bn_statistic if matched.num_fork_layers else None,
        "num_tensors": len(matched.keys),
        "without": matched.without,
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
    """A prototxt: its layers up to the first broken one, and its contract."""

    file: Path
    layers: tuple[CaffeLayer, ...]
    broken: CaffeError | None
    contract: Contract
    said_by: str
    """A line on the source of the contract."""


def _read_graph(prototxt: Path) -> _Graph:
    net = read_net(prototxt)
    said = contract_of_head(net.head, str(prototxt))
    network = unnamed_network() if said is None else said.network
    crop = face_of(network).preprocess.input_shape
    layers, broken = readable_layers(net.message, str(prototxt), input_shape=crop)
    if broken is not None and not layers:
        raise broken
    height, width = _input_size(layers, network, prototxt)
    if said is None:
        return _Graph(prototxt, layers, broken, *_unsaid(network, height, width, prototxt.name))
    if said.preprocess.input_shape[1:] != (height, width):
        crop_words = "x".join(map(str, said.preprocess.input_shape[1:]))
        raise CaffeError(
            f"{prototxt}: the crop in its comments is {crop_words}, but its input is "
            f"{height}x{width}; correct one of them"
        )
    said_by = f"mean, channel order, sizes: from the comments in {prototxt.name}"
    return _Graph(prototxt, layers, broken, said, said_by)


def _input_size(layers: tuple[CaffeLayer, ...], network: str, prototxt: Path) -> tuple[int, int]:
    """Height and width of the input. Raises CaffeError for a size the network cannot process."""
    shape = next((layer.shape for layer in layers if len(layer.shape) == 3), ())
    if len(shape) != 3 or shape[0] != 3:
        raise CaffeError(f"{prototxt}: expected an input of 3 channels, found {shape or 'none'}")
    problem = network_named(network).size_problem(shape[1], shape[2])
    if max(shape) > MAX_SIDE:
        problem = f"expected images of at most {MAX_SIDE} pixels per side, found {shape[1:]}"
    if problem:
        raise CaffeError(f"{prototxt}: {problem}")
    return shape[1], shape[2]


def _unsaid(network: str, height: int, width: int, name: str) -> tuple[Contract, str]:
    """The paper's contract for images of this size, and a line on its source."""
    face = face_of(network)
    preprocess = face.preprocess
    if preprocess.input_shape[1:] != (height, width):
        preprocess = dataclasses.replace(
            preprocess,
            resize_height=height,
            resize_width=width,
            crop_height=height,
            crop_width=width,
        )
    mean = ", ".join(f"{value:g}" for value in preprocess.mean)
    embed_at, blob = next(iter(face.embeddings.items()))
    return Contract(network, preprocess, embed_at), (
        f"mean, channel order, sizes: not in {name}, so the paper's are used: "
        f"{preprocess.channel_order} mean {mean}, resize "
        f"{preprocess.resize_height}x{preprocess.resize_width}, the embedding is {blob}"
    )


def _fresh_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """The network before loading, with a fixed seed: a missing classifier is reproducible."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_configured_network(config, num_identities)


def _num_identities(weights: NetParameter, graph: _Graph) -> int:
    """Number of classifier outputs: from the prototxt, else from the weights, else 1."""
    classifier = graph.contract.face.classifier
    said = [layer.shape[0] for layer in graph.layers if layer.name == classifier and layer.shape]
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
    lines += [f"not imported, the network has no such layer: {layer}" for layer in matched.left_out]
    return lines
