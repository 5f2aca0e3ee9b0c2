"""Networks that this file alone adds: trained, evaluated, exported and proven as the others are."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid.cli import main
from reid.config.toml import config_from_toml, config_to_toml, resolve_config
from reid.errors import ConfigError
from reid.losses.batch import Batch
from reid.losses.identity import softmax_loss
from reid.losses.settings import LossConfig
from reid.model_file.manifest import read_manifest
from reid.model_file.preprocess import Preprocess
from reid.models import NETWORKS, add_network, network_named
from reid.models.description import Look, Network, NetworkSettings
from reid.models.graphs import Graph
from reid.models.layers import ConvBnRelu
from reid.models.looks import FeatureMaps
from reid.types import ArraySpec, Image

RECIPE = "msp_cnn_synthetic"
STAGE = "stages=[{{name='one', iterations=6, base_lr=0.01, loss_weights={weights}}}]"
SMALL = (
    *("preprocess.resize_height=20", "preprocess.resize_width=10"),
    *("preprocess.crop_height=16", "preprocess.crop_width=8"),
    *("sampler.identities_per_batch=3", "sampler.images_per_identity=2"),
    *("run.precision=fp32", "run.channels_last=off", "run.log_every=1", "data.num_workers=0"),
)


@dataclass(frozen=True, slots=True)
class ToySettings(NetworkSettings):
    name: str = "toy"
    width: int = 8
    length: float = 2.0  # of its own loss


class Toy(nn.Module):
    """One convolution, its mean, and a classifier."""

    def __init__(self, num_identities: int, settings: ToySettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding_dim = settings.width
        self.conv1 = ConvBnRelu(3, settings.width, 3, stride=2, pad=1)
        self.classifier = nn.Linear(settings.width, num_identities)

    def embed(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(x).mean((2, 3))
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embed(x)
        return embedding, self.classifier(embedding)


def toy_losses(
    network: Toy, batch: Batch, losses: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    embedding, logits = network(batch.images)
    found = {}
    if "softmax" in active:
        found["softmax"] = softmax_loss(logits, batch.labels, batch.anchors, losses.label_smoothing)
    if "length" in active:
        found["length"] = (embedding.norm(dim=1) - network.settings.length).square().mean()
    return found


def toy_maps(
    network: Toy, preprocess: Preprocess, images: list[Image], losses: LossConfig
) -> FeatureMaps:
    with torch.inference_mode():
        return {"First": network.conv1(torch.from_numpy(preprocess.batch(images))).numpy()}


TOY = Network(
    settings=ToySettings,
    builder=f"{__name__}:Toy",
    objective=f"{__name__}:toy_losses",
    losses=("softmax", "length"),
    min_size=(4, 4),
    looks=(Look("feature_maps", "maps of its one layer", f"{__name__}:toy_maps"),),
)


@dataclass(frozen=True, slots=True)
class PairToySettings(NetworkSettings):
    name: str = "pair_toy"
    width: int = 8


class PairToy(nn.Module):
    """Scores two images by a layer on the difference of what it describes them with."""

    def __init__(self, num_identities: int, settings: PairToySettings) -> None:
        super().__init__()
        self.conv1 = ConvBnRelu(3, settings.width, 3, stride=2, pad=1)
        self.decide = nn.Linear(settings.width, 1)

    def describe(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(x).mean((2, 3))
        return out

    def logits(self, first: Tensor, second: Tensor) -> Tensor:
        out: Tensor = self.decide((first - second).square())[:, 0]
        return out


class PairToyDescribe(nn.Module):
    def __init__(self, network: PairToy) -> None:
        super().__init__()
        self.network = network

    def forward(self, data: Tensor) -> Tensor:
        return self.network.describe(data.to(self.network.decide.weight.dtype)).float()


class PairToyCompare(nn.Module):
    def __init__(self, network: PairToy) -> None:
        super().__init__()
        self.network = network

    def forward(self, query_vector: Tensor, gallery_vector: Tensor) -> Tensor:
        kind = self.network.decide.weight.dtype
        logits = self.network.logits(query_vector.to(kind), gallery_vector.to(kind))
        return logits.float().sigmoid()


def pair_toy_losses(
    network: PairToy, batch: Batch, losses: LossConfig, active: Collection[str]
) -> dict[str, Tensor]:
    described = network.describe(batch.images)
    logits = network.logits(described[batch.pair_first], described[batch.pair_second])
    same = batch.pair_same.to(logits.dtype)
    return {"same": nn.functional.binary_cross_entropy_with_logits(logits, same)}


def pair_toy_graphs(
    network: PairToy, input_shape: tuple[int, int, int], normalise: bool
) -> tuple[Graph, ...]:
    vector = ArraySpec("vector", (network.decide.in_features,))
    compared = (
        ArraySpec("query_vector", vector.shape, batched=False),
        ArraySpec("gallery_vector", vector.shape),
    )
    return (
        Graph("describe", PairToyDescribe(network), (ArraySpec("data", input_shape),), (vector,)),
        Graph("compare", PairToyCompare(network), compared, (ArraySpec("score", ()),)),
    )


PAIR_TOY = Network(
    settings=PairToySettings,
    builder=f"{__name__}:PairToy",
    objective=f"{__name__}:pair_toy_losses",
    losses=("same",),
    graphs=f"{__name__}:pair_toy_graphs",
)


@pytest.fixture(autouse=True)
def _toys() -> Iterator[None]:
    """Both, known by their names while a test runs."""
    added = [add_network(network).name for network in (TOY, PAIR_TOY)]
    yield
    for name in added:
        del NETWORKS[name]


def settings_of(*more: str) -> list[str]:
    return [word for override in (*SMALL, *more) for word in ("--set", override)]


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command of ``reid`` prints with --json."""
    code = main([*words, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


@pytest.mark.parametrize(
    ("name", "weights", "files"),
    [
        ("toy", "{softmax=1.0, length=0.1}", ["toy.fp32.onnx", "toy.fp16.onnx"]),
        (
            "pair_toy",
            "{same=1.0}",
            [f"pair_toy.{g}.{p}.onnx" for p in ("fp32", "fp16") for g in ("describe", "compare")],
        ),
    ],
)
def test_a_network_of_ones_own_goes_the_whole_road(
    name: str,
    weights: str,
    files: list[str],
    people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out, data = tmp_path / "run", tmp_path / "out", ["--data", "synthetic"]
    words = settings_of(f"network.name={name}", "network.width=4", STAGE.format(weights=weights))
    trained = answer(
        ["train", RECIPE, "--data-root", str(people), "--out", str(run), *words], capsys
    )
    assert trained["step"] == 6
    data += ["--data-root", str(people)]
    report = tmp_path / "report"
    found = answer(["eval", str(run), *data, "--report", str(report)], capsys)
    assert 0 < found["models"][0]["map_step"] <= 1
    exported = answer(["export", str(run), "--out", str(out), "--fp16"], capsys)
    assert [Path(file).name for file in exported["files"]] == files
    assert all(proof["passed"] for proof in exported["parity"])
    assert read_manifest(Path(exported["files"][-1])).network == name
    proof = answer(["parity", str(run), exported["files"][0], *data], capsys)
    assert proof["passed"]
    ranked = [check["status"] for name, check in proof["checks"].items() if "rank1" in name]
    assert ranked == ["ok"]
    names = {file.name for file in report.iterdir()}
    assert ("feature_maps.png" in names) == (name == "toy")


def test_a_loss_of_ones_own_is_trained_by_a_setting_of_ones_own(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = []
    for length in (0.5, 8.0):
        run = tmp_path / str(length)
        words = settings_of(
            "network.name=toy",
            f"network.length={length}",
            "stages=[{name='one', iterations=40, base_lr=0.05, loss_weights={length=1.0}}]",
        )
        answer(["train", RECIPE, "--data-root", str(people), "--out", str(run), *words], capsys)
        weights = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
        lengths.append(float(weights["conv1.bn.weight"].norm() + weights["conv1.bn.bias"].norm()))
    assert lengths[0] < lengths[1]


def test_settings_of_ones_own_are_written_and_read_back() -> None:
    weights = STAGE.format(weights="{softmax=1.0}")
    config = resolve_config(RECIPE, None, ["network.name=toy", "network.width=5", weights])
    assert config.network == ToySettings(width=5)
    assert config_from_toml(config_to_toml(config), "the text") == config
    with pytest.raises(ConfigError, match=r"unknown setting 'network.widht' .did you mean 'width'"):
        resolve_config(RECIPE, None, ["network.name=toy", "network.widht=5"])


def test_an_image_that_is_too_small_and_a_loss_that_there_is_not_are_refused(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", RECIPE, "--data-root", str(people), "--out", str(tmp_path / "run")]
    small = settings_of("network.name=toy", STAGE.format(weights="{softmax=1.0}"))
    small += ["--set", "preprocess.crop_height=3"]
    assert main([*train, *small]) == 1
    assert "toy takes images of at least 4x4, found 3x8" in capsys.readouterr().err
    assert main([*train, *settings_of("network.name=toy")]) == 1
    assert "toy has no loss 'euclidean'" in capsys.readouterr().err


def test_a_name_is_given_once_and_an_unknown_one_brings_the_nearest() -> None:
    @dataclass(frozen=True, slots=True)
    class OtherSettings(ToySettings):
        name: str = "csn"

    assert add_network(TOY) is TOY
    with pytest.raises(ConfigError, match="network 'csn' already"):
        add_network(Network(settings=OtherSettings, builder="a:b", objective="a:b", losses=()))
    with pytest.raises(ConfigError, match="name"):
        add_network(Network(settings=NetworkSettings, builder="a:b", objective="a:b", losses=()))
    with pytest.raises(ConfigError, match=r"network 'tox' .did you mean 'toy'"):
        network_named("tox")


def installed(folder: Path, name: str, value: str) -> None:
    """A package in ``folder`` whose entry point ``name`` is ``value``, as pip leaves it."""
    info = folder / "somebody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[reid.networks]\n{name} = {value}\n")
    (folder / "somebodys_networks.py").write_text(
        "from dataclasses import dataclass\n"
        "from reid.models.description import Network, NetworkSettings\n\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class Settings(NetworkSettings):\n"
        "    name: str = 'theirs'\n\n"
        "THEIRS = Network(settings=Settings, builder='a:b', objective='a:b', losses=('one',))\n"
    )


def test_a_network_of_an_installed_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "theirs", "somebodys_networks:THEIRS")
    with pytest.raises(ConfigError, match="network 'theirs'"):
        network_named("theirs")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert network_named("theirs").losses == ("one",)
        assert resolve_config(RECIPE, None, ["network.name=theirs"]).network.name == "theirs"
    finally:
        NETWORKS.pop("theirs", None)
    with pytest.raises(ConfigError, match="did you mean 'theirs'"):
        network_named("their")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("theirs", "no_such_module:X", "no_such_module"),
        ("theirs", "somebodys_networks:X", "cannot be loaded"),
        ("theirs", "somebodys_networks:Settings", "reid.models.description.Network"),
        ("others", "somebodys_networks:THEIRS", "with that name"),
    ],
)
def test_an_entry_point_that_names_no_network_says_which(
    name: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, name, value)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_networks", raising=False)
    with pytest.raises(ConfigError, match=message) as raised:
        network_named(name)
    assert f"{name} = '{value}'" in str(raised.value)
