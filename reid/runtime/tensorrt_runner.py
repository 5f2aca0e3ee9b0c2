"""A TensorRT engine as a Runner: named tensors, pinned buffers, one stream or two, no torch.

What a plan needs to run is in its manifest, and a plan for another GPU or TensorRT version is
rejected before the library opens it. Preprocessing on the GPU is part of the graph: one exported
with ``--pixels`` crops and normalises in the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from reid.errors import ManifestError, ModelFileError
from reid.model_file.opening import ModelFile, Openable
from reid.runtime import Runner
from reid.runtime.device_memory import Device, open_device
from reid.runtime.inputs import batch_size, checked_inputs
from reid.runtime.places import check_device
from reid.runtime.tensorrt_fit import REBUILD, check_architecture, check_version, engine_info
from reid.runtime.tensorrt_lane import Lane
from reid.runtime.tensorrt_module import load_tensorrt, version_of
from reid.runtime.tensorrt_plan import Plan, pieces
from reid.types import FloatArray

NUM_LANES = 2
"""Streams for a request in several pieces: one copies while the other computes."""


class TensorRtRunner(Runner):
    """An open engine. ``threads`` has no meaning on a GPU and is ignored.

    Each piece of a request runs on the optimisation profile that fits best. CUDA graphs are off
    by default because their benefit was not measured yet; see ``use_cuda_graphs``.

    Raises ManifestError without the engine's manifest, EngineMismatchError for an engine
    of another GPU or TensorRT version, MissingPackageError without TensorRT or a package
    for GPU memory, ModelFileError if there is no GPU or the plan does not open.
    """

    on_gpu = True

    def __init__(self, file: Openable, device: str = "auto", threads: int = 0) -> None:
        del threads
        file = ModelFile.at(file)
        self._path = file.path
        self._stack = ExitStack()
        self._closed = False
        self._graphs = False
        self._lanes: list[Lane] = []
        self.manifest = file.identified(file.manifest)
        self._info = info = engine_info(self.manifest, self._path)
        check_device(device)
        if device == "cpu":
            raise ModelFileError(
                f"{self._path.name} is a TensorRT engine and runs on a GPU, found device 'cpu'; "
                "use the .onnx file on a CPU"
            )
        trt = load_tensorrt(info.flavour)
        check_version(info, version_of(trt), self._path)
        batched = frozenset(spec.name for spec in self.manifest.input_arrays if spec.batched)
        self._plan = Plan(trt, self._path, batched)
        self._device: Device = open_device()
        check_architecture(info, self._device, self._path)
        # After a failure, free what was opened while the device is still current.
        with self._device.active(), ExitStack() as opened:
            opened.callback(self._plan.close)
            self._plan.open(info)
            opened.callback(self._close_lanes)
            self._add_lane()
            self._check_tensors()
            self._stack = opened.pop_all()
        self.backend = f"{info.flavour} {version_of(trt)} on {self._device.name}"

    def _add_lane(self) -> None:
        with ExitStack() as failed:
            lane = Lane(self._device, self._plan)
            failed.callback(lane.close)
            lane.open()
            self._lanes.append(lane)
            failed.pop_all()

    def _close_lanes(self) -> None:
        with ExitStack() as closing:
            for lane in self._lanes:
                closing.callback(lane.close)

    def _check_tensors(self) -> None:
        """Check that the manifest describes the engine's arrays. Raises ManifestError."""
        expected = {
            **{spec.name: (True, spec.shape) for spec in self.manifest.input_arrays},
            **{spec.name: (False, spec.shape) for spec in self.manifest.output_arrays},
        }
        buffers = self._lanes[0].buffers
        found = {name: (buffer.is_input, buffer.shape[1:]) for name, buffer in buffers.items()}
        if found != expected:
            raise ManifestError(
                f"{self._path}: the manifest describes {_listed(expected)}, the engine has "
                f"{_listed(found)}; copy the file and its .json together, or {REBUILD}"
            )

    def use_cuda_graphs(self, wanted: bool = True) -> bool:
        """Record each size of piece once and launch it as a CUDA graph.

        Returns False, and runs without graphs, with pycuda and with TensorRT for RTX, whose
        kernels change after the first runs (it has its own graphs).
        """
        can = self._device.graphs is not None and self._info.flavour == "tensorrt"
        self._graphs = wanted and can
        return self._graphs

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """(N, ...) float32 per input name -> (N, ...) float32 per output name.

        A batch above the largest profile's maximum is run in pieces, on two streams; a piece
        below its profile's minimum is padded with its last row, and the padding is removed from
        the output. Raises ModelFileError for a wrong name, shape or type, and if the GPU fails.
        """
        self._check_open()
        arrays = checked_inputs(inputs, self.manifest)
        count = batch_size(arrays, self.manifest)
        outputs = {
            name: np.empty((count, *self._lanes[0].buffers[name].shape[1:]), dtype=np.float32)
            for name in self._plan.outputs
        }
        parts = pieces(count, self._largest_batch)
        with self._device.active(), ExitStack() as leaving:
            while len(self._lanes) < min(len(parts), NUM_LANES):
                self._add_lane()
            for lane in self._lanes:
                leaving.callback(lane.drain)
            for index, piece in enumerate(parts):
                lane = self._lanes[index % len(self._lanes)]
                lane.finish(outputs)
                lane.start(arrays, piece, self._graphs)
            for lane in self._lanes:
                lane.finish(outputs)
        return outputs

    def compute(self, count: int) -> None:
        """Run only the network on ``count`` rows in the GPU's memory, and wait.

        For benchmarks: no copies, one stream. Raises ModelFileError if the GPU fails.
        """
        self._check_open()
        with self._device.active():
            for piece in pieces(count, self._largest_batch):
                self._lanes[0].compute(piece.stop - piece.start, self._graphs)
            self._lanes[0].wait()

    @property
    def _largest_batch(self) -> int:
        return self._plan.profiles[self._plan.largest].max_batch

    def _check_open(self) -> None:
        if self._closed:
            raise ModelFileError(f"{self._path}: the engine is closed; open the file again")

    def close(self) -> None:
        """Free buffers, contexts, streams, engine and runtime, in this order."""
        if self._closed:
            return
        self._closed = True
        try:
            with self._device.active():
                self._stack.close()
        finally:
            self._lanes.clear()


def _listed(tensors: Mapping[str, tuple[bool, tuple[int, ...]]]) -> str:
    return " and ".join(
        f"{'input' if is_input else 'output'} {name} (N, {', '.join(map(str, row))})"
        for name, (is_input, row) in tensors.items()
    )
