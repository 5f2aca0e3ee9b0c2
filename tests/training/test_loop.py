"""A run can be trusted: it resumes bit for bit, stops loudly, and shares work fairly."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reid.config.settings import TrainConfig
from reid.config.toml import config_to_toml, resolve_config
from reid.data import load_split
from reid.data.content import image_hashes
from reid.errors import CheckpointError, ConfigError, DataError, OutputError, TrainingError
from reid.locks import locked
from reid.model_file.opening import ModelFile
from reid.training.checkpoint import load_checkpoint, save_checkpoint
from reid.training.loop import _update, train
from reid.types import Split
from tests.heard import Heard, Interruption

RECIPE = "msp_cnn_synthetic"


def tiny(overrides: tuple[str, ...], *more: str) -> TrainConfig:
    return resolve_config(RECIPE, None, [*overrides, *more])


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoint.pt").model


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_configuration_checkpoint_log_and_curves(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny(tiny_overrides)
    result = train(config, people, tmp_path)
    assert (result.step, result.num_steps, result.interrupted) == (10, 10, False)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.toml", "checkpoint.pt", "checkpoint.pt.json", "log.csv", "curves.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.endswith(".part")]
    rows = rows_of(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    assert rows[0]["cross_correlation"] == ""
    assert float(rows[9]["cross_correlation"]) >= 0
    parts = [float(rows[9][name]) for name in ("softmax", "euclidean", "cross_correlation")]
    assert float(rows[9]["loss"]) == pytest.approx(sum(parts), rel=1e-4)
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    assert checkpoint.config == config
    assert checkpoint.step == 10
    trained = checkpoint.trained_images
    assert trained is not None
    assert trained.images == frozenset(image_hashes(load_split("synthetic", people).train))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [4, 8])
def test_stopping_and_resuming_gives_the_same_weights_bit_for_bit(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, step: int, workers: int
) -> None:
    config = tiny(tiny_overrides, f"data.num_workers={workers}")
    train(config, people, tmp_path / "whole")
    stopped = train(config, people, tmp_path / "parts", reporter=Interruption(step))
    assert (stopped.interrupted, stopped.step) == (True, step)
    resumed = train(config, people, tmp_path / "parts", resume=True)
    assert not resumed.interrupted
    assert equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))
    parts = [load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts")]
    assert parts[0].trained_images == parts[1].trained_images is not None
    rows = rows_of(tmp_path / "parts")
    assert [int(row["step"]) for row in rows] == list(range(1, 11))


def test_a_killed_process_resumes_to_the_same_weights(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    overrides = [*tiny_overrides, "run.checkpoint_every_s=0", "stages.0.iterations=12"]
    config = resolve_config(RECIPE, None, overrides)
    train(tiny(tiny_overrides, "stages.0.iterations=12"), people, tmp_path / "whole")
    out = tmp_path / "killed"
    options = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "reid.cli", "train", RECIPE, "--data-root", str(people)]
    child = subprocess.Popen(
        [*command, "--out", str(out), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    child.wait()
    train(config, people, out, resume=True)
    assert equal(weights_of(tmp_path / "whole"), weights_of(out))


def test_another_seed_gives_other_weights(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(tiny(tiny_overrides), people, tmp_path / "a")
    train(tiny(tiny_overrides, "run.seed=1"), people, tmp_path / "b")
    assert not equal(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny(tiny_overrides, "stages.0.base_lr=1e30")
    with pytest.raises(TrainingError, match=r"step \d+ \(stage one\).*not finite.*\.jpg"):
        train(config, people, tmp_path)


def test_gradients_accumulate_over_iter_size_passes(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(tiny(tiny_overrides, "optimizer.iter_size=2"), people, tmp_path)
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    assert (checkpoint.step, checkpoint.position[2]) == (10, 20)


def test_gradients_that_are_limited_to_almost_nothing_move_nothing(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    settings = {
        "limited": ("optimizer.weight_decay=0.0", "optimizer.clip_gradients=1e-9"),
        "still": ("stages.0.base_lr=1e-20", "stages.1.base_lr=1e-20"),
    }
    for name, overrides in settings.items():
        train(tiny(tiny_overrides, *overrides), people, tmp_path / name)
    limited, still = (weights_of(tmp_path / name)["fc7.weight"] for name in settings)
    torch.testing.assert_close(limited, still, rtol=0, atol=1e-9)


def test_data_without_anybody_to_train_on_is_refused_before_anything_is_measured(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_without_training(*args: Any, **options: Any) -> Split:
        return dataclasses.replace(load_split(*args, **options), train=())

    monkeypatch.setattr("reid.data.readers.joint.load_split", load_without_training)
    with pytest.raises(DataError, match="at least two identities, found 0"):
        train(tiny(tiny_overrides, "run.precision=auto"), people, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_with_fewer_images_is_refused(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(tiny(tiny_overrides), people, tmp_path)

    def load_fewer(*args: Any, **options: Any) -> Split:
        split = load_split(*args, **options)
        return dataclasses.replace(split, train=split.train[1:])

    monkeypatch.setattr("reid.data.readers.joint.load_split", load_fewer)
    with pytest.raises(CheckpointError, match=r"trained on \d+ images, the data has \d+"):
        train(tiny(tiny_overrides), people, tmp_path, resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        {"arithmetic": {"device": "cpu"}},
        {"arithmetic": {"device": "cpu", "precision": "int3", "channels_last": False}},
        {"solver": {}},
        {"losses": 3},
        {"world_size": "one"},
    ],
    ids=str,
)
def test_a_damaged_training_state_is_one_error(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, damage: dict[str, Any]
) -> None:
    config = tiny(tiny_overrides, "stages.0.iterations=1", "stages.1.iterations=1")
    train(config, people, tmp_path)
    whole = load_checkpoint(tmp_path / "checkpoint.pt")
    broken = dataclasses.replace(whole, training={**whole.training, **damage})
    save_checkpoint(tmp_path / "checkpoint.pt", broken)
    with pytest.raises(CheckpointError, match="training state is damaged"):
        train(config, people, tmp_path, resume=True)


def test_a_history_of_other_sizes_than_its_parameter_is_damage(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny(tiny_overrides, "stages.0.iterations=1", "stages.1.iterations=1")
    train(config, people, tmp_path)
    whole = load_checkpoint(tmp_path / "checkpoint.pt")
    whole.training["solver"]["state"][0]["history"] = torch.zeros(3)
    save_checkpoint(tmp_path / "checkpoint.pt", whole)
    with pytest.raises(CheckpointError, match=r"training state is damaged.*history: expected"):
        train(config, people, tmp_path, resume=True)


def test_a_folder_that_holds_a_run_is_not_overwritten(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(tiny(tiny_overrides), people, tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(OutputError, match="--resume, or choose another folder"):
        train(tiny(tiny_overrides), people, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_resuming_with_other_settings_names_the_first_that_differs(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(tiny(tiny_overrides), people, tmp_path)
    with pytest.raises(ConfigError, match=r"optimizer\.momentum was 0\.9, is 0\.5"):
        train(tiny(tiny_overrides, "optimizer.momentum=0.5"), people, tmp_path, resume=True)
    free = ("run.log_every=3", "run.keep_freed_memory=off")
    train(tiny(tiny_overrides, *free), people, tmp_path, resume=True)


def test_a_processor_is_asked_to_keep_freed_memory_as_the_setting_says(
    tiny_overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("reid.training.loop.keep_freed_memory", asked.append)
    config = tiny(tiny_overrides, "run.device=cpu", "run.keep_freed_memory=off")
    with pytest.raises(DataError):
        train(config, tmp_path, tmp_path / "run")
    assert asked == ["off"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.0.loss_weights.softmaxx=1", "did you mean 'softmax'"),
        ("stages.0.loss_weights.softmax=-1", "softmax must be 0 or above"),
        ("stages.0.loss_weights={softmax=0.0}", "has no loss with a weight above 0"),
        ("network.name=msp_cmn", "did you mean 'msp_cnn'"),
        ("preprocess.crop_width=4", "at least 16x8"),
        ("run.precision=fp16", "trains on CUDA only"),
        ("run.seed=-1", "run.seed must be from 0"),
        ("optimizer.iter_size=0", "iter_size must be at least 1"),
        ("losses.label_smoothing=1.5", r"label_smoothing must be in \[0, 1\]"),
        ("losses.correlation_rows=4", "correlation_rows must be odd"),
        ("stages=[]", "nothing to train"),
    ],
)
def test_settings_that_cannot_train_are_refused_before_the_folder_is_made(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tiny(tiny_overrides, override), people, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_output_folder_below_a_file_is_an_output_error(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        train(tiny(tiny_overrides), people, tmp_path / "file" / "run")


def in_two_processes(
    config: TrainConfig, people: Path, folder: Path
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Train with torchrun and two processes into ``folder/run``; each process's weights."""
    script = folder / "both.py"
    script.write_text(
        "import os, sys, torch\n"
        "from pathlib import Path\n"
        "from reid.training import loop\n"
        "from reid.training import run as training_run\n"
        "from reid.config.toml import config_from_toml\n"
        "runs = []\n"
        "start = training_run.start_run\n"
        "def keep(*args):\n"
        "    run, words = start(*args)\n"
        "    runs.append(run)\n"
        "    return run, words\n"
        "loop.start_run = keep\n"
        "config = config_from_toml(Path(sys.argv[1]).read_text(), 'test')\n"
        "loop.train(config, Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "rank = runs[0].processes.rank\n"
        "cores = str(sorted(os.sched_getaffinity(0)))\n"
        "Path(f'{sys.argv[3]}/cores{rank}').write_text(cores)\n"
        "torch.save(runs[0].network.state_dict(), f'{sys.argv[3]}/rank{rank}.pt')\n"
    )
    (folder / "config.toml").write_text(config_to_toml(config))
    out = folder / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    arguments = [str(script), str(folder / "config.toml"), str(people), str(out)]
    subprocess.run(
        [*launcher, "--standalone", *arguments],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    first, second = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


def test_two_processes_share_the_work_and_end_with_one_network(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny(tiny_overrides)
    first, second = in_two_processes(config, people, tmp_path)
    assert equal(first, second)
    if len(cores := sorted(os.sched_getaffinity(0))) > 1:
        halves = [(tmp_path / "run" / f"cores{rank}").read_text() for rank in (0, 1)]
        assert halves == [str(cores[: len(cores) // 2]), str(cores[len(cores) // 2 :])]
    (tmp_path / "saving").mkdir()
    often = tiny(tiny_overrides, "run.checkpoint_every_s=0")
    assert equal(first, in_two_processes(often, people, tmp_path / "saving")[0])
    assert equal(first, weights_of(tmp_path / "run"))
    train(config, people, tmp_path / "alone")
    assert not equal(first, weights_of(tmp_path / "alone"))


def test_a_second_training_into_one_folder_is_refused_by_name(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with locked(out / ".training.lock"):
        for resume in (False, True):
            with pytest.raises(OutputError, match=rf"process {os.getpid()} on"):
                train(tiny(tiny_overrides), people, out, resume=resume)
    assert [path.name for path in out.iterdir()] == [".training.lock"]


def test_weights_that_diverged_are_not_saved_and_a_lower_rate_goes_on_from_the_good_ones(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("reid.training.loop._update", _nan_after(_update))
        with pytest.raises(TrainingError, match=r"base_lr"):
            train(tiny(tiny_overrides), people, tmp_path / "diverged")
    kept = ModelFile.at(tmp_path / "diverged").checkpoint
    assert kept.step == 0
    assert all(
        bool(torch.isfinite(v).all()) for v in kept.model.values() if v.dtype.is_floating_point
    )
    lower = tiny(tiny_overrides, "stages.0.base_lr=0.0001", "stages.0.lr_policy=fixed")
    heard = Heard()
    result = train(lower, people, tmp_path / "diverged", resume=True, reporter=heard)
    assert result.step == result.num_steps
    assert any("stages.0.base_lr" in line for line in heard.said)
    with pytest.raises(ConfigError, match=r"run\.seed"):
        train(tiny(tiny_overrides, "run.seed=5"), people, tmp_path / "diverged", resume=True)


def _nan_after(update: Any) -> Any:
    """The same update, after which a weight is not a number."""

    def changed(run: Any, *arguments: Any) -> int:
        images: int = update(run, *arguments)
        with torch.no_grad():
            next(run.network.parameters()).fill_(torch.nan)
        return images

    return changed


def test_a_run_killed_before_its_first_step_goes_on_with_the_arithmetic_of_its_start(
    people: Path,
    tiny_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    config = tiny(tiny_overrides, "run.channels_last=auto")

    def killed(*arguments: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        first.setattr("reid.training.loop._update", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, people, out)
    chosen = ModelFile.at(out).checkpoint.training["arithmetic"]

    def measured_anew(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the arithmetic was measured again")

    monkeypatch.setattr("reid.training.run.choose_arithmetic", measured_anew)
    train(config, people, out, resume=True)
    assert ModelFile.at(out).checkpoint.training["arithmetic"] == chosen
