"""MSP-CNN exported once in each precision, and drawn people to try it on."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.export.onnx import export_onnx
from reid.manifest import Manifest
from reid.models.embedding import EmbeddingNetwork
from reid.models.msp_cnn import MspCnn
from reid.preprocess import Preprocess
from reid.runtime.torch_runner import TorchRunner
from reid.types import Image


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
    network = MspCnn(num_identities=7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
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
    """Sixteen drawn people, several images each."""
    paths = sorted((people / "bounding_box_train").glob("*.jpg"))[::3][:16]
    images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths]
    assert len(images) == 16
    return images
