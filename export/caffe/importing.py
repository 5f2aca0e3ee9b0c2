"""Import Caffe weights into a run folder, which can be evaluated and exported like any other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reid import __version__
from reid.caffe.files import blob_shape, read_weights
from reid.caffe.schema import NetParameter
from reid.config.settings import DataConfig, TrainConfig
from reid.config.toml import config_from_tree, config_to_toml
from reid.errors import CaffeError, OutputError, few_of
from reid.files import sha256_of_file, write_text
from reid.model_file.manifest import Manifest
from reid.model_file.opening import CHECKPOINT_NAME
from reid.models.description import NetworkSettings
from reid.training.checkpoint import Checkpoint, build_configured_network, save_checkpoint

from .compare import check_graph, has_batch_norm, scales_by_wiring, without_batch_norm
from .described import Graph, classifier_name, read_graph
from .graph import traced_layers
from .head import Contract
from .layers import CaffeLayer
from .weights import STATISTICS, Matched, Source, fill_folded, fill_state

REPORT_NAME = "import.json"
"""File name of the import's report, in the run folder."""

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
    statistic in the fork's BN layers. Preprocessing is that of the comments at the top of a
    prototxt written by this toolkit, or of the data layer; what neither says is the paper's. Raises
    CaffeError and OutputError; nothing is written then.
    """
    if (out / CHECKPOINT_NAME).exists():
        raise OutputError(f"{out} already contains a run; choose another folder")
    graph = read_graph(prototxt)
    contract, face = graph.contract, graph.contract.face
    config = TrainConfig(
        network=_settings(contract),
        preprocess=contract.preprocess,
        data=DataConfig(name=""),
    )
    weights = read_weights(caffemodel)
    stored = (layer.name for layer in weights.layer if len(layer.blobs) == 2)
    classifier = graph.classifier or classifier_name(stored, face.classifier) or face.classifier
    num_identities = _num_identities(weights, graph, classifier)
    network = _fresh_network(config, num_identities)
    source = Source(
        weights,
        str(caffemodel),
        bn_statistic,
        optional=face.classifier,
        classifier=classifier,
        scales=scales_by_wiring(graph.layers),
        owners=graph.owners,
    )
    folded = not has_batch_norm(graph.layers)
    matched = _fill(network, graph, source, folded)
    del weights, source  # as large as the file
    manifest = _manifest(contract, sha256_of_file(caffemodel))
    lines = (*graph.said_by, *_lines(matched, graph, bn_statistic, num_identities))
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


def _fill(network: nn.Module, graph: Graph, source: Source, folded: bool) -> Matched:
    """Check the graph against the network's, then fill the network with the weights."""
    shape, classifier = graph.contract.preprocess.input_shape, graph.contract.face.classifier
    ours = traced_layers(network, shape, field=classifier)
    theirs = without_batch_norm(ours) if folded else ours
    check_graph(_compared(theirs, graph), graph.layers, str(graph.file))
    if folded:
        fill_folded(network.state_dict(), ours, source)
    return fill_state(network.state_dict(), theirs, source)


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


def _fresh_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """The network before loading, with a fixed seed: a missing classifier is reproducible."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_configured_network(config, num_identities)


def _num_identities(weights: NetParameter, graph: Graph, classifier: str) -> int:
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


def _compared(ours: tuple[CaffeLayer, ...], graph: Graph) -> tuple[CaffeLayer, ...]:
    """The layers the prototxt must have: all, or the test graph's if it has no classifier."""
    classifier = graph.contract.face.classifier
    if any(layer.name == classifier for layer in graph.layers):
        return ours
    return tuple(layer for layer in ours if layer.name != classifier)


def _lines(matched: Matched, graph: Graph, statistic: str, num_identities: int) -> list[str]:
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
    if not has_batch_norm(graph.layers):
        lines.append("batch norms: folded into the weights; those of the run pass their input on")
    if graph.beside:
        lines.append(f"beside the network, left out: {few_of(graph.beside, _NAMED_LAYERS)}")
    return lines + _lines_on_the_rest(matched)


def _lines_on_the_rest(matched: Matched) -> list[str]:
    """Lines about the weights that the network has no place for."""
    lines = []
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
