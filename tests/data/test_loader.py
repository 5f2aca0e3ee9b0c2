from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.config.settings import AugmentConfig, SamplerConfig
from reid.data import loader as loader_module
from reid.data.batch import collate, normalised
from reid.data.images import read_image
from reid.data.loader import TrainLoader, default_num_workers
from reid.data.sampling.pair_sampler import PairSampler
from reid.data.sampling.samplers import sampler_from_config
from reid.errors import DataError
from reid.losses.batch import Batch
from reid.model_file.preprocess import Preprocess
from reid.types import ImageRecord

PREPROCESS = Preprocess(24, 14, 20, 10, mean=(102.0, 99.5, 101.0), std=(1.0, 57.3, 2.0))
AUGMENT = AugmentConfig(colour_jitter_std=0.1, erasing_probability=0.5)
OFF = AugmentConfig(random_crop=False, mirror_probability=0.0)
PAIRS = SamplerConfig(anchors_per_batch=4)


def write_people(folder: Path) -> list[ImageRecord]:
    """Five people, two cameras, two images each: noise of various sizes."""
    rng = np.random.default_rng(0)
    records = []
    for person in range(5):
        for view in range(4):
            path = folder / f"{person}_{view}.jpg"
            size = (20 + 3 * view, 11 + person, 3)
            assert cv2.imwrite(str(path), rng.integers(0, 256, size, np.uint8))
            records.append(ImageRecord(path, person, view % 2))
    return records


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    return write_people(tmp_path_factory.mktemp("people"))


def loader_of(
    records: list[ImageRecord],
    num_workers: int = 0,
    augment: AugmentConfig = AUGMENT,
    sampler: SamplerConfig = PAIRS,
) -> TrainLoader:
    plans = sampler_from_config(records, sampler, seed=7)
    return TrainLoader(records, PREPROCESS, augment, plans, num_workers)


def same(one: Batch, other: Batch) -> bool:
    tensors = zip(one[:-1], other[:-1], strict=True)
    return one.names == other.names and all(torch.equal(a, b) for a, b in tensors)


def all_same(one: Iterator[Batch] | list[Batch], other: Iterator[Batch] | list[Batch]) -> bool:
    return all(same(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_training_sees_the_very_numbers_that_the_deployed_path_computes(
    records: list[ImageRecord], order: str
) -> None:
    preprocess = Preprocess(24, 14, 20, 10, order, (102.0, 99.5, 101.0), (1.0, 57.3, 2.0))
    sampler = PairSampler(records, PAIRS, seed=0)
    for batch in TrainLoader(records, preprocess, OFF, sampler, 0).batches(0):
        for image, name in zip(batch.images.numpy(), batch.names, strict=True):
            np.testing.assert_array_equal(image, preprocess(read_image(name)))


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_a_batch_for_a_gpu_travels_as_bytes_and_becomes_the_very_same_numbers_there(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: batch)  # it needs a GPU
    preprocess = Preprocess(24, 14, 20, 10, order, (102.0, 99.5, 101.0), (1.0, 57.3, 2.0))
    sampler = PairSampler(records, PAIRS, seed=0)
    loaders = [
        TrainLoader(records, preprocess, AUGMENT, sampler, 0, for_gpu=for_gpu)
        for for_gpu in (False, True)
    ]
    for batch, sent in zip(*(loader.batches(0) for loader in loaders), strict=True):
        assert sent.images.dtype == torch.uint8
        arrived = sent._replace(images=normalised(sent.images, preprocess))
        assert same(arrived, batch)
        assert arrived.images.is_contiguous()
        assert normalised(batch.images, preprocess) is batch.images


@pytest.mark.parametrize("kind", ["pairs", "identities"])
def test_a_batch_says_what_its_plan_says(records: list[ImageRecord], kind: str) -> None:
    config = SamplerConfig(kind, 4, 2, identities_per_batch=3, images_per_identity=2)
    sampler = sampler_from_config(records, config, seed=7)
    batches = list(loader_of(records, sampler=config).batches(2))
    assert len(batches) == sampler.num_batches
    for batch, plan in zip(batches, sampler.epoch(2), strict=True):
        assert batch.images.shape == (len(plan.image_indices), 3, 20, 10)
        assert batch.images.dtype == torch.float32
        assert batch.names == tuple(str(records[i].path) for i in plan.image_indices)
        for field in ("labels", "anchors", "pair_first", "pair_second", "pair_same"):
            np.testing.assert_array_equal(getattr(batch, field).numpy(), getattr(plan, field))
        assert batch.labels.dtype == batch.pair_first.dtype == torch.int64
        assert batch.pair_same.dtype == torch.bool


def test_the_number_of_workers_changes_nothing(records: list[ImageRecord]) -> None:
    with closing(loader_of(records, 2)) as two, closing(loader_of(records, 0)) as none:
        for epoch in range(2):
            assert all_same(two.batches(epoch), none.batches(epoch))
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resuming_gives_the_batches_of_the_run_that_did_not_stop(
    records: list[ImageRecord], num_workers: int
) -> None:
    whole = list(loader_of(records).batches(3))
    with closing(loader_of(records, num_workers)) as resumed:
        assert all_same(whole[2:], resumed.batches(3, start_batch=2))
        assert list(resumed.batches(3, start_batch=len(whole))) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_abandoned_epoch_does_not_leak_into_the_next(
    records: list[ImageRecord], num_workers: int
) -> None:
    expected = list(loader_of(records).batches(1))
    with closing(loader_of(records, num_workers)) as loader:
        abandoned = loader.batches(0)
        next(abandoned)
        assert all_same(expected, loader.batches(1))
        assert list(abandoned) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_generator_of_the_dropout_alone(
    records: list[ImageRecord], num_workers: int
) -> None:
    before = torch.get_rng_state()
    with closing(loader_of(records, num_workers)) as loader:
        list(loader.batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_size_shrinks_every_image_of_the_batch(records: list[ImageRecord]) -> None:
    batch = next(loader_of(records, augment=OFF).batches(0, image_size=(12, 6)))
    assert batch.images.shape[1:] == (3, 12, 6)
    crop = PREPROCESS.crop(PREPROCESS.resize(read_image(batch.names[0])))
    small = cv2.resize(crop, (6, 12), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(batch.images[0].numpy(), PREPROCESS.normalise(small))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_truncated_image_is_named_in_one_line(tmp_path: Path, num_workers: int) -> None:
    records = write_people(tmp_path)
    broken = records[9].path
    broken.write_bytes(broken.read_bytes()[:100])
    with closing(loader_of(records, num_workers)) as loader:
        with pytest.raises(DataError) as caught:
            list(loader.batches(0))
        assert broken.name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "Traceback" not in str(caught.value)


def test_a_worker_that_dies_is_reported_in_one_line_and_interrupts_nothing_else(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "read_image", lambda path: os._exit(3))
    with closing(loader_of(records, 1)) as loader:
        with pytest.raises(DataError, match=r"worker died .*data\.num_workers") as caught:
            list(loader.batches(0))
        assert "\n" not in str(caught.value)
    handler = signal.getsignal(signal.SIGCHLD)  # torch's would raise in the main thread
    assert not getattr(handler, "__module__", "").startswith("torch")


def test_a_start_beyond_the_epoch_is_refused(records: list[ImageRecord]) -> None:
    with pytest.raises(ValueError, match=r"start_batch must be in 0\.\.5, found 6"):
        loader_of(records).batches(0, start_batch=6)


def test_collating_refuses_a_plan_with_other_images(records: list[ImageRecord]) -> None:
    plan = PairSampler(records, PAIRS, seed=0).epoch(0)[0]
    with pytest.raises(ValueError, match="must agree in number"):
        collate(plan, np.zeros((1, 20, 10, 3), np.uint8), ("a.jpg",), PREPROCESS)


def test_a_batch_keeps_its_names_on_another_device(records: list[ImageRecord]) -> None:
    batch = next(loader_of(records).batches(0))
    moved = batch.to("meta")
    assert moved.names == batch.names
    assert all(tensor.device.type == "meta" for tensor in moved[:-1])


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, 1, 0), (2, 1, 0), (4, 1, 3), (16, 8, 0), (64, 2, 8)]
)
def test_workers_are_chosen_from_the_cores_of_this_process(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_num_workers() == workers
