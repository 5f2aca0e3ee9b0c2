"""Exported files of one small network, which bundles and examinations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from reid.model_file.preprocess import Preprocess

# Here alone: each module that imported them would start a server of its own, and a second one
# beside the first does not start.
from tests.deploy.gallery.milvus_fixtures import (  # noqa: F401
    lite_folder,
    milvus_client,
    milvus_name,
    milvus_server,
)
from tests.made_once import made_once


@dataclass(frozen=True)
class Served:
    """A folder of exported files: plain and pixel graphs, in both precisions; read them only."""

    run: Path
    folder: Path

    def file(self, precision: str = "fp32", *, pixels: bool = False) -> Path:
        return self.folder / f"msp_cnn{'.pixels' * pixels}.{precision}.onnx"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """For images of 40x16 out of 48x20, normalised by a mean and a scale per channel."""
    return made_once(tmp_path_factory, "served", _served)


def _served(folder: Path) -> Served:
    from reid.config.settings import TrainConfig
    from reid.export.pipeline import export_checkpoint
    from reid.model_file.manifest import Manifest
    from reid.training.checkpoint import Checkpoint, save_checkpoint
    from tests.export.conftest import lively_network

    preprocess = Preprocess(48, 20, 40, 16, "BGR", (102.0, 110.0, 95.0), (58.0, 57.0, 56.0))
    manifest = Manifest("msp_cnn", "train", preprocess, toolkit_version="0")
    config = TrainConfig(preprocess=preprocess)
    state = lively_network().state_dict()
    save_checkpoint(folder / "run" / "checkpoint.pt", Checkpoint(config, manifest, 7, state))
    for pixels in (False, True):
        list(export_checkpoint(folder / "run", folder / "onnx", ("fp32", "fp16"), (), pixels))
    return Served(folder / "run", folder / "onnx")
