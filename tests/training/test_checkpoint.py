"""Checkpoints load without running code, and say what is wrong with those that do not."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.config.settings import TrainConfig
from reid.data.readers.division import AskedSplit
from reid.errors import CheckpointError, ManifestError, ModelFileError, OutputError
from reid.evaluation.evaluating import split_as_trained
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.preprocess import Preprocess
from reid.models.msp_cnn.settings import MspCnnSettings
from reid.runtime import open_runner
from reid.training.checkpoint import (
    Checkpoint,
    build_configured_network,
    load_checkpoint,
    runner_from_checkpoint,
    save_checkpoint,
)

SMALL = Preprocess(resize_height=20, resize_width=10, crop_height=16, crop_width=8)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    config = TrainConfig(preprocess=SMALL)
    network = build_configured_network(config, 5)
    manifest = Manifest(network="msp_cnn", stage="train", preprocess=SMALL)
    return Checkpoint(config, manifest, 5, network.state_dict(), step=7, position=(1, 2, 3))


def test_a_checkpoint_reads_back_as_it_was_written(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    found = load_checkpoint(path)
    assert (found.config, found.manifest) == (checkpoint.config, checkpoint.manifest)
    assert (found.step, found.position, found.num_identities) == (7, (1, 2, 3), 5)
    assert all(torch.equal(found.model[key], value) for key, value in checkpoint.model.items())
    assert read_manifest(path).preprocess == SMALL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "checkpoint.pt.json"]


def test_the_manifest_of_the_checkpoint_before_it_is_not_believed(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is killed between the two renames."""
    people = tmp_path / "people"
    for person in range(8):
        for camera in (1, 2):
            (people / f"p{person}" / f"c{camera}").mkdir(parents=True)
            (people / f"p{person}" / f"c{camera}" / "a.png").touch()
    path = tmp_path / "checkpoint.pt"
    trained = [
        dataclasses.replace(
            checkpoint.manifest, dataset="folder", num_test_identities=4, split_seed=s
        )
        for s in (1, 2)
    ]
    save_checkpoint(path, dataclasses.replace(checkpoint, manifest=trained[0]))
    monkeypatch.setattr("reid.training.checkpoint.write_manifest", lambda *_: None)
    save_checkpoint(path, dataclasses.replace(checkpoint, manifest=trained[1]))
    assert load_checkpoint(path).manifest == trained[1]
    assert runner_from_checkpoint(path).manifest.split_seed == 2
    found, before, after = (
        {one.path for one in split_as_trained(path, "folder", people, AskedSplit(seed=seed)).query}
        for seed in (None, 1, 2)
    )
    assert found == after != before
    with pytest.raises(ManifestError, match=r"checkpoint\.pt\.json describes another file"):
        read_manifest(path)


def test_a_run_folder_opens_as_a_runner_with_unit_vectors(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    with open_runner(tmp_path, device="cpu") as runner:
        images = np.random.default_rng(0).normal(size=(3, 3, 16, 8)).astype(np.float32)
        vectors = runner.run({"data": images})["embedding"]
    assert vectors.shape == (3, 256)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["REID_TEST_TRAP"],)


def test_a_pickle_that_would_run_code_does_not_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("REID_TEST_TRAP", str(trap))
    for name, write in (("zip.pt", torch.save), ("plain.pt", _dump)):
        write({"format": _RunsCode()}, tmp_path / name)
        with pytest.raises(CheckpointError, match=rf"{name} is rejected"):
            load_checkpoint(tmp_path / name)
    assert not trap.exists()


def _dump(body: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(body))


def test_files_that_are_no_checkpoints_are_named_with_the_reason(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
            load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this toolkit"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="train first"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ModelFileError, match=r"no checkpoint\.pt in the folder"):
        open_runner(tmp_path / "..")


def test_random_bytes_changed_in_a_file_never_escape_as_another_error(tmp_path: Path) -> None:
    body = {"format": "reid-toolkit checkpoint 1", "model": {"a": torch.zeros(3)}}
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save(body, modern)
    torch.save(body, legacy, _use_new_zipfile_serialization=False)
    texts = (b"a text file\nof two lines", pickle.dumps({"format": [1, 2, "a"]}))
    originals = (modern.getvalue(), legacy.getvalue(), *texts)
    rng = random.Random(0)
    path = tmp_path / "checkpoint.pt"
    for _ in range(400):
        content = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        with pytest.raises(CheckpointError):  # even the whole ones lack a configuration
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", None),
        ("config", "a = " + "[" * 5000),
        ("manifest", 3),
        ("num_identities", float("inf")),
        ("num_identities", -3),
        ("num_identities", 10**12),
        ("position", [-1, 0, 0]),
        ("step", torch.zeros(3)),
    ],
)
def test_values_that_a_checkpoint_cannot_have_are_one_error(
    checkpoint: Checkpoint, tmp_path: Path, key: str, value: object
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    body = torch.load(path, weights_only=True)
    torch.save({**body, key: value}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt") as caught:
        runner_from_checkpoint(path, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "weight",
    [
        5,
        torch.zeros(32, 3, 3, 3, device="meta"),
        torch.zeros(32, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(1).expand(32, 3, 3, 3),
    ],
    ids=["number", "meta", "complex", "expanded"],
)
def test_a_weight_that_is_no_array_of_numbers_is_named(
    checkpoint: Checkpoint, tmp_path: Path, weight: object
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    body = torch.load(path, weights_only=True)
    body["model"]["conv1.conv.weight"] = weight
    torch.save(body, path)
    with pytest.raises(CheckpointError, match=r"conv1\.conv\.weight: "):
        runner_from_checkpoint(path, "cpu")


def test_a_manifest_of_another_network_than_the_configuration_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    other = Manifest(network="csn", stage="train", preprocess=SMALL)
    save_checkpoint(path, Checkpoint(checkpoint.config, other, 5, checkpoint.model))
    with pytest.raises(CheckpointError, match=r"configuration is of msp_cnn, its manifest of csn"):
        runner_from_checkpoint(path, "cpu")


def test_weights_of_another_network_are_listed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    model = dict(checkpoint.model)
    model["other.weight"] = model.pop("conv1.conv.weight")
    model["fc8.bias"] = torch.zeros(9)
    wrong = Checkpoint(checkpoint.config, checkpoint.manifest, 5, model)
    save_checkpoint(path, wrong)
    with pytest.raises(CheckpointError) as caught:
        runner_from_checkpoint(path, "cpu")
    words = str(caught.value)
    assert "missing conv1.conv.weight" in words
    assert "unexpected other.weight" in words
    assert "fc8.bias: expected (5,), found (9,)" in words


def test_a_size_that_only_the_file_claims_takes_no_memory(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, dataclasses.replace(checkpoint, num_identities=1_000_000))
    built: set[str] = set()

    def build(config: TrainConfig, num_identities: int) -> torch.nn.Module:
        network = build_configured_network(config, num_identities)
        built.update(weight.device.type for weight in network.parameters())
        return network

    monkeypatch.setattr("reid.training.checkpoint.build_configured_network", build)
    with pytest.raises(CheckpointError, match=r"fc8\.weight: expected \(1000000, 256\), found \(5"):
        runner_from_checkpoint(path)
    assert built == {"meta"}


def test_a_checkpoint_of_an_unknown_network_names_the_known_ones(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    config = TrainConfig(network=MspCnnSettings(name="alexnet"), preprocess=SMALL)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, Checkpoint(config, checkpoint.manifest, 5, checkpoint.model))
    with pytest.raises(CheckpointError, match="network 'alexnet'"):
        runner_from_checkpoint(path, "cpu")


def test_a_full_disk_leaves_the_old_checkpoint(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a device that is always full")
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()

    def full(path: Path, mode: int) -> tuple[Path, int]:
        temporary = path.with_name("on_a_full_disk")
        temporary.symlink_to("/dev/full")
        return temporary, os.open(temporary, os.O_RDWR)

    monkeypatch.setattr("reid.files._temporary_file", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_checkpoint(path, checkpoint)
    assert path.read_bytes() == before


def test_a_checkpoint_whose_signs_were_flipped_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    content = bytearray(path.read_bytes())
    tensor = checkpoint.model["fc7.weight"].numpy().tobytes()
    start = bytes(content).index(tensor)
    for place in range(start + 3, start + len(tensor), 4):
        content[place] ^= 0x80
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        load_checkpoint(path)


def test_no_flipped_byte_of_a_checkpoint_is_believed(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    small = dataclasses.replace(checkpoint, model={"w": torch.arange(64.0), "n": torch.ones(3)})
    save_checkpoint(path, small)
    content = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            found = load_checkpoint(path)
        except CheckpointError:
            continue
        assert (found.config, found.manifest, found.step) == (small.config, small.manifest, 7)
        assert all(torch.equal(found.model[key], value) for key, value in small.model.items())


def test_a_pipe_in_place_of_a_checkpoint_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        load_checkpoint(tmp_path / "checkpoint.pt")
