"""How many operations a training step starts: on a GPU each is a launch, and few are worth one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reid.config.toml import resolve_config
from reid.data import load_split
from reid.losses.cross_correlation import _kept_mean, pairs_at_a_time
from reid.losses.patch_matching import Search
from reid.training.loop import _update
from reid.training.processes import Processes
from reid.training.run import TrainingRun, start_run

SEARCH = Search(patch=5, rows=5, sigma_eps=0.01, outside_rows=True)


class Operations(TorchDispatchMode):
    """Counts every operation, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        self.counts[operation.overloadpacket.__name__] += 1
        return operation(*arguments, **(named or {}))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    mode = Operations()
    with mode:
        yield mode.counts


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


def test_the_cross_correlation_loss_starts_as_many_operations_for_many_pairs_as_for_few() -> None:
    """On the meta device, which computes nothing and takes the path of a GPU."""

    def started(num_pairs: int, chunk: int) -> int:
        maps = torch.zeros(8, 32, 72, 28, device="meta", requires_grad=True)
        pairs = torch.zeros(num_pairs, dtype=torch.int64, device="meta")
        with counted() as counts:
            mean, _ = _kept_mean(maps, pairs, pairs, lambda score: score > 0, SEARCH, chunk)
            torch.autograd.backward(mean)
        return counts.total()

    assert started(8, 8) == started(96, 96) < 800
    assert pairs_at_a_time(torch.zeros(1, 1, 8, 8, device="meta"), SEARCH) > 1
