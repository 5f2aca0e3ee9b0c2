"""Run a network that is in memory with PyTorch: the reference that exported files face."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from reid.errors import ModelFileError
from reid.manifest import Manifest
from reid.runtime import Runner
from reid.runtime.inputs import checked_input
from reid.types import FloatArray

LAYOUT = {"cpu": torch.channels_last, "cuda": torch.contiguous_format}
"""Memory format by device. On a CPU with AVX2, MSP-CNN in channels_last answers a batch of
1, 16, 32 in 0.74, 0.68, 0.70 of the contiguous time; the results agree within 1e-7."""


class TorchRunner(Runner):
    """A test-stage module: one input tensor, one output tensor, as ``manifest`` describes.

    The module is moved to the device and set to evaluation mode. ``device`` is ``auto``
    (CUDA where there is one), ``cpu`` or ``cuda``; ``threads`` 0 leaves PyTorch's count.
    Raises ModelFileError for a device that is not there.
    """

    def __init__(
        self, module: nn.Module, manifest: Manifest, device: str = "auto", threads: int = 0
    ) -> None:
        self.manifest = manifest
        self._device = _device(device)
        self._threads = threads
        self._layout = LAYOUT[self._device.type]
        moved = module.eval().to(self._device)
        if self._layout is torch.channels_last:
            moved = moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._module: nn.Module | None = moved
        where = self._device.type
        if where == "cuda":
            where = torch.cuda.get_device_name(self._device)
        self.backend = f"torch {torch.__version__} {where}"

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """{"data": (N, 3, H, W)} -> {"embedding": (N, D)}, float32.

        Raises ModelFileError for a wrong name, type or shape, or after ``close``.
        """
        if self._module is None:
            raise ModelFileError("the runner is closed; open the checkpoint again")
        data = checked_input(inputs, self.manifest)
        name = self.manifest.output_name
        if not len(data):
            return {name: np.zeros((0, self.manifest.output_dim), np.float32)}
        with torch.inference_mode(), _threads(self._threads), _full_float32(self._device):
            tensor = torch.from_numpy(data).to(self._device, memory_format=self._layout)
            output = self._module(tensor).float().cpu()
        found = tuple(output.shape)
        if found != (len(data), self.manifest.output_dim):
            raise ModelFileError(
                f"output {name!r} must have shape {(len(data), self.manifest.output_dim)}, "
                f"the network gave {found}"
            )
        return {name: output.numpy()}

    def close(self) -> None:
        """Let go of the network; may be called twice."""
        self._module = None


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ModelFileError(f"device is auto, cpu or cuda; found {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelFileError(
            f"CUDA was asked for, but PyTorch {torch.__version__} finds no GPU; use device cpu"
        )
    return torch.device(name)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads, then give the process its own count back."""
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """On CUDA, convolutions without TF32: its 10 bits are less than the parity allows."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
