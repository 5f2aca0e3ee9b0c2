"""Device, number format and memory layout of training, chosen by measurement.

bfloat16 and channels-last are faster on some processors and not on others, so with ``auto`` the
candidates run a small forward and backward pass and the fastest is chosen. bfloat16 is not tried
where it is emulated, which is far slower.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reid.config.settings import RunConfig
from reid.errors import ConfigError

Loss = Callable[[nn.Module, Tensor], Tensor]

_PROBE_IMAGES = 4
_ROUNDS = 4
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_EMULATED_BF16 = ("DEFAULT", "NO AVX", "AVX2")
"""PyTorch's names of x86 instruction sets on which bfloat16 is emulated, which is much slower."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How the network's passes are computed. ``precision`` is fp32, bf16 or fp16."""

    device: str
    precision: str
    channels_last: bool

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.split(":")[0], _DTYPES[self.precision])

    def place(self, network: nn.Module) -> nn.Module:
        """The network, moved to the device and memory layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        # PyTorch's annotations lack this form of ``to``.
        placed: nn.Module = network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        return placed

    def layout(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images in the memory layout."""
        if self.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def words(self) -> str:
        """For the log: ``cpu, fp32, channels-last``."""
        return f"{self.device}, {self.precision}" + (
            ", channels-last" if self.channels_last else ""
        )


def choose_device(wanted: str) -> str:
    """``cuda`` or ``cpu`` for ``auto``. Raises ConfigError if CUDA is chosen and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "run.device is cuda, but PyTorch finds no GPU; use auto or cpu, or install a CUDA "
            "build of torch"
        )
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def choose_arithmetic(
    config: RunConfig,
    build: Callable[[], nn.Module],
    loss: Loss,
    input_shape: tuple[int, int, int],
) -> tuple[Arithmetic, str]:
    """The arithmetic for a run, and a line that says how it was chosen.

    ``loss`` computes what the run minimises from a network and (N, 3, H, W) images, N at least 2.
    On CUDA ``auto`` is bf16 if the GPU supports it (else fp16) with channels-last; on a CPU the
    settings at ``auto`` are measured on a temporary network from ``build``.
    """
    device = choose_device(config.device)
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        automatic = "bf16" if native else "fp16"
        precision = automatic if config.precision == "auto" else config.precision
        chosen = Arithmetic(device, precision, config.channels_last != "off")
        return chosen, f"arithmetic: {chosen.words()} ({torch.cuda.get_device_name()})"
    candidates = _cpu_candidates(config)
    if len(candidates) == 1:
        return candidates[0], f"arithmetic: {candidates[0].words()} (as set)"
    with torch.random.fork_rng():
        rates = _measure(candidates, build, loss, input_shape)
    best = max(rates, key=lambda candidate: rates[candidate])
    shown = "; ".join(f"{c.words()}: {rate:.1f} images/s" for c, rate in rates.items())
    return best, f"arithmetic: {best.words()}, chosen by measurement ({shown})"


def _cpu_candidates(config: RunConfig) -> list[Arithmetic]:
    if config.precision == "fp16":
        raise ConfigError("run.precision fp16 trains on CUDA only; on a CPU use fp32 or bf16")
    automatic = ("fp32",) if _emulates_bf16() else ("fp32", "bf16")
    precisions = automatic if config.precision == "auto" else (config.precision,)
    layouts = {"auto": (True, False), "on": (True,), "off": (False,)}[config.channels_last]
    return [Arithmetic("cpu", p, layout) for p in precisions for layout in layouts]


def _emulates_bf16() -> bool:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and torch.backends.cpu.get_cpu_capability() in _EMULATED_BF16


def _measure(
    candidates: list[Arithmetic],
    build: Callable[[], nn.Module],
    loss: Loss,
    input_shape: tuple[int, int, int],
) -> dict[Arithmetic, float]:
    """Images per second of each candidate in its fastest pass.

    The candidates take turns: the first round warms them up, and other load on the machine then
    slows one pass of a candidate, not all of them.
    """
    networks = {candidate: candidate.place(build().train()) for candidate in candidates}
    seconds = dict.fromkeys(candidates, math.inf)
    for _ in range(_ROUNDS):
        for candidate, network in networks.items():
            taken = _pass_seconds(candidate, network, loss, (_PROBE_IMAGES, *input_shape))
            seconds[candidate] = min(seconds[candidate], taken)
    return {candidate: _PROBE_IMAGES / taken for candidate, taken in seconds.items()}


def _pass_seconds(
    arithmetic: Arithmetic, network: nn.Module, loss: Loss, shape: tuple[int, ...]
) -> float:
    images = arithmetic.layout(torch.randn(shape))
    start = time.perf_counter()
    with arithmetic.autocast():
        total = loss(network, images)
    torch.autograd.backward(total.float())
    return time.perf_counter() - start
