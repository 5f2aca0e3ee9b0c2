"""SiSNet through the loop that trains the others: every row of the poster, resumed, by stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.data import load_split
from reid.errors import CheckpointError, ConfigError, DataError, ModelFileError
from reid.evaluation.evaluating import evaluate_models
from reid.models.sisnet.resnet import ResNet
from reid.training.loop import train
from tests.heard import Heard, Interruption
from tests.training.test_loop import equal, rows_of, weights_of

TINY = (
    "data.name=synthetic",
    "data.num_workers=0",
    "network.depth=18",
    "network.second_size=[48,32]",
    "preprocess.resize_height=72",
    "preprocess.resize_width=40",
    "preprocess.crop_height=64",
    "preprocess.crop_width=32",
    "sampler.identities_per_batch=3",
    "sampler.images_per_identity=2",
    "run.device=cpu",
    "run.precision=fp32",
    "run.channels_last=off",
    "run.log_every=1",
    "stages.0.epochs=0",
    "stages.0.iterations=3",
)


def tiny(*more: str) -> TrainConfig:
    return resolve_config("sisnet_market1501_triplet", None, [*TINY, *more])


def test_a_stopped_run_resumes_to_the_same_weights_bit_for_bit(people: Path, tmp_path: Path):
    train(tiny(), people, tmp_path / "whole")
    train(tiny(), people, tmp_path / "parts", reporter=Interruption(2))
    train(tiny(), people, tmp_path / "parts", resume=True)
    assert equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))
    last = rows_of(tmp_path / "parts")[-1]
    parts = [float(last[name]) for name in ("softmax", "triplet", "drc")]
    assert min(parts) > 0
    assert float(last["loss"]) == pytest.approx(sum(parts), rel=1e-4)


@pytest.mark.parametrize("weights", ["softmax", "softmax triplet"])
@pytest.mark.parametrize("row", ["baseline", "SiSNet", "SiSNet+DRC"])
def test_every_row_of_the_poster_trains(people: Path, tmp_path: Path, row: str, weights: str):
    losses = {name: float(name in weights.split()) for name in ("softmax", "triplet")}
    losses["drc"] = float(row == "SiSNet+DRC")
    overrides = [f"stages.0.loss_weights.{name}={weight}" for name, weight in losses.items()]
    scales = f"network.two_scales={str(row != 'baseline').lower()}"
    result = train(tiny("stages.0.iterations=1", scales, *overrides), people, tmp_path)
    assert result.step == 1
    found = {name for name in ("softmax", "triplet", "drc") if name in rows_of(tmp_path)[0]}
    assert found == {name for name, weight in losses.items() if weight}


def test_one_branch_the_other_and_both_are_evaluated_by_their_graph(people: Path, tmp_path: Path):
    train(tiny("stages.0.iterations=1"), people, tmp_path)
    split = load_split("synthetic", people)
    graphs = ("embed", "second", "cascade")
    first, second, both = evaluate_models([tmp_path], split, graphs=graphs, device="cpu")
    assert [one.report.model for one in (first, second, both)] == [
        f"{tmp_path}, {graph}" for graph in graphs
    ]
    rows = slice(0, len(split.query))
    squares = [one.distances(rows).astype("float64") ** 2 for one in (first, second, both)]
    # Two vectors of length 1 side by side, and the whole brought to length 1 again.
    assert abs(squares[2] - (squares[0] + squares[1]) / 2).max() < 1e-4
    assert abs(squares[0] - squares[1]).max() > 1e-4
    with pytest.raises(ModelFileError, match="embed, second, cascade; found 'third'"):
        evaluate_models([tmp_path], split, graphs=("third",), device="cpu")


def test_pretrained_weights_are_where_training_starts(people: Path, tmp_path: Path):
    torch.manual_seed(1)
    backbone = ResNet(18, 2)
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    heard = Heard()
    config = tiny(
        "stages.0.iterations=1",
        "stages.0.base_lr=1e-9",
        "stages.0.warmup_iterations=0",
        f"network.pretrained={tmp_path / 'weights.pth'}",
    )
    train(config, people, tmp_path / "run", reporter=heard)
    assert any("arrays loaded" in line for line in heard.said)
    trained = weights_of(tmp_path / "run")["backbone.layer1.0.conv1.weight"]
    torch.testing.assert_close(trained, backbone.state_dict()["layer1.0.conv1.weight"])


def test_without_pretrained_weights_the_log_says_how_to_obtain_them(people: Path, tmp_path: Path):
    heard = Heard()
    train(tiny("stages.0.iterations=1"), people, tmp_path, reporter=heard)
    assert any("no pretrained weights" in line for line in heard.said)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("network.depth=101", ConfigError, "18, 34 or 50, found 101"),
        ("network.last_stride=3", ConfigError, "1 or 2, found 3"),
        ("network.second_size=[16,16]", ConfigError, "at least 32"),
        ("network.two_scales=false", ConfigError, "network.two_scales=false .*drc has nothing"),
        ("losses.drc_normalise=minmix", ConfigError, "minmax, l2, none"),
        ("network.pretrained=nowhere.pth", CheckpointError, "nowhere.pth"),
        ("stages.0.milestones=[0.6,0.3]", ConfigError, "ascending shares"),
        ("sampler.identities_per_batch=999", DataError, "lower sampler.identities_per_batch"),
    ],
)
def test_settings_that_cannot_be_are_one_line(
    people: Path, tmp_path: Path, override: str, error: type[Exception], words: str
):
    with pytest.raises(error, match=words) as caught:
        train(tiny(override), people, tmp_path / "run")
    assert "\n" not in str(caught.value)
