"""The process of a training run, alone or one of several started by ``torchrun``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from reid.errors import ConfigError, ReidError, TrainingError
from reid.printing import write_to

T = TypeVar("T")

GROUP_TIMEOUT = timedelta(minutes=15)
"""How long a process waits for the others: longer than the first process, alone, takes to read and
hash the training images at the start."""

_COUNT = "LOCAL_WORLD_SIZE"
_FAILED, _INTERRUPTED = 1, 130  # the exit codes of ``reid.cli``


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's number (``rank``) and the number of processes (``world_size``).

    Gradients are averaged once per update, after ``iter_size`` passes, so every process
    takes the same step and the networks stay equal.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def device(self, chosen: str) -> str:
        """``cuda`` -> this process's own GPU."""
        return f"cuda:{self.local_rank}" if chosen == "cuda" and self.world_size > 1 else chosen

    def average_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over the processes."""
        self._average(p.grad for p in network.parameters() if p.grad is not None)

    def average_statistics(self, network: nn.Module) -> None:
        """Replace batch normalisation's running statistics by their mean over the processes.

        Each process normalises by its own images; the running means are linear in the images, so
        their average is that of one process with all images. It is done after every update so
        that all processes, and a resumed run, continue from the same values: SiSNet's activation
        maps use them in training. A module in evaluation mode keeps its own: the mean of equal
        numbers is not always that number.
        """
        self._average(
            buffer
            for module in network.modules()
            if module.training
            for buffer in module.buffers(recurse=False)
            if buffer.is_floating_point()
        )

    def _average(self, tensors: Iterable[Tensor]) -> None:
        parts = list(tensors)
        if self.world_size == 1 or not parts:
            return
        flat = torch.cat([part.reshape(-1) for part in parts])
        with self._with_others():
            dist.all_reduce(flat)
        flat /= self.world_size
        means = torch.split(flat, [part.numel() for part in parts])
        for part, mean in zip(parts, means, strict=True):
            part.copy_(mean.view_as(part))

    def first_decides(self, flag: bool) -> bool:
        """The flag of the first process, in all processes."""
        return self._combine(flag and self.is_first)

    def any_true(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self._combine(flag)

    def of_first(self, value: T) -> T:
        """The value of the first process, in all processes."""
        if self.world_size == 1:
            return value
        values = [value]
        with self._with_others():
            dist.broadcast_object_list(values)
        return values[0]

    def first_text(self, text: str) -> str:
        """The first text of all processes that is not empty, in all of them."""
        if self.world_size == 1:
            return text
        texts = [""] * self.world_size
        with self._with_others():
            dist.all_gather_object(texts, text)
        return next(filter(None, texts), "")

    def _combine(self, flag: bool) -> bool:
        if self.world_size == 1:
            return flag
        value = torch.tensor([float(flag)])
        with self._with_others():
            dist.all_reduce(value)
        return bool(value.item() > 0)

    @contextmanager
    def _with_others(self) -> Iterator[None]:
        """Turn the error of a process that waited for one that ended into a TrainingError."""
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(_lost(self.rank, self.world_size, error)) from error


def keep_to_own_cores() -> None:
    """Keep this process on its share of the cores that those of ``torchrun`` on this machine have.

    All wait for the slowest at each step, and a process that another program drives onto a core in
    use is slow. Nothing is done with fewer cores than processes, or where the system cannot do it
    (not Linux).
    """
    number, count = (int(os.environ.get(n, d)) for n, d in (("LOCAL_RANK", "0"), (_COUNT, "1")))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if count > 1 and len(cores) >= count:
        start, end = (len(cores) * place // count for place in (number, number + 1))
        os.sched_setaffinity(0, cores[start:end])


def is_first_process() -> bool:
    """Whether this is the process that writes files, known before the processes have joined."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """Join the group that ``torchrun`` describes in the environment, if there is one.

    With ``device`` ``cuda`` each process takes the GPU of its local rank; with ``cpu`` no GPU is
    used. After an error the group is left as it is, because ending it waits for the others: see
    ``LeavingAfterErrors``. Raises ConfigError for more processes than GPUs.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Processes()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"each process needs a GPU of its own, found {torch.cuda.device_count()} GPU(s) "
                f"for process {local_rank + 1} of this machine; start fewer processes"
            )
        torch.cuda.set_device(local_rank)
    _join(device, world_size)
    processes = Processes(dist.get_rank(), world_size, local_rank)
    yield processes
    with processes._with_others():
        dist.destroy_process_group()


def _join(device: str, world_size: int) -> None:
    """Meet the other processes. Raises TrainingError where they do not come, or not completely."""
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=GROUP_TIMEOUT)
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"this process could not join the {world_size} of WORLD_SIZE by {backend}: "
            f"{_first_line(error)}. Start all of them by one torchrun, whose MASTER_ADDR and "
            "MASTER_PORT every machine reaches"
        ) from error


class LeavingAfterErrors:
    """End this process at an error if it is one of several: the others wait for it.

    Its message goes to stderr first. An orderly end would wait for the others, which wait for a
    sum that never comes; once this process is gone, they end too.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: object
    ) -> None:
        if error is not None and dist.is_initialized() and dist.get_world_size() > 1:
            _say_last(error)
            os._exit(_INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED)


def _lost(rank: int, world_size: int, error: BaseException) -> str:
    return (
        f"process {rank + 1} of {world_size} stops, because it lost another one "
        f"({_first_line(error)}). The message of the one that failed says why; without any, it was "
        f"killed, its machine was lost, or it did not answer for {GROUP_TIMEOUT}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _say_last(error: BaseException) -> None:
    if isinstance(error, dist.DistError):  # NCCL's come late, at whatever reads from the GPU next
        error = TrainingError(_lost(dist.get_rank(), dist.get_world_size(), error))
    if isinstance(error, ReidError):
        text = f"reid: error: {' '.join(str(error).split())}\n"
    elif isinstance(error, KeyboardInterrupt):
        text = "reid: interrupted\n"
    else:
        text = "".join(traceback.format_exception(error))
    with suppress(OSError, ValueError, AttributeError):  # a closed stderr is no reason to stay
        write_to(sys.stderr, text)
        sys.stderr.flush()
        sys.stdout.flush()
