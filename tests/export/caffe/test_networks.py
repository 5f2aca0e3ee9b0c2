"""SiSNet and CSN as Caffe files: every blob agrees with PyTorch in OpenCV's Caffe reader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from reid.caffe.files import read_net
from reid.config.settings import TrainConfig
from reid.errors import BuildError, ReidError
from reid.export.caffe.face import readable_face_of
from reid.export.caffe.importing import checkpoint_from_caffe
from reid.export.caffe.parity import prove_layers
from reid.export.caffe.writing import CaffeFiles, caffe_from_checkpoint
from reid.model_file.manifest import Manifest, manifest_path
from reid.model_file.preprocess import Preprocess
from reid.models.csn.network import Csn
from reid.models.csn.settings import CsnSettings
from reid.models.sisnet.network import SisNet
from reid.models.sisnet.settings import SisNetSettings
from reid.training.checkpoint import Checkpoint, save_checkpoint
from reid.types import FloatArray, Image
from tests.export.conftest import enlivened

SIZE = Preprocess(64, 32, 64, 32)
ODD = Preprocess(66, 30, 66, 30)
"""Maps with odd sides, which SiSNet's pooling rounds down and CSN's up."""


@dataclass(frozen=True)
class Written:
    """A run, its network, and the Caffe files made from it."""

    run: Path
    network: nn.Module
    files: CaffeFiles


def written(folder: Path, network: nn.Module, config: TrainConfig) -> Written:
    enlivened(network).eval()
    name = config.network.name
    manifest = Manifest(name, "train", config.preprocess)
    save_checkpoint(folder / "checkpoint.pt", Checkpoint(config, manifest, 2, network.state_dict()))
    return Written(folder, network, caffe_from_checkpoint(folder, folder / "out"))


def sisnet(folder: Path, settings: SisNetSettings, preprocess: Preprocess) -> Written:
    torch.manual_seed(3)
    return written(
        folder, SisNet(2, settings), TrainConfig(network=settings, preprocess=preprocess)
    )


def outputs_in_opencv(files: CaffeFiles, layers: list[str], data: FloatArray) -> list[FloatArray]:
    net = cv2.dnn.readNetFromCaffe(str(files.prototxt), str(files.caffemodel))
    net.setInput(data)
    return [np.asarray(output, np.float32) for output in net.forward(layers)]


@pytest.mark.parametrize(
    ("settings", "preprocess"),
    [
        (SisNetSettings(depth=18, last_stride=1), SIZE),
        (SisNetSettings(depth=18, last_stride=2, embed_at="features"), ODD),
        (SisNetSettings(depth=50, bnneck=False), SIZE),
    ],
    ids=["neck", "features of an odd size", "depth 50"],
)
def test_sisnet_computes_the_same_in_caffe(
    tmp_path: Path, crops: list[Image], settings: SisNetSettings, preprocess: Preprocess
) -> None:
    made = sisnet(tmp_path, settings, preprocess)
    report = prove_layers(made.run, made.files.caffemodel, crops[:4]).report
    assert report.passed, report.text()
    data = preprocess.batch(crops[4:6])
    last = read_net(made.files.prototxt).message.layer[-1].name
    (found,) = outputs_in_opencv(made.files, [last], data)
    with torch.inference_mode():
        expected = made.network.embed(torch.from_numpy(data)).numpy()
    assert made.files.manifest.output_dim == expected.shape[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("preprocess", [SIZE, ODD], ids=["even", "odd"])
@pytest.mark.parametrize("levels", [(2, 3), (2, 3, 4), (3,)], ids=str)
def test_the_maps_of_csn_s_levels_are_the_same_in_caffe(
    tmp_path: Path, crops: list[Image], levels: tuple[int, ...], preprocess: Preprocess
) -> None:
    torch.manual_seed(3)
    settings = CsnSettings(levels=levels)
    config = TrainConfig(network=settings, preprocess=preprocess)
    made = written(tmp_path, Csn(settings), config)
    report = prove_layers(made.run, made.files.caffemodel, crops[:4]).report
    assert report.passed, report.text()
    data = preprocess.batch(crops[4:6])
    outputs = made.files.manifest.outputs or made.files.manifest.output_arrays
    writers = {
        top: layer.name
        for layer in read_net(made.files.prototxt).message.layer
        for top in layer.top
    }
    found = outputs_in_opencv(made.files, [writers[one.name] for one in outputs], data)
    with torch.inference_mode():
        expected = [maps.numpy() for maps in made.network.maps(torch.from_numpy(data))]
    assert [one.shape for one in outputs] == [maps.shape[1:] for maps in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_a_prototxt_of_csn_names_its_maps_and_what_is_left_out(tmp_path: Path) -> None:
    settings = CsnSettings(levels=(2, 3))
    made = written(tmp_path, Csn(settings), TrainConfig(network=settings, preprocess=SIZE))
    head = "\n".join(read_net(made.files.prototxt).head)
    assert "pool_2 (96x16x8)" in head
    assert "spatial transformers" in head


def test_without_its_manifest_a_file_is_prepared_by_the_comments(
    tmp_path: Path, crops: list[Image]
) -> None:
    made = sisnet(tmp_path, SisNetSettings(depth=18), SIZE)
    manifest_path(made.files.caffemodel).unlink()
    proof = prove_layers(made.run, made.files.caffemodel, crops[:1])
    assert proof.report.passed
    assert "comments" in proof.report.remarks[0]


def test_files_of_a_network_that_are_only_written_are_not_read_back(tmp_path: Path) -> None:
    assert readable_face_of("msp_cnn").classifier == "fc8"
    with pytest.raises(BuildError, match="'sisnet'"):
        readable_face_of("sisnet")
    made = sisnet(tmp_path, SisNetSettings(depth=18), SIZE)
    with pytest.raises(ReidError, match="'sisnet'"):
        checkpoint_from_caffe(made.files.prototxt, made.files.caffemodel, tmp_path / "back")
    assert not (tmp_path / "back").exists()
