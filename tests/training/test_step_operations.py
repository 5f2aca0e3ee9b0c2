"""How many operations a training step starts: on a GPU each is a launch, and few are worth one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reid.config.toml import resolve_config
from reid.data import load_split
from reid.data.batch import normalised
from reid.losses.batch import Batch
from reid.losses.cross_correlation import _kept_means, pairs_at_a_time
from reid.losses.patch_matching import Search
from reid.training.checkpoint import build_configured_network
from reid.training.loop import _update
from reid.training.objectives import active_losses, objective_of
from reid.training.processes import Processes
from reid.training.run import TrainingRun, start_run
from reid.training.solver import solver_of
from tests.operations import Waits, counted

SEARCH = Search(patch=5, rows=5, sigma_eps=0.01, outside_rows=True)


@pytest.fixture
def meta_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device computes nothing and takes the path of a GPU; it has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


@pytest.fixture
def run(people: Path, tiny_overrides: tuple[str, ...]) -> Iterator[TrainingRun]:
    settings = [*tiny_overrides, "data.num_workers=0", "stages.0.iterations=12"]
    config = resolve_config("msp_cnn_synthetic", None, settings)
    made, _ = start_run(config, load_split("synthetic", people).train, Processes(), None)
    yield made
    made.close()


def test_a_step_starts_few_operations_and_reads_its_losses_at_once(run: TrainingRun) -> None:
    stage = run.config.stages[0]
    batches = run.endless_batches(stage)
    _update(run, stage, 0.01, batches)
    with counted() as counts:
        _update(run, stage, 0.01, batches)
    assert counts.total() < 1100  # 950; a third of them are copies that counting itself brings
    assert counts["_local_scalar_dense"] <= 1


def test_a_step_normalises_the_bytes_of_a_batch_for_a_gpu(run: TrainingRun) -> None:
    batch = next(run.endless_batches(run.config.stages[0]))
    num, _, height, width = batch.images.shape
    crops = torch.randint(0, 256, (num, height, width, 3), dtype=torch.uint8)
    found = run.on_device(batch._replace(images=crops)).images
    expected = run.config.preprocess.normalise(crops.numpy())
    assert torch.equal(found, torch.from_numpy(expected))
    assert torch.equal(run.on_device(batch).images, batch.images)


RECIPES = {
    "msp_cnn_market1501": (160, 64),
    "csn_cuhk01": (160, 60),
    "csn_cuhk01_tuned": (160, 60),
    "sisnet_market1501": (64, 32),
}


@pytest.mark.usefixtures("meta_as_gpu")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_on_a_gpu_never_waits_before_its_losses_are_read(recipe: str) -> None:
    config = resolve_config(recipe, None, ["run.precision=fp32", "run.channels_last=off"])
    network = build_configured_network(config, 3).to("meta").train()
    solver = solver_of(network, config.optimizer)
    stage = config.stages[-1]
    objective, _ = objective_of(config.network, config.stages)
    crops = torch.zeros(6, *RECIPES[recipe], 3, dtype=torch.uint8, device="meta")
    slots = torch.arange(6, device="meta")
    batch = Batch(crops, slots, slots % 2, slots, slots[:4], slots[2:], slots[:4] > 1, ("",) * 6)
    with Waits() as waits:
        images = normalised(batch.images, config.preprocess)
        losses = objective(
            network, batch._replace(images=images), config.losses, active_losses(stage)
        )
        total = torch.stack([stage.loss_weights[name] * loss for name, loss in losses.items()])
        torch.autograd.backward(total.sum())
        solver.step()
    assert waits.names == []
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "wait"),
    [
        ("nonzero", lambda x: x.nonzero()),
        ("index", lambda x: x[x > 0]),
        ("_local_scalar_dense", lambda x: x.sum().item()),
        ("_to_copy", lambda x: torch.zeros(3).to(x.device)),
    ],
)
def test_an_operation_that_waits_is_found(name: str, wait: Callable[[Tensor], Any]) -> None:
    with Waits() as waits, suppress(RuntimeError, NotImplementedError):
        wait(torch.zeros(3, device="meta"))
    assert name in waits.names


def test_the_mean_and_scale_of_pixels_are_copied_to_a_device_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preprocess = resolve_config("msp_cnn_market1501", None, ["preprocess.mean=[1,2,3]"]).preprocess
    crops = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    expected = normalised(crops, preprocess)
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("copied again"))
    assert torch.equal(normalised(crops, preprocess), expected)


def test_the_cross_correlation_loss_starts_as_many_operations_for_many_pairs_as_for_few() -> None:
    """On the meta device, which computes nothing and takes the path of a GPU."""

    def started(num_pairs: int, chunk: int) -> int:
        maps = torch.zeros(8, 32, 72, 28, device="meta", requires_grad=True)
        pairs = torch.zeros(num_pairs, dtype=torch.int64, device="meta")
        with counted() as counts:
            means, _ = _kept_means(
                maps, pairs, pairs, pairs > 0, lambda score, _: score > 0, SEARCH, chunk
            )
            torch.autograd.backward(means.sum())
        return counts.total()

    assert started(8, 8) == started(96, 96) < 800
    assert pairs_at_a_time(torch.zeros(1, 1, 8, 8, device="meta"), SEARCH) > 1
