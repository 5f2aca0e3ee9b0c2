"""One process of a training run, or one of several started by ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist


@dataclass(frozen=True, slots=True)
class Processes:
    """Which process this is (``rank``) of how many (``world_size``).

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

        Each process normalises by its own images; the running means are linear in what was
        seen, so their average is that of one process that saw all.
        """
        self._average(b for b in network.buffers() if b.is_floating_point())

    def _average(self, tensors: Iterable[Tensor]) -> None:
        if self.world_size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.reshape(-1) for part in parts])
        dist.all_reduce(flat)
        flat /= self.world_size
        means = torch.split(flat, [part.numel() for part in parts])
        for part, mean in zip(parts, means, strict=True):
            part.copy_(mean.view_as(part))

    def first_decides(self, flag: bool) -> bool:
        """The flag of the first process, known to all."""
        return self._combine(flag and self.is_first)

    def any_true(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self._combine(flag)

    def _combine(self, flag: bool) -> bool:
        if self.world_size == 1:
            return flag
        value = torch.tensor([float(flag)])
        if dist.get_backend() == "nccl":
            value = value.cuda()
        dist.all_reduce(value)
        return bool(value.item() > 0)


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the group that ``torchrun`` describes in the environment, if there is one."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Processes()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(dist.get_rank(), world_size, local_rank)
    finally:
        dist.destroy_process_group()
