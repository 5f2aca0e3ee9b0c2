"""From batch plans to batches: read, augment and normalise, ahead of the training step.

Reading and augmentation run in worker processes, or in a thread without workers; normalisation
runs in that thread, or on the GPU that trains: bytes are a quarter of the copy. The content of a
batch does not depend on this choice.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid.config.settings import AugmentConfig
from reid.data.augment import CopyKind, augment, shrunk
from reid.data.batch import collate
from reid.data.images import read_image
from reid.data.sampling.batch_plan import BatchPlan, Sampler
from reid.errors import DataError
from reid.losses.batch import Batch
from reid.model_file.preprocess import Preprocess
from reid.types import Image, ImageRecord

_AHEAD = 2  # batches prepared in advance, and as many again in each worker
_MAX_WORKERS = 8


class TrainLoader:
    """The batches of a sampler, bit-identical for every number of workers.

    ``num_workers`` processes read and augment; 0 uses a thread; -1 chooses automatically (see
    ``default_num_workers``). ``for_gpu`` puts the batches in page-locked memory, and leaves their
    images uint8, for ``reid.data.batch.normalised`` on the GPU. Workers start with the first batch
    and run until ``close``.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        preprocess: Preprocess,
        augment_config: AugmentConfig,
        sampler: Sampler,
        num_workers: int = -1,
        for_gpu: bool = False,
    ) -> None:
        self._names = [str(record.path) for record in records]
        self._sampler, self._for_gpu = sampler, for_gpu
        self._preprocess = None if for_gpu else preprocess
        self._crops = _Crops(records, preprocess, augment_config)
        self.num_workers = default_num_workers() if num_workers < 0 else num_workers
        self._schedule = _Schedule()
        self._workers: DataLoader[Tensor | _Broken] | None = None
        self._running: Generator[Batch, None, None] | None = None

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return self._sampler.num_batches

    def batches(
        self, epoch: int, start_batch: int = 0, image_size: tuple[int, int] | None = None
    ) -> Iterator[Batch]:
        """The epoch's batches from ``start_batch`` on; a new call ends the previous iterator.

        ``image_size`` (height, width) shrinks the crops, for a coarse-to-fine schedule.
        Iterating raises DataError, naming the image, if one cannot be read. Raises ValueError
        if ``start_batch`` is beyond the epoch.
        """
        plans = self._sampler.epoch(epoch)
        if not 0 <= start_batch <= len(plans):
            raise ValueError(f"start_batch must be in 0..{len(plans)}, found {start_batch}")
        self._stop()
        self._running = self._generate(_Requests(plans, start_batch, image_size))
        return self._running

    def close(self) -> None:
        """Stop the workers; a later ``batches`` starts new ones."""
        self._stop()
        self._workers = None

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def _generate(self, requests: _Requests) -> Generator[Batch, None, None]:
        crops = self._crops_of(requests)

        def make(request: _Request) -> Batch:
            names = tuple(self._names[i] for i in request.plan.image_indices.tolist())
            found = next(crops)
            if isinstance(found, _Broken):
                raise DataError(found.message)
            batch = collate(request.plan, found.numpy(), names, self._preprocess)
            return batch.pin_memory() if self._for_gpu else batch

        with _one_line_if_a_worker_dies():
            yield from _made_ahead(make, requests)

    def _crops_of(self, requests: _Requests) -> Iterator[Tensor | _Broken]:
        if self.num_workers == 0:
            return map(self._crops.__getitem__, requests)
        self._schedule.requests = requests
        if self._workers is None:
            self._workers = _worker_processes(self._crops, self._schedule, self.num_workers)
        # Start the workers from a thread. From the main thread torch would install a SIGCHLD
        # handler, and a dying worker would raise an error anywhere in the main thread, say
        # while it writes a checkpoint. Without the handler, the thread that waits for batches
        # notices the dead worker within seconds.
        with _without_torch_warnings(), ThreadPoolExecutor(1) as thread:
            return thread.submit(iter, self._workers).result()


def default_num_workers() -> int:
    """This process's share of the machine's cores minus one, at most 8; 0 with two or fewer.

    ``LOCAL_WORLD_SIZE`` processes share the machine. With two cores a thread is as fast.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if share <= 2 else min(share - 1, _MAX_WORKERS)


class _Request(NamedTuple):
    """One batch to prepare, as sent to a worker."""

    plan: BatchPlan
    image_size: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Requests:
    """The requests of an epoch, each made when it is taken: an epoch can have thousands."""

    plans: Sequence[BatchPlan]
    start: int
    image_size: tuple[int, int] | None

    def __iter__(self) -> Iterator[_Request]:
        for index in range(self.start, len(self.plans)):
            yield _Request(self.plans[index], self.image_size)


class _Broken(NamedTuple):
    """Returned by a worker if an image could not be read.

    An exception raised in a worker would arrive with the worker's traceback as its message.
    """

    message: str


class _Schedule:
    """The order of requests, replaced before each epoch while the workers keep running."""

    requests: Iterable[_Request] = ()

    def __iter__(self) -> Iterator[_Request]:
        return iter(self.requests)


class _Crops(Dataset["Tensor | _Broken"]):
    """Request -> (N, H, W, 3) uint8 BGR crops: a quarter of the shared memory float32 needs."""

    def __init__(
        self, records: Sequence[ImageRecord], preprocess: Preprocess, config: AugmentConfig
    ) -> None:
        self._records, self._preprocess, self._config = records, preprocess, config

    def __getitem__(self, request: _Request) -> Tensor | _Broken:
        plan = request.plan
        drawn: CopyKind = "drawn"
        kinds = plan.image_kinds or (drawn,) * len(plan.image_indices)
        slots = zip(plan.image_indices.tolist(), plan.image_seeds.tolist(), kinds, strict=True)
        size = request.image_size
        try:
            crops = [shrunk(self._crop(i, seed, kind), size) for i, seed, kind in slots]
        except DataError as error:
            return _Broken(str(error))
        return torch.from_numpy(np.stack(crops))

    def _crop(self, image: int, seed: int, kind: CopyKind) -> Image:
        pixels = read_image(self._records[image].path)
        rng = np.random.default_rng(seed)
        return augment(pixels, self._preprocess, self._config, rng, kind)


def _worker_processes(
    crops: _Crops, schedule: Iterable[_Request], num_workers: int
) -> DataLoader[Tensor | _Broken]:
    with _without_torch_warnings():
        return DataLoader(
            crops,
            batch_size=None,
            sampler=schedule,
            num_workers=num_workers,
            collate_fn=_unchanged,
            worker_init_fn=_start_worker,
            persistent_workers=True,
            prefetch_factor=_AHEAD,
            # Forked workers need not import torch again; they use neither its threads nor CUDA.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            # A separate generator: otherwise each epoch draws from the global one, which
            # dropout uses.
            generator=torch.Generator(),
        )


def _unchanged(item: Any) -> Any:
    return item


def _start_worker(worker_id: int) -> None:
    cv2.setNumThreads(0)  # one core per worker; torch limits its own threads
    # Ctrl-C reaches the whole process group; the training process decides how to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _made_ahead(
    make: Callable[[_Request], Batch], requests: Iterable[_Request]
) -> Generator[Batch, None, None]:
    """``make`` of each request, in order, in a thread that runs ``_AHEAD`` batches ahead."""
    pending: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="reid-loader") as pool:
        try:
            for request in requests:
                pending.append(pool.submit(make, request))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def _one_line_if_a_worker_dies() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a data loader worker died ({str(error).splitlines()[0]}); memory or /dev/shm may "
            "be full: lower data.num_workers, or set it to 0"
        ) from error


@contextmanager
def _without_torch_warnings() -> Iterator[None]:
    """Silence two warnings about deliberate choices: many workers, and fork beside threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        yield
