"""A Caffe solver as settings: its policies rate by rate, and what is refused."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

import reid.training.loop
from reid.caffe import reference
from reid.caffe.schema import SolverParameter
from reid.caffe.solver import settings_from_solver, settings_from_solver_file
from reid.caffe.text import parse_into
from reid.cli import main
from reid.config.settings import StageConfig, TrainConfig
from reid.config.toml import load_recipe, resolve_config
from reid.errors import CaffeError, TrainingError
from reid.training.schedule import learning_rate

RECIPE = "msp_cnn_cuhk01"
MINIMAL = 'base_lr: 0.1 max_iter: 100 lr_policy: "fixed" '
FIRST = "base_lr: 0.1 max_iter: 100 lr_policy: "


def solver(text: str) -> SolverParameter:
    """The solver that a text is."""
    message = SolverParameter()
    parse_into(message, text, "solver")
    return message


def rates(text: str) -> list[float]:
    """The rate of each iteration in a stage with the solver's settings."""
    stage: Any = settings_from_solver(solver(text), "solver").stage
    config = StageConfig(**stage, loss_weights={"softmax": 1.0})
    return [learning_rate(config, i, config.iterations) for i in range(config.iterations)]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ('"fixed"', lambda i: 0.1),
        ('"step" gamma: 0.1 stepsize: 30', lambda i: 0.1 * 0.1 ** (i // 30)),
        (
            '"stepdecr" gamma: 0.04 stepsize: 3 min_lr: 0.0005',
            lambda i: max(0.0005, 0.1 * (1 - 0.04 * (i // 3))),
        ),
        ('"exp" gamma: 0.99', lambda i: 0.1 * 0.99**i),
        ('"poly" power: 1', lambda i: 0.1 * (1 - i / 100)),
        ('"poly" power: 0.5', lambda i: 0.1 * math.sqrt(1 - i / 100)),
        ('"poly" power: 0', lambda i: 0.1),
        ('"inv" gamma: 0.01 power: 0.75', lambda i: 0.1 / (1 + 0.01 * i) ** 0.75),
        ('"sigmoid" gamma: 0.2 stepsize: 40', lambda i: 0.1 / (1 + math.exp(-0.2 * (i - 40)))),
        ('"sigmoid" gamma: 1e4 stepsize: 40', lambda i: 0.1 * ((i > 40) + 0.5 * (i == 40))),
        (
            '"multistep" gamma: 0.5 stepvalue: 7 stepvalue: 33 stepvalue: 99',
            lambda i: 0.1 * 0.5 ** ((i >= 7) + (i >= 33) + (i >= 99)),
        ),
        ('"multistep" gamma: 0.5 stepvalue: 0', lambda i: 0.05),
        (
            '"multistep" gamma: 0.5 stepvalue: 40 stepvalue: 80 stepvalue: 500',
            lambda i: 0.1 * 0.5 ** ((i >= 40) + (i >= 80)),
        ),
        ('"multistep" gamma: 0.5 stepvalue: 200', lambda i: 0.1),
    ],
)
def test_a_policy_gives_caffes_rate_at_every_iteration(text: str, rate: Any) -> None:
    assert rates(FIRST + text) == pytest.approx([rate(i) for i in range(100)], rel=1e-6)


def test_numbers_are_those_of_the_file() -> None:
    found = settings_from_solver(
        solver(MINIMAL + "momentum: 0.9 weight_decay: 0.0005 iter_size: 2"), "solver"
    )
    assert found.stage["base_lr"] == 0.1
    assert found.stage["iterations"] == 100
    assert found.optimizer == {
        "kind": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False, "iter_size": 2,
        "clip_gradients": 0.0,
    }  # fmt: skip


def test_what_is_left_out_has_caffes_default() -> None:
    found = settings_from_solver(solver(MINIMAL), "solver").optimizer
    assert found == {
        "kind": "sgd", "momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "iter_size": 1,
        "clip_gradients": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("text", ['type: "Nesterov"', "solver_type: NESTEROV"])
def test_nesterovs_solver_is_taken(text: str) -> None:
    assert settings_from_solver(solver(MINIMAL + text), "solver").optimizer["nesterov"]


@pytest.mark.parametrize("text", ['type: "Adam"', "solver_type: ADAM"])
def test_adam_is_taken_with_its_own_numbers(text: str) -> None:
    found = settings_from_solver(solver(f"{MINIMAL} {text} momentum: 0.8 delta: 1e-3"), "solver")
    expected = {"kind": "caffe_adam", "momentum": 0.8, "momentum2": 0.999, "delta": 1e-3}
    assert {key: found.optimizer[key] for key in expected} == expected
    assert found.unused == ()


def test_adams_numbers_are_not_used_by_another_solver() -> None:
    text = MINIMAL + "momentum2: 0.9 delta: 1e-3 clip_gradients: 35"
    found = settings_from_solver(solver(text), "solver")
    assert found.optimizer["clip_gradients"] == 35
    assert set(found.unused) == {"momentum2", "delta"}


def test_a_limit_below_zero_is_no_limit() -> None:
    found = settings_from_solver(solver(MINIMAL + "clip_gradients: -1"), "solver")
    assert found.optimizer["clip_gradients"] == 0


def test_what_finds_no_use_is_named_once() -> None:
    text = MINIMAL + 'net: "n" snapshot: 5 test_iter: 1 test_iter: 2 train_state { stage: "s" }'
    unused = settings_from_solver(solver(text), "solver").unused
    assert unused == ("snapshot", "net", "test_iter", "train_state")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "base_lr and max_iter above 0, found 0 and 0"),
        ("base_lr: nan max_iter: 5", "a finite base_lr, found nan"),
        (FIRST + '"invert"', "multistep, poly, inv, sigmoid, found 'invert'"),
        (FIRST + '"inv" power: 1', "inv needs gamma above 0, found 0"),
        (FIRST + '"inv" gamma: 0.1', "inv needs a power of 0 or more, found none"),
        (FIRST + '"inv" gamma: 0.1 power: -2', "inv needs a power of 0 or more, found -2"),
        (FIRST + '"inv" gamma: 0.1 power: inf', "a finite power, found inf"),
        (FIRST + '"sigmoid" gamma: 0.1', "sigmoid needs stepsize above 0, found 0"),
        (FIRST + '"sigmoid" stepsize: 5', "sigmoid needs gamma above 0, found 0"),
        (FIRST + '"stepp"', "did you mean 'step'?"),
        (FIRST + '"step" gamma: 0.1', "step needs stepsize above 0, found 0"),
        (FIRST + '"step" stepsize: 5', "step needs gamma above 0, found 0"),
        (FIRST + '"poly"', "poly needs a power of 0 or more, found none"),
        (FIRST + '"multistep" gamma: 1', "multistep needs stepvalues, found none"),
        (FIRST + '"multistep" stepvalue: 5', "multistep needs gamma above 0, found 0"),
        (FIRST + '"multistep" gamma: 1 stepvalue: 30 stepvalue: 30', "ascending"),
        (FIRST + '"multistep" gamma: 1 stepvalue: 50 stepvalue: 30', "found 50, 30"),
        (FIRST + '"multistep" gamma: 1 stepvalue: -1', "0 or more, found -1"),
        (MINIMAL + "momentum: 1", "momentum in [0, 1)"),
        (MINIMAL + "iter_size: 0", "iter_size of 1"),
        (
            MINIMAL + 'weight_decay: 1 regularization_type: "L1"',
            "regularization_type L2, found 'L1'",
        ),
        (MINIMAL + 'type: "AdaGrad"', "type SGD, Nesterov or Adam, found 'AdaGrad'"),
        (MINIMAL + "solver_type: RMSPROP", "type SGD, Nesterov or Adam, found 'RMSPROP'"),
        (MINIMAL + 'type: "Adam" momentum2: 1', "momentum2 in [0, 1)"),
        (MINIMAL + 'type: "Adam" delta: 0', "delta above 0"),
        (MINIMAL + "clip_gradients: 0", "clip_gradients 0"),
        (MINIMAL + "clip_gradients: inf", "a finite clip_gradients"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(CaffeError) as caught:
        settings_from_solver(solver(text), "solver")
    assert str(caught.value).startswith("solver: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_solver_with_changed_bytes_is_followed_or_refused_in_one_line(tmp_path: Path) -> None:
    data, rng = reference("msp_cnn_solver").read_bytes(), random.Random(0)
    path = tmp_path / "solver.prototxt"
    start = data.index(b"net:")  # behind the comments
    refusals = []
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(start, len(data))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            settings_from_solver_file(path, lambda line: None)
        except CaffeError as error:
            refusals.append(str(error))
    assert 500 < len(refusals) < 1000
    assert not any("\n" in line for line in refusals)


def test_thousands_of_stepvalues_are_refused() -> None:
    text = FIRST + '"multistep" gamma: 1 ' + " ".join(f"stepvalue: {i}" for i in range(2000))
    with pytest.raises(CaffeError, match="at most 1000 stepvalues, found 2000"):
        settings_from_solver(solver(text), "solver")


def test_a_solver_of_sgd_replaces_the_adam_of_a_recipe() -> None:
    taken = settings_from_solver(solver(MINIMAL), "solver")
    config = resolve_config("csn_cuhk01", optimizer=taken.optimizer, first_stage=taken.stage)
    assert load_recipe("csn_cuhk01").optimizer.kind == "adam"
    assert config.optimizer.kind == "sgd"


def test_a_solver_stands_between_the_recipe_and_the_config(tmp_path: Path) -> None:
    taken = settings_from_solver(solver(MINIMAL + "momentum: 0.5 iter_size: 4"), "solver")
    file = tmp_path / "mine.toml"
    file.write_text("[optimizer]\niter_size = 3\n")
    config = resolve_config(
        RECIPE,
        file,
        ["stages.0.base_lr=0.3"],
        optimizer=taken.optimizer,
        first_stage=taken.stage,
    )
    recipe = load_recipe(RECIPE)
    first = config.stages[0]
    assert (first.iterations, first.lr_policy, first.base_lr) == (100, "fixed", 0.3)
    assert (first.name, first.loss_weights) == (
        recipe.stages[0].name,
        recipe.stages[0].loss_weights,
    )
    assert config.stages[1:] == recipe.stages[1:]
    assert (config.optimizer.momentum, config.optimizer.iter_size) == (0.5, 3)
    assert math.isclose(config.optimizer.bias_lr_mult, 2.0)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The configurations that training was called with; it stops there."""
    seen: list[TrainConfig] = []

    def stop(config: TrainConfig, *_: object, **__: object) -> None:
        seen.append(config)
        raise TrainingError("far enough")

    monkeypatch.setattr(reid.training.loop, "train", stop)
    return seen


def test_train_takes_a_solver_and_says_what_it_took(
    tmp_path: Path, trained: list[TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "solver.prototxt"
    file.write_text(MINIMAL + 'momentum: 0.8 display: 20 odd { x: 1 } type: "SGD"')
    folders = ["--data-root", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main(["train", RECIPE, *folders, "--solver", str(file)]) == 1
    shown = capsys.readouterr()
    assert trained[0].stages[0].iterations == 100
    assert trained[0].optimizer.momentum == 0.8
    assert f"{file}, for the first stage: iterations 100" in shown.err
    assert f"{file}: not used: display, odd\n" in shown.err
    assert shown.out == ""


def test_a_solver_that_is_none_is_one_line(
    tmp_path: Path, trained: list[TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "solver.prototxt"
    file.write_text("base_lr 0.1\n")
    folders = ["--data-root", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main(["train", RECIPE, *folders, "--solver", str(file)]) == 1
    line = f"reid: error: {file}:1:9: expected ':' after base_lr, found '0.1'\n"
    assert capsys.readouterr().err == line
    assert trained == []
