"""Caffe weights as a run folder that evaluates, exports and builds like a trained one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reid import __version__
from reid.caffe.files import blob_shape, read_net, read_weights
from reid.caffe.schema import NetParameter
from reid.checkpoint import Checkpoint, build_configured_network, save_checkpoint
from reid.config import DataConfig, NetworkConfig, TrainConfig
from reid.errors import CaffeError, OutputError
from reid.files import sha256_of_file, write_text
from reid.manifest import Manifest
from reid.models import input_size_problem
from reid.preprocess import Preprocess
from reid.runtime import CHECKPOINT_NAME
from reid.settings import config_to_toml

from .caffe_compare import check_graph
from .caffe_graph import traced_layers
from .caffe_head import Contract, contract_of_head
from .caffe_layers import CaffeLayer
from .caffe_net import readable_layers
from .caffe_weights import OPTIONAL, STATISTICS, Matched, state_from_net

NETWORK = "msp_cnn"
PAPER = Preprocess()
REPORT_NAME = "import.json"
"""What an import found, in the run folder."""

MAX_SIDE = 4096
"""Pixels: a damaged size must not ask for more memory than there is."""

_MAX_FRESH_IDENTITIES = 100_000
_LAST_TESTED = "fc7_bn"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made, and what it has to say about it, one line each."""

    run: Path
    lines: tuple[str, ...]
    report: dict[str, Any]


def checkpoint_from_caffe(
    prototxt: Path, caffemodel: Path, out: Path, bn_statistic: str = STATISTICS[0]
) -> Imported:
    """Make the run folder ``out`` from Caffe weights, matched by layer name.

    The prototxt's graph must be the network's. ``bn_statistic`` is what the running statistic
    of the fork's BN layers is. Mean and channel order are those in the prototxt's head where
    it is ours, else the paper's. Raises CaffeError, OutputError; then nothing is written.
    """
    if (out / CHECKPOINT_NAME).exists():
        raise OutputError(f"{out} holds a run already; choose another folder")
    net = read_net(prototxt)
    said = contract_of_head(net.head, str(prototxt))
    found, broken = readable_layers(net.message, str(prototxt), input_shape=PAPER.input_shape)
    if broken is not None and not found:
        raise broken
    contract, where_from = _contract(said, found, prototxt)
    config = TrainConfig(
        network=NetworkConfig(name=NETWORK, embed_at=contract.embed_at),
        preprocess=contract.preprocess,
        data=DataConfig(name=""),
    )
    weights = read_weights(caffemodel)
    num_identities = _num_identities(weights, found, prototxt)
    network = _fresh_network(config, num_identities)
    ours = traced_layers(network, contract.preprocess.input_shape, "train")
    check_graph(_compared(ours, found), found, str(prototxt), broken)
    matched = state_from_net(weights, ours, bn_statistic, str(caffemodel))
    del weights  # as large as the file
    network.load_state_dict({**network.state_dict(), **matched.state})
    lines = (where_from, *_lines(matched, bn_statistic, num_identities))
    source = sha256_of_file(caffemodel)
    report = {
        "run": str(out),
        "prototxt": prototxt.name,
        "caffemodel": caffemodel.name,
        "caffemodel_sha256": source,
        "bn_statistic": bn_statistic if matched.num_fork_layers else None,
        "num_tensors": len(matched.state),
        "without": list(matched.without),
        "left_out": list(matched.left_out),
        "lines": list(lines),
    }
    write_text(out / "config.toml", config_to_toml(config))
    write_text(out / REPORT_NAME, json.dumps(report, indent=2) + "\n")
    manifest = _manifest(config, source)
    checkpoint = Checkpoint(config, manifest, num_identities, network.state_dict())
    save_checkpoint(out / CHECKPOINT_NAME, checkpoint)
    return Imported(out, lines, report)


def _fresh_network(config: TrainConfig, num_identities: int) -> nn.Module:
    """The network before the weights: a classifier that the file lacks is the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_configured_network(config, num_identities)


def _manifest(config: TrainConfig, source_sha256: str) -> Manifest:
    return Manifest(
        network=config.network.name,
        stage="train",
        preprocess=config.preprocess,
        output_meaning=f"fc7_{config.network.embed_at}",
        source_sha256=source_sha256,
        toolkit_version=__version__,
    )


def _contract(
    said: Contract | None, found: tuple[CaffeLayer, ...], prototxt: Path
) -> tuple[Contract, str]:
    """How the network is fed, and where that is known from."""
    shape = next((layer.shape for layer in found if len(layer.shape) == 3), ())
    if len(shape) != 3 or shape[0] != 3:
        raise CaffeError(f"{prototxt}: expected an input of 3 channels, found {shape or 'none'}")
    problem = input_size_problem(NETWORK, shape[1], shape[2])
    if max(shape) > MAX_SIDE:
        problem = f"expected images of at most {MAX_SIDE} pixels a side, found {shape[1:]}"
    if problem:
        raise CaffeError(f"{prototxt}: {problem}")
    if said is not None:
        if said.preprocess.input_shape != shape:
            crop = "x".join(map(str, said.preprocess.input_shape[1:]))
            raise CaffeError(
                f"{prototxt}: the crop in its head is {crop}, its input {shape[1]}x{shape[2]}"
            )
        return said, f"mean, channel order, sizes: from the head of {prototxt.name}"
    resize = (PAPER.resize_height, PAPER.resize_width)
    if shape != PAPER.input_shape:
        resize = (shape[1], shape[2])
    preprocess = Preprocess(*resize, shape[1], shape[2])
    mean = ", ".join(f"{value:g}" for value in preprocess.mean)
    return Contract(preprocess, "bn"), (
        f"mean, channel order, sizes: {prototxt.name} says none, so the paper's are taken: "
        f"{preprocess.channel_order} mean {mean}, resize {resize[0]}x{resize[1]}, the embedding "
        f"is {_LAST_TESTED} before its ReLU"
    )


def _num_identities(weights: NetParameter, found: tuple[CaffeLayer, ...], prototxt: Path) -> int:
    """Outputs of fc8: the prototxt's, else those of the weights, else one."""
    said = [layer.shape[0] for layer in found if layer.name == OPTIONAL and layer.shape]
    stored = [
        blob_shape(layer.blobs[0])[-2:]
        for layer in weights.layer
        if layer.name == OPTIONAL and len(layer.blobs) == 2
    ]
    # The file's size bounds what its own blobs can ask for; a bare number is bounded here.
    for number in said or [shape[0] for shape in stored if len(shape) == 2]:
        if number > _MAX_FRESH_IDENTITIES or number < 1:
            raise CaffeError(
                f"{prototxt}: {OPTIONAL} must have 1 to {_MAX_FRESH_IDENTITIES} outputs, "
                f"found {number}"
            )
        return int(number)
    return 1


def _compared(
    ours: tuple[CaffeLayer, ...], found: tuple[CaffeLayer, ...]
) -> tuple[CaffeLayer, ...]:
    """The layers that the prototxt must have: all, or without fc8 those of the test stage."""
    if any(layer.name == OPTIONAL for layer in found):
        return ours
    return tuple(layer for layer in ours if layer.name != OPTIONAL)


def _lines(matched: Matched, statistic: str, num_identities: int) -> list[str]:
    """What the reader of an import wants to know."""
    lines = [f"weights: {len(matched.state)} tensors found by layer name"]
    if matched.num_fork_layers:
        lines.append(
            f"{matched.num_fork_layers} BN layers of the fork: running statistic read as "
            f"{statistic}"
        )
    if matched.scale_factors:
        factors = ", ".join(f"{factor:g}" for factor in matched.scale_factors)
        empty = " (0: its statistics are all zero)" if 0 in matched.scale_factors else ""
        lines.append(f"stock BatchNorm: statistics divided by scale factor {factors}{empty}")
    for problem in matched.without:
        lines.append(
            f"{problem}: a fresh classifier of {num_identities} identities, which has no part in "
            "the embedding"
        )
    lines += [f"left out, the network has no such layer: {layer}" for layer in matched.left_out]
    return lines
