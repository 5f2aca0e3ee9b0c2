"""A run begins with another's weights: what was loaded is known, slower, or frozen."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import reid
from reid.config.settings import OptimizerConfig, TrainConfig
from reid.config.toml import resolve_config
from reid.data import load_split
from reid.data.content import image_hashes
from reid.errors import CheckpointError, ConfigError, DataError, ReidError
from reid.model_file.opening import CHECKPOINT_NAME
from reid.models.layers import ConvBnRelu
from reid.training.checkpoint import (
    Checkpoint,
    build_configured_network,
    load_checkpoint,
    save_checkpoint,
)
from reid.training.loop import train
from reid.training.pretrained import read_state_dict
from reid.training.processes import Processes
from reid.training.solver import Solver, solver_of
from reid.training.start import LoadedWeights, Start, begin
from tests.heard import Heard, Interruption
from tests.training.test_checkpoint import checkpoint as checkpoint
from tests.training.test_loop import equal, in_two_processes, weights_of
from tests.training.test_train_sisnet import TINY as TINY_SISNET

RECIPE = "msp_cnn_synthetic"
CLASSIFIER = {"fc8.weight", "fc8.bias"}
FROZEN = "stages.0.freeze_loaded=true"


@pytest.fixture(scope="module")
def first(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on eight people."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(resolve_config(RECIPE, None, tiny_overrides), people, folder)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six other people to train on."""
    from reid.data.synthetic.writing import write_synthetic

    root = tmp_path_factory.mktemp("others")
    write_synthetic(
        root,
        num_train_identities=6,
        num_test_identities=2,
        cameras=2,
        images_per_camera=3,
        num_distractors=0,
        num_junk=0,
        seed=11,
    )
    return root


def tuned(overrides: tuple[str, ...], start: Path | str, *more: str) -> TrainConfig:
    """Six steps, then four, that begin with ``start``."""
    return resolve_config(RECIPE, None, [*overrides, f"run.start_from={start}", *more])


def refusal(config: TrainConfig, num_identities: int = 8) -> str:
    """The one line for a start that does not fit, after which the network is as it was."""
    network = build_configured_network(config, num_identities)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ReidError) as caught:
        begin(config, network, num_identities)
    assert equal(before, network.state_dict())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("optimizer.kind=adam",),
        ("optimizer.average_decay=0.9",),
        ("optimizer.nesterov=true", "network.recompute_low_level=true"),
    ],
    ids=("sgd", "adam", "averaged", "recomputed"),
)
def test_a_frozen_stage_changes_no_loaded_array_and_the_next_changes_all(
    people: Path, others: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path,
    more: tuple[str, ...],
) -> None:  # fmt: skip
    before = weights_of(first)
    config = tuned(tiny_overrides, first, FROZEN, *more)
    frozen = dataclasses.replace(config, stages=config.stages[:1])
    train(frozen, others, tmp_path / "frozen")
    after = weights_of(tmp_path / "frozen")
    loaded = before.keys() - CLASSIFIER
    assert {"conv1.bn.running_mean", "conv1.bn.num_batches_tracked"} < loaded
    assert [name for name in sorted(loaded) if not torch.equal(before[name], after[name])] == []
    torch.manual_seed(frozen.run.seed)
    new = build_configured_network(frozen, 6).state_dict()
    assert not any(torch.equal(new[name], after[name]) for name in CLASSIFIER)
    train(config, others, tmp_path / "all")
    after = weights_of(tmp_path / "all")
    # A bias before a batch norm has no part in any loss.
    learning = sorted(name for name in loaded if not name.endswith("conv.bias"))
    assert [name for name in learning if torch.equal(before[name], after[name])] == []


def test_a_classifier_of_another_number_of_people_stays_new_and_is_named(
    tiny_overrides: tuple[str, ...], first: Path, others: Path, tmp_path: Path
) -> None:
    config = tuned(tiny_overrides, first)
    network = build_configured_network(config, 6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start = begin(config, network, 6)
    assert start.names == before.keys() - CLASSIFIER
    after, theirs = network.state_dict(), weights_of(first)
    assert all(torch.equal(after[name], before[name]) for name in CLASSIFIER)
    assert all(torch.equal(after[name], theirs[name]) for name in start.names)
    heard = Heard()
    train(config, others, tmp_path / "run", reporter=heard)
    (line,) = (line for said in heard.said for line in said.split("\n") if "fc8.weight" in line)
    assert "fc8.bias" in line
    assert str(first / CHECKPOINT_NAME) in line
    assert f'start_from = "{first}"' in (tmp_path / "run" / "config.toml").read_text()


def test_a_classifier_that_fits_is_loaded_unless_it_is_to_be_new(
    tiny_overrides: tuple[str, ...], first: Path
) -> None:
    config = tuned(tiny_overrides, first / CHECKPOINT_NAME)
    network = build_configured_network(config, 8)
    assert begin(config, network, 8).names == network.state_dict().keys()
    assert equal(network.state_dict(), weights_of(first))
    config = tuned(tiny_overrides, first, "run.new_classifier=true")
    network = build_configured_network(config, 8)
    assert begin(config, network, 8).names == network.state_dict().keys() - CLASSIFIER


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_weights_without_a_classifier_is_a_start_too(
    tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path, suffix: str
) -> None:
    theirs = {k: v for k, v in weights_of(first).items() if k not in CLASSIFIER}
    path = tmp_path / f"weights{suffix}"
    named = {f"module.{name}": value for name, value in theirs.items()}
    save_file(named, path) if suffix == ".safetensors" else torch.save({"net": named}, path)
    network = build_configured_network(tuned(tiny_overrides, path), 8)
    start = begin(tuned(tiny_overrides, path), network, 8)
    assert start.names == theirs.keys()
    assert "newly initialised: fc8.weight, fc8.bias" in start.words[0]
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in theirs.items())


class Small(nn.Module):
    """A trunk, and a head that no file has."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ConvBnRelu(3, 2, 1)
        self.head = nn.Linear(2, 2)


TRUNK = ("trunk.conv.weight", "trunk.conv.bias", "trunk.bn.weight", "trunk.bn.bias")


def stepped(network: nn.Module, solver: Solver, rates: tuple[float, ...], frozen: int = 0) -> None:
    """A step at each rate whose gradients are the parameters plus one; the first ones frozen."""
    for step, rate in enumerate(rates):
        solver.set_rate(rate)
        for name, parameter in network.named_parameters():
            held = step < frozen and name in TRUNK
            parameter.grad = None if held else parameter.detach() + 1
        solver.step()


def test_loaded_weights_learn_at_their_own_rate() -> None:
    torch.manual_seed(0)
    network = Small().double()
    before = {name: value.tolist() for name, value in _flat(network).items()}
    config = OptimizerConfig(momentum=0.9, weight_decay=0.1, loaded_lr_mult=0.25)
    rates = (0.1, 0.1, 0.01)
    stepped(network, solver_of(network, config, TRUNK), rates)
    for name, after in _flat(network).items():
        bias, norm = name in ("trunk.conv.bias", "head.bias"), ".bn." in name
        factor = (0.25 if name in TRUNK else 1.0) * (2.0 if bias else 1.0)
        decay = 0.0 if bias or norm else 0.1
        for value, found in zip(before[name], after.tolist(), strict=True):
            history = 0.0
            for rate in rates:
                history = 0.9 * history + factor * rate * (value + 1 + decay * value)
                value -= history
            assert found == pytest.approx(value, rel=1e-12)


def _flat(network: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().flatten() for name, one in network.named_parameters()}


@pytest.mark.parametrize("kind", ["adam", "caffe_adam"])
def test_the_first_update_after_a_frozen_stage_is_a_first_update(kind: str) -> None:
    torch.manual_seed(0)
    network = Small().double()
    before = _flat(network)["trunk.conv.weight"].clone()
    config = OptimizerConfig(kind=kind, weight_decay=0.0)
    stepped(network, solver_of(network, config, TRUNK), (0.1,) * 51, frozen=50)
    moved = before - _flat(network)["trunk.conv.weight"]
    expected = [0.1 * math.copysign(1, value + 1) for value in before.tolist()]
    # m / (1 - b1) over the root of v / (1 - b2) is the gradient's sign.
    assert moved.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("step", [2, 6, 8])
def test_a_stopped_run_resumes_to_the_same_weights_without_the_file_it_began_with(
    others: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path, step: int
) -> None:
    start = shutil.copytree(first, tmp_path / "start")
    settings = "optimizer.loaded_lr_mult=0.1", "optimizer.average_decay=0.9"
    config = tuned(tiny_overrides, start, FROZEN, *settings)
    train(config, others, tmp_path / "whole")
    train(config, others, tmp_path / "parts", reporter=Interruption(step))
    shutil.rmtree(start)
    train(config, others, tmp_path / "parts", resume=True)
    parts = [load_checkpoint(tmp_path / name / CHECKPOINT_NAME) for name in ("whole", "parts")]
    assert equal(parts[0].model, parts[1].model)
    assert parts[0].trained_images == parts[1].trained_images
    assert parts[0].training["loaded"] == parts[1].training["loaded"]


def test_a_run_of_an_earlier_version_resumes_as_it_was(
    people: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path
) -> None:
    config = resolve_config(RECIPE, None, tiny_overrides)
    train(config, people, tmp_path, reporter=Interruption(4))
    path = tmp_path / CHECKPOINT_NAME
    now = load_checkpoint(path)
    training = {key: value for key, value in now.training.items() if key != "loaded"}
    save_checkpoint(path, dataclasses.replace(now, training=training))
    train(config, people, tmp_path, resume=True)
    assert equal(weights_of(tmp_path), weights_of(first))


@pytest.mark.parametrize("loaded", [["fc9.weight"], [3], 3, [[]], "fc8"])
def test_damaged_names_of_loaded_arrays_are_one_line(
    people: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path, loaded: object
) -> None:
    now = load_checkpoint(first / CHECKPOINT_NAME)
    damaged = dataclasses.replace(now, training={**now.training, "loaded": loaded})
    save_checkpoint(tmp_path / CHECKPOINT_NAME, damaged)
    with pytest.raises(CheckpointError, match="training state is damaged"):
        train(now.config, people, tmp_path, resume=True)


def test_images_that_the_start_was_trained_on_are_still_refused(
    people: Path, others: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path
) -> None:
    short = ("stages.0.iterations=1", "stages.1.iterations=1")
    train(tuned(tiny_overrides, first, *short), others, tmp_path / "second")
    train(tuned(tiny_overrides, tmp_path / "second", *short), others, tmp_path / "third")
    trained = load_checkpoint(tmp_path / "third" / CHECKPOINT_NAME).trained_images
    assert trained is not None
    both = [*load_split("synthetic", people).train, *load_split("synthetic", others).train]
    assert trained.images == frozenset(image_hashes(both))
    root = shutil.copytree(others, tmp_path / "others")
    image = next((people / "bounding_box_train").glob("*.jpg"))
    shutil.copy(image, root / "bounding_box_test" / "0000_c1s1_099999_00.jpg")
    with (
        reid.load(tmp_path / "third", device="cpu") as model,
        pytest.raises(DataError, match=r"1 of the \d+ test images"),
    ):
        model.evaluate("synthetic", root)


def test_a_start_whose_training_images_are_not_known_is_named(
    tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path
) -> None:
    now = load_checkpoint(first / CHECKPOINT_NAME)
    save_checkpoint(tmp_path / "old.pt", dataclasses.replace(now, training={}))
    config = tuned(tiny_overrides, tmp_path / "old.pt")
    words = begin(config, build_configured_network(config, 8), 8).words
    assert "hashes" in words[1]
    assert "old.pt" in words[1]


def test_a_checkpoint_of_another_network_is_refused(
    tiny_overrides: tuple[str, ...], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    csn = dataclasses.replace(checkpoint, config=resolve_config("csn_cuhk01"))
    save_checkpoint(tmp_path / "csn.pt", csn)
    words = refusal(tuned(tiny_overrides, tmp_path / "csn.pt"))
    assert {"csn", "msp_cnn", "csn_cuhk01"} <= set(words.replace(",", "").replace(";", "").split())


def test_another_architecture_of_the_same_network_names_the_setting(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    theirs = resolve_config("csn_cuhk01")
    model = build_configured_network(theirs, 5).state_dict()
    save_checkpoint(
        tmp_path / "csn.pt", dataclasses.replace(checkpoint, config=theirs, model=model)
    )
    ours = resolve_config(
        "csn_cuhk01", None, ["network.levels=[3]", f"run.start_from={tmp_path / 'csn.pt'}"]
    )
    words = refusal(ours)
    assert "network.levels was (2, 3), is (3,)" in words
    assert "recipe csn_cuhk01" in words


def test_an_array_more_in_a_checkpoint_is_another_architecture(
    tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path
) -> None:
    now = load_checkpoint(first / CHECKPOINT_NAME)
    more = {**now.model, "neck.weight": torch.zeros(3)}
    save_checkpoint(tmp_path / "more.pt", dataclasses.replace(now, model=more))
    assert "neck.weight" in refusal(tuned(tiny_overrides, tmp_path / "more.pt"))


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["REID_TEST_TRAP"],)


def test_hostile_and_damaged_files_are_refused_without_running_code(
    tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap, path = tmp_path / "trap", tmp_path / "start.pt"
    monkeypatch.setenv("REID_TEST_TRAP", str(trap))
    body = torch.load(first / CHECKPOINT_NAME, weights_only=True)
    itself: dict[str, object] = {}
    itself["model"] = itself
    endless = {**body["model"], "fc7.bias": torch.full((256,), torch.inf)}
    for damaged, words in (
        ({**body, "training": _RunsCode()}, "more than tensors"),
        ({**body, "config": "recipe = 3"}, "damaged"),
        ({**body, "model": {**body["model"], "fc7.bias": 3}}, "missing fc7.bias"),
        ({**body, "model": endless}, "fc7.bias contains NaN or infinity"),
        ({**body, "training": {**body["training"], "image_hashes": 3}}, "image_hashes"),
        (itself, "not a state dict"),
    ):
        torch.save(damaged, path)
        shown = refusal(tuned(tiny_overrides, path))
        assert words in shown
        assert str(path) in shown or words == "image_hashes"
    path.write_bytes((first / CHECKPOINT_NAME).read_bytes()[:5000])
    assert "damaged" in refusal(tuned(tiny_overrides, path))
    assert "nowhere" in refusal(tuned(tiny_overrides, "nowhere"))
    assert str(tmp_path / CHECKPOINT_NAME) in refusal(tuned(tiny_overrides, tmp_path))
    assert not trap.exists()
    torch.save(itself, path)
    with pytest.raises(CheckpointError, match="not a state dict"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((FROZEN,), "freeze_loaded of stage 'one' leaves nothing .*new_classifier"),
        (("run.start_from=", FROZEN), "freeze_loaded of stage 'one' .*run.start_from"),
        (("run.start_from=", "optimizer.loaded_lr_mult=0.5"), "optimizer.loaded_lr_mult"),
        (("run.start_from=", "run.new_classifier=true"), "run.new_classifier"),
        (("optimizer.loaded_lr_mult=0",), "loaded_lr_mult must be above 0, found 0"),
        (("optimizer.loaded_lr_mult=inf",), "loaded_lr_mult must be above 0, found inf"),
        ((r'run.start_from="a\u001b[2J"',), "run.start_from .*control"),
        (
            (FROZEN, "run.new_classifier=true", "stages.0.loss_weights.softmax=0.0"),
            "stage 'one': freeze_loaded .*euclidean",
        ),
    ],
)
def test_settings_that_have_no_effect_or_leave_nothing_to_train_are_refused(
    people: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path,
    more: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    with pytest.raises(ConfigError, match=words) as caught:
        train(tuned(tiny_overrides, first, *more), people, tmp_path / "run")
    assert "\n" not in str(caught.value)


def sisnet(tmp_path: Path, *more: str) -> tuple[TrainConfig, nn.Module]:
    """A tiny SiSNet that begins with a backbone of random weights, and a new network."""
    config = resolve_config("sisnet_market1501_triplet", None, [*TINY_SISNET, *more])
    weights = build_configured_network(config, 3).get_submodule("backbone").state_dict()
    torch.save(weights, tmp_path / "backbone.pth")
    given = dataclasses.replace(config.network, pretrained=str(tmp_path / "backbone.pth"))  # type: ignore[call-arg]
    return dataclasses.replace(config, network=given), build_configured_network(config, 3)


def test_a_pretrained_backbone_counts_as_loaded_and_what_never_learns_never_does(
    tmp_path: Path,
) -> None:
    config, network = sisnet(tmp_path)
    start = begin(config, network, 3)
    expected = {name for name in network.state_dict() if name.startswith("backbone.")}
    assert start.names == expected
    loaded = LoadedWeights(network.train(), network.state_dict().keys() - {"classifier.weight"})
    for frozen in (True, False):
        loaded.freeze(frozen)
        named = dict(network.named_parameters())
        assert named["backbone.conv1.weight"].requires_grad is not frozen
        assert named["classifier.weight"].requires_grad
        assert not named["neck.bias"].requires_grad
        assert network.get_submodule("backbone.bn1").training is not frozen


def test_a_start_and_a_pretrained_backbone_at_once_are_refused(tmp_path: Path) -> None:
    config, _ = sisnet(tmp_path, "run.start_from=other.pt")
    words = refusal(config)
    assert "run.start_from" in words
    assert "network.pretrained" in words


def test_a_backbone_alone_is_no_start_of_the_whole_network(tmp_path: Path) -> None:
    _, _ = sisnet(tmp_path)
    config = resolve_config(
        "sisnet_market1501_triplet",
        None,
        [*TINY_SISNET, f"run.start_from={tmp_path / 'backbone.pth'}"],
    )
    assert "set network.pretrained" in refusal(config)


def test_a_frozen_backbone_of_sisnet_keeps_its_weights_and_statistics(
    people: Path, tmp_path: Path
) -> None:
    config, network = sisnet(tmp_path, FROZEN, "stages.0.iterations=2")
    begin(config, network, 3)
    before = {k: v for k, v in network.state_dict().items() if k.startswith("backbone.")}
    train(config, people, tmp_path / "run")
    after = weights_of(tmp_path / "run")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert after["neck.running_mean"].abs().sum() > 0


def test_two_processes_keep_what_is_frozen_and_end_with_one_network(
    others: Path, tiny_overrides: tuple[str, ...], first: Path, tmp_path: Path
) -> None:
    config = tuned(tiny_overrides, first, FROZEN, "optimizer.loaded_lr_mult=0.1")
    both = in_two_processes(config, others, tmp_path)
    assert equal(*both)
    (tmp_path / "frozen").mkdir()
    frozen = dataclasses.replace(config, stages=config.stages[:1])
    one, two = in_two_processes(frozen, others, tmp_path / "frozen")
    before = weights_of(first)
    assert equal(one, two)
    assert all(torch.equal(one[name], before[name]) for name in before.keys() - CLASSIFIER)


def test_frozen_statistics_are_not_averaged_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three processes with equal numbers, a sum divided by three can be another number."""
    network = Small()
    mean = network.trunk.bn.get_buffer("running_mean").copy_(torch.tensor([0.1, 0.7]))
    before = mean.clone()

    def summed(flat: Tensor) -> None:
        flat *= 3.5

    monkeypatch.setattr("reid.training.processes.dist.all_reduce", summed)
    loaded = LoadedWeights(network, ["trunk.bn.running_mean"])
    loaded.freeze(True)
    Processes(0, 3, 0).average_statistics(network)
    assert torch.equal(mean, before)
    loaded.freeze(False)
    Processes(0, 3, 0).average_statistics(network)
    assert not torch.equal(mean, before)


def test_nothing_to_begin_with_loads_nothing(tiny_overrides: tuple[str, ...]) -> None:
    config = resolve_config(RECIPE, None, tiny_overrides)
    assert begin(config, build_configured_network(config, 3), 3) == Start()
