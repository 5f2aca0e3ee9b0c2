"""Run a network with PyTorch: the reference that exported files are compared with."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid.errors import ModelFileError
from reid.model_file.manifest import Manifest
from reid.runtime import Runner
from reid.runtime.device_copies import DeviceCopies
from reid.runtime.inputs import batch_size, checked_inputs, empty_outputs
from reid.runtime.places import check_device
from reid.types import FloatArray

LAYOUT = {"cpu": torch.channels_last, "cuda": torch.contiguous_format}
"""Memory format by device. channels_last is faster than contiguous for MSP-CNN on a CPU with AVX2,
with the same results up to rounding (``tests/benchmarks/README.md``)."""

PIECE = 16
"""Images that a CPU computes at once. Small pieces are faster: their maps stay in the cache, and
their memory is not returned to the system after each layer (``tests/benchmarks/README.md``)."""


KEPT_SHARE = 0.5
"""Share of a GPU's free memory for copies of a stored gallery; the network needs the rest."""


class TorchRunner(Runner):
    """A graph's module: tensors in, a tensor or a tuple out, as ``manifest`` lists them.

    The module is moved to the device and set to evaluation mode. ``device`` is ``auto``
    (CUDA if there is a GPU), ``cpu`` or ``cuda``; ``threads`` 0 leaves PyTorch's count.
    Raises ModelFileError for a missing device.
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
        self.on_gpu = where == "cuda"
        self.cuts_batches = not self.on_gpu
        self.takes_half = getattr(module, "takes_half", False)
        if self.on_gpu:
            where = torch.cuda.get_device_name(self._device)
        self._copies: DeviceCopies | None = None
        if self.on_gpu and self.takes_half:
            free, _ = torch.cuda.mem_get_info(self._device)
            self._copies = DeviceCopies(self._on_device, int(KEPT_SHARE * free))
        self.backend = f"torch {torch.__version__} {where}"

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Named float32 arrays in, named float32 arrays out, such as {"data": (N, 3, H, W)}.

        Inputs may be float16 if the module's ``takes_half`` is true. Such a module compares a
        query with stored images: on CUDA their read-only arrays stay there for the next query, as
        far as half of the free memory goes.

        Raises ModelFileError for a wrong name, type or shape, or after ``close``.
        """
        if self._module is None:
            raise ModelFileError("the runner is closed; open the checkpoint again")
        arrays = checked_inputs(inputs, self.manifest, half=self.takes_half)
        count = batch_size(arrays, self.manifest)
        if not count:
            return empty_outputs(self.manifest)
        with torch.inference_mode(), _threads(self._threads), _full_float32(self._device):
            if self._copies is None:
                tensors = [self._on_device(array) for array in arrays.values()]
            else:
                tensors = self._copies.of(list(arrays.values()))
            answers = [_arrays(self._module(*piece)) for piece in self._pieces(tensors)]
            rows = [np.concatenate(pieces) for pieces in zip(*answers, strict=True)]
        specs = self.manifest.output_arrays
        expected, found = [(count, *s.shape) for s in specs], [row.shape for row in rows]
        if found != expected:
            raise ModelFileError(
                f"the manifest has {', '.join(spec.words() for spec in specs)} with N = {count}, "
                f"the network returned {', '.join(map(str, found))}"
            )
        return {spec.name: row for spec, row in zip(specs, rows, strict=True)}

    def _pieces(self, tensors: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """Run a few images at a time on a CPU.

        A graph with an input for the whole batch is not split: each piece would process that
        input again.
        """
        batched = all(spec.batched for spec in self.manifest.input_arrays)
        if self.on_gpu or not batched:
            return iter([tuple(tensors)])
        return zip(*(torch.split(tensor, PIECE) for tensor in tensors), strict=True)

    def _on_device(self, array: FloatArray) -> Tensor:
        return _tensor(array).to(self._device)

    def close(self) -> None:
        """Release the network; may be called twice."""
        self._module = self._copies = None


def _tensor(array: FloatArray) -> Tensor:
    """A tensor of the array without a copy, also from a mapped file; modules only read it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _arrays(answer: Tensor | tuple[Tensor, ...]) -> list[FloatArray]:
    outputs = (answer,) if isinstance(answer, Tensor) else answer
    return [np.ascontiguousarray(output.float().cpu().numpy()) for output in outputs]


def _device(name: str) -> torch.device:
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelFileError(
            f"device is cuda, but PyTorch {torch.__version__} finds no GPU; use device cpu"
        )
    return torch.device(name)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads, then restore the process's count."""
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
    """On CUDA, convolutions and matrix products without TF32: its 10 bits are less than parity
    needs, and the process may have turned it on.

    PyTorch's newer settings: reading the older ``allow_tf32`` raises where a process set the newer.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn  # PyTorch's annotations lack its two parts
    settings = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
