"""SiSNet by the same command: one branch is written, the other and the cascade where asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reid.cli import main
from reid.config.settings import TrainConfig
from reid.errors import ParityError
from reid.export.parity.answers import VectorSubject, subject_of
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.preprocess import Preprocess
from reid.models.sisnet.settings import SisNetSettings
from reid.runtime import open_runners
from reid.training.checkpoint import Checkpoint, build_configured_network, save_checkpoint
from tests.export.conftest import enlivened

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 on 64x32 and 48x32, with lively batch norms."""
    torch.manual_seed(3)
    preprocess = Preprocess(72, 40, 64, 32)
    network = SisNetSettings(depth=18, second_size=(48, 32))
    config = TrainConfig(network=network, preprocess=preprocess)
    state = enlivened(build_configured_network(config, 5)).state_dict()
    manifest = Manifest(
        "sisnet", "train", preprocess, output_meaning=network.output_meaning, toolkit_version="0"
    )
    folder = tmp_path_factory.mktemp("sisnet")
    save_checkpoint(folder / "checkpoint.pt", Checkpoint(config, manifest, 5, state))
    return folder


def test_the_cascade_is_exported_proven_and_compared_by_command(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    order = ["export", str(run), "--out", str(tmp_path), "--also", "cascade", "--json"]
    assert main(order) == 0
    found = json.loads(capsys.readouterr().out)
    one, both = (Path(file) for file in found["files"])
    assert [one.name, both.name] == ["sisnet.fp32.onnx", "sisnet.cascade.fp32.onnx"]
    assert [proof["passed"] for proof in found["parity"]] == [True, True]
    assert found["description_bytes"] == 0  # vectors are compared as they are
    assert read_manifest(both).output_dim == 2 * read_manifest(one).output_dim == 1024
    # The run's own stage of that name is what the file is held against, and no other.
    reference, candidate = open_runners(run, "cpu"), open_runners(both, "cpu")
    subject = subject_of(reference, candidate)
    assert isinstance(subject, VectorSubject)
    assert subject.runners == (reference["cascade"],)
    with pytest.raises(ParityError, match="embed cannot be compared with cascade"):
        subject_of(open_runners(one, "cpu"), candidate)


def test_a_graph_that_the_network_has_not_is_one_line(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["export", str(run), "--out", str(tmp_path), "--also", "pair"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "sisnet has no graph 'pair' (it has embed, second, cascade)" in last
