"""Whether a GPU computes training as fast as it can, or with the same bits in every run.

On a CPU a run is a function of its settings and images. On CUDA the gradients of convolutions,
``index_add``, ``scatter_add_``, ``grid_sample`` and bilinear ``interpolate`` are sums in no fixed
order. The first three have a slower form with one (``run.deterministic``), the last two have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reid.config.settings import TrainConfig
from reid.errors import ConfigError
from reid.models import network_named

CUBLAS_SETTING = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""Without it cuBLAS does not add up in a fixed order, and PyTorch refuses its products."""


@contextmanager
def cuda_order(config: TrainConfig, device: str) -> Iterator[None]:
    """PyTorch's settings for training on ``device``, ``cuda`` or ``cpu``, as they were afterwards.

    Convolutions are timed to choose the fastest where all batches have one size; batches of pairs
    have not, because some images are in several pairs. Raises ConfigError for ``run.deterministic``
    on CUDA with a network that has an operation without a deterministic form.
    """
    wanted = config.run.deterministic
    if device != "cuda":
        yield
        return
    if wanted:
        _refuse_without_fixed_order(config.network.name)
        os.environ.setdefault(*CUBLAS_SETTING)
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    all_before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(wanted or all_before)
        cudnn.deterministic = wanted or deterministic
        cudnn.benchmark = config.sampler.kind == "identities" and not cudnn.deterministic
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        torch.use_deterministic_algorithms(all_before)


def _refuse_without_fixed_order(network: str) -> None:
    operation = network_named(network).no_fixed_order
    if operation:
        raise ConfigError(
            f"run.deterministic is on, but {network} trains through {operation}, which has no "
            "deterministic form on CUDA; set run.deterministic=false, or run.device=cpu, where "
            "every run is deterministic"
        )
