"""MSP-CNN exported once in each precision, and synthetic people to try it on."""

from __future__ import annotations

import contextlib
import copy
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.caffe.files import read_net, read_weights, write_net, write_weights
from reid.caffe.schema import NetParameter
from reid.config.settings import TrainConfig
from reid.export.caffe.writing import caffe_from_checkpoint
from reid.export.onnx import export_onnx
from reid.export.pipeline import Exported as ExportedFile
from reid.export.pipeline import export_checkpoint
from reid.model_file.manifest import Manifest, read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.models.csn.network import Csn
from reid.models.csn.settings import CsnSettings
from reid.models.embedding import EmbeddingNetwork
from reid.models.msp_cnn.network import MspCnn
from reid.runtime.torch_runner import TorchRunner
from reid.training.checkpoint import Checkpoint, save_checkpoint
from reid.types import Image
from tests.made_once import made_once

Change = Callable[[NetParameter], None]


@dataclass(frozen=True)
class Exported:
    """A network with lively batch norms, its state before the exports, and the two files."""

    network: nn.Module
    state_before: dict[str, Tensor]
    trained_manifest: Manifest
    files: dict[str, Path]
    manifests: dict[str, Manifest]
    stdout: str

    def reference(self) -> TorchRunner:
        """The network itself, not folded, as the runner that the files are held against."""
        module = EmbeddingNetwork(copy.deepcopy(self.network))
        return TorchRunner(module, self.trained_manifest, device="cpu")


def lively_network() -> nn.Module:
    """Random weights, and batch norms that do something: folding wrongly would show."""
    torch.manual_seed(5)
    return enlivened(MspCnn(num_identities=7))


def enlivened(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return made_once(tmp_path_factory, "msp_cnn_files", _exported)


def _exported(folder: Path) -> Exported:
    network = lively_network()
    manifest = Manifest("msp_cnn", "train", Preprocess(), file_sha256="c0ffee", dataset="drawn")
    state_before = copy.deepcopy(network.state_dict())
    files = {"fp32": folder / "fp32.onnx", "fp16": folder / "fp16.onnx"}
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        manifests = {
            precision: export_onnx(network, manifest, path, fp16=precision == "fp16")
            for precision, path in files.items()
        }
    return Exported(network, state_before, manifest, files, manifests, stdout.getvalue())


@pytest.fixture(scope="session")
def crops(people: Path) -> list[Image]:
    """Sixteen synthetic people, several images each."""
    paths = sorted((people / "bounding_box_train").glob("*.jpg"))[::3][:16]
    images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths]
    assert len(images) == 16
    return images


@dataclass(frozen=True)
class PairRun:
    """A checkpoint of CSN with lively batch norms, and all its files; read them only."""

    run: Path
    exported: tuple[ExportedFile, ...]

    def file(self, graph: str, precision: str = "fp32") -> Path:
        return self.exported[0].path.with_name(f"csn.{graph}.{precision}.onnx")

    def copied_to(self, folder: Path, *graphs: str, precision: str = "fp32") -> Path:
        """Files and their manifests in another folder, to be spoilt; the first one's path."""
        for graph in graphs:
            shutil.copy(f"{self.file(graph, precision)}.json", folder)
            shutil.copy(self.file(graph, precision), folder)
        return folder / self.file(graphs[0], precision).name


def pair_run_of(
    folder: Path,
    levels: tuple[int, ...],
    preprocess: Preprocess,
    precisions: tuple[str, ...] = ("fp32", "fp16"),
    also: tuple[str, ...] = ("pair",),
) -> PairRun:
    """CSN of these levels for images of this size, whose scores tell small changes."""
    torch.manual_seed(5)
    network = cast(Csn, enlivened(Csn(CsnSettings(levels=levels))).eval())
    with torch.inference_mode():
        images, first = torch.randn(8, *preprocess.input_shape), torch.arange(7)
        spread = network(images, first, first + 1).logits.std()
    network.classify.weight.data /= spread  # a probability at its end would hide every change
    config = TrainConfig(network=CsnSettings(levels=levels), preprocess=preprocess)
    manifest = Manifest("csn", "train", preprocess)
    checkpoint = Checkpoint(config, manifest, 2, network.state_dict())
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    written = export_checkpoint(folder, folder / "out", precisions, also)
    return PairRun(folder, tuple(written))


@pytest.fixture(scope="session")
def pair_run(tmp_path_factory: pytest.TempPathFactory) -> PairRun:
    """CSN of level 3 alone, for images of a quarter of the paper's size: seconds per graph."""
    preprocess = Preprocess(80, 40, 80, 40, std=(58.0, 57.0, 58.0))
    return made_once(
        tmp_path_factory, "csn_files", lambda folder: pair_run_of(folder, (3,), preprocess)
    )


@dataclass(frozen=True)
class CaffeRun:
    """A checkpoint with lively batch norms, and the Caffe files made from it; do not change."""

    network: nn.Module
    run: Path
    prototxt: Path
    caffemodel: Path

    def changed_to(
        self, folder: Path, graph: Change | None = None, weights: Change | None = None
    ) -> tuple[Path, Path]:
        """The same files with the graph or the weights changed; the manifest is of them."""
        prototxt, caffemodel = self.copied_to(folder)
        if graph is not None:
            text = read_net(prototxt)
            graph(text.message)
            write_net(prototxt, text.message, text.head)
        if weights is not None:
            net = read_weights(caffemodel)
            weights(net)
            write_weights(caffemodel, net)
            write_manifest(caffemodel, read_manifest(caffemodel, check_hash=False))
        return prototxt, caffemodel

    def copied_to(self, folder: Path) -> tuple[Path, Path]:
        """The prototxt and the weights (with their manifest) in another folder, to be spoilt."""
        shutil.copy(f"{self.caffemodel}.json", folder)
        return Path(shutil.copy(self.prototxt, folder)), Path(shutil.copy(self.caffemodel, folder))


def exported_to_caffe(folder: Path, preprocess: Preprocess) -> CaffeRun:
    """``lively_network`` as a checkpoint and as Caffe files."""
    network = lively_network().eval()
    checkpoint = Checkpoint(
        TrainConfig(preprocess=preprocess),
        Manifest("msp_cnn", "train", preprocess),
        7,
        network.state_dict(),
    )
    save_checkpoint(folder / "run" / "checkpoint.pt", checkpoint)
    files = caffe_from_checkpoint(folder / "run", folder / "out")
    return CaffeRun(network, folder / "run", files.prototxt, files.caffemodel)


@pytest.fixture(scope="session")
def caffe_run(tmp_path_factory: pytest.TempPathFactory) -> CaffeRun:
    return made_once(
        tmp_path_factory, "caffe_files", lambda folder: exported_to_caffe(folder, Preprocess())
    )


@pytest.fixture(scope="session")
def small_caffe_run(tmp_path_factory: pytest.TempPathFactory) -> CaffeRun:
    """For crops of 72x28: a quarter of the work."""
    preprocess = Preprocess(80, 32, 72, 28)
    return made_once(
        tmp_path_factory, "small_caffe", lambda folder: exported_to_caffe(folder, preprocess)
    )


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for images of 16x8, the smallest that the graph takes; do not change it."""
    preprocess = Preprocess(20, 10, 16, 8)
    manifest = Manifest("msp_cnn", "train", preprocess, toolkit_version="0")
    state = lively_network().state_dict()
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint = Checkpoint(TrainConfig(preprocess=preprocess), manifest, 7, state)
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    return folder
