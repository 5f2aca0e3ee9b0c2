"""A plan opened by TensorRT: its tensors, its optimisation profiles, its execution contexts.

TensorRT's objects are only attributes here. A local name or an argument would keep them alive
in the traceback of a failure, longer than their device.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from reid.errors import ModelFileError
from reid.model_file.manifest import BatchProfile, EngineInfo
from reid.runtime.tensorrt_fit import REBUILD
from reid.runtime.tensorrt_module import captured_log, last_line, started


class Plan:
    """The engine in the file at ``path``, whose inputs in ``batched`` have a batch axis."""

    inputs: list[str]
    outputs: list[str]
    profiles: list[BatchProfile]
    largest: int
    """The index of the profile with the largest batch."""

    def __init__(self, trt: Any, path: Path, batched: frozenset[str]) -> None:
        self.path = path
        self.batched = batched
        self._trt = trt
        self._runtime: Any = None
        self._engine: Any = None

    def open(self, info: EngineInfo) -> None:
        """Raises ModelFileError if TensorRT does not start or rejects the plan, or for inputs that
        do not fit."""
        trt, log = self._trt, captured_log(self._trt)
        self._runtime = started(trt, trt.Runtime)
        if info.version_compatible:
            # Such a plan contains the runtime of its version, which is code; its hash was
            # compared with the manifest's.
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if self._engine is None:
            reason = last_line(log, "TensorRT gave no reason")
            raise ModelFileError(f"{self.path}: TensorRT cannot open it: {reason}; {REBUILD}")
        self._name_tensors()
        dynamic = [name for name in self.inputs if name in self.batched]
        self.profiles = [
            self._batches(dynamic[0], index) if dynamic else BatchProfile(1, 1, 1)
            for index in range(self._engine.num_optimization_profiles)
        ]
        largest = [batches.max_batch for batches in self.profiles]
        self.largest = largest.index(max(largest))

    def _name_tensors(self) -> None:
        """Inputs and outputs, all float32."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        for name in names:
            kind = self._engine.get_tensor_dtype(name)
            if kind != self._trt.DataType.FLOAT:
                raise ModelFileError(
                    f"{self.path}: tensor {name!r} is {kind}, expected float32 at the engine's "
                    "inputs and outputs; export the ONNX again"
                )
        mode = self._trt.TensorIOMode.INPUT
        self.inputs = [name for name in names if self._engine.get_tensor_mode(name) == mode]
        self.outputs = [name for name in names if name not in self.inputs]
        if not self.inputs:
            raise ModelFileError(f"{self.path}: the engine has no input; {REBUILD}")

    def _batches(self, name: str, index: int) -> BatchProfile:
        """All batched inputs of a profile have the same batch sizes."""
        shapes = self._engine.get_tensor_profile_shape(name, index)
        return BatchProfile(*(int(shape[0]) for shape in shapes))

    def input_shape(self, name: str, rows: int) -> tuple[int, ...]:
        """The shape of an input in a batch of ``rows``."""
        first, *row = (int(size) for size in self._engine.get_tensor_shape(name))
        return (rows if name in self.batched else first, *row)

    def best_profile(self, rows: int) -> int:
        """The profile for ``rows``, at most the largest batch.

        Of the profiles that fit, the one with the fewest rows of padding, then the one tuned for
        the nearest batch (inferred, not measured).
        """
        costs = {
            index: (max(0, batches.min_batch - rows), abs(batches.opt_batch - rows))
            for index, batches in enumerate(self.profiles)
            if rows <= batches.max_batch
        }
        return min(costs, key=costs.__getitem__)

    def new_context(self) -> Any:
        """A new execution context without memory for its activations; None if TensorRT fails."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return self._engine.create_execution_context(strategy)

    def activation_bytes(self, profile: int) -> int:
        """The memory that a context on this profile needs, at its largest batch."""
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    @property
    def quiet(self) -> Any:
        """The verbosity of a run that nothing profiles."""
        return self._trt.ProfilingVerbosity.NONE

    def reason(self, otherwise: str) -> str:
        """TensorRT's last warning or error."""
        return last_line(captured_log(self._trt), otherwise)

    def close(self) -> None:
        """Release the engine, then the runtime."""
        self._engine = None
        self._runtime = None


class Execution:
    """One execution context on one profile and one stream.

    They never change, because TensorRT copies memory when a context changes its profile. Before
    the first run ``use_memory`` gives it memory for its activations.
    """

    has_memory = False

    def __init__(self, plan: Plan, profile: int, stream: int) -> None:
        self._plan = plan
        self._stream = stream
        self.profile = profile
        self._rows = 0
        self._context: Any = plan.new_context()
        if self._context is None:
            raise ModelFileError(
                f"{plan.path}: no execution context: {plan.reason('out of GPU memory?')}"
            )
        # The details that prove the precision would cost time in every run.
        self._context.nvtx_verbosity = plan.quiet
        # A new context is on profile 0.
        if profile:
            self._choose(profile)

    def _choose(self, profile: int) -> None:
        """Raises ModelFileError if TensorRT rejects the profile: its call raises, or is True."""
        try:
            self._context.set_optimization_profile_async(profile, self._stream)
            return
        except RuntimeError as error:
            # Only the text: the error itself would keep the context alive.
            otherwise = str(error)
        self.close()
        reason = self._plan.reason(otherwise)
        raise ModelFileError(f"{self._plan.path}: no profile {profile}: {reason}")

    def use_memory(self, address: int, num_bytes: int) -> None:
        """Set the device memory of the activations, at least the profile's ``activation_bytes``."""
        self._context.set_device_memory(address, num_bytes)
        self.has_memory = True

    def bind(self, name: str, address: int) -> None:
        """Set the address of a tensor on the device. Raises ModelFileError."""
        if not self._context.set_tensor_address(name, address):
            self._refused(f"no address for tensor {name!r}")

    def set_rows(self, rows: int) -> None:
        """Set the batch of the next run. Raises ModelFileError if the plan rejects it."""
        if rows == self._rows:
            return  # a newly set shape must run once before it can be recorded
        self._rows = 0  # after an error some inputs may have the new batch and some the old one
        for name in self._plan.inputs:
            if not self._context.set_input_shape(name, self._plan.input_shape(name, rows)):
                self._refused(f"no batch of {rows}")
        self._rows = rows

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape in the current batch. Raises ModelFileError if it has none."""
        shape = tuple(int(size) for size in self._context.get_tensor_shape(name))
        if min(shape, default=0) < 1:
            raise ModelFileError(f"{self._plan.path}: tensor {name!r} has no fixed shape: {shape}")
        return shape

    def queue(self) -> None:
        """Queue the network. Raises ModelFileError with TensorRT's reason."""
        if not self._context.execute_async_v3(self._stream):
            self._refused("the engine did not run")

    def _refused(self, what: str) -> NoReturn:
        reason = self._plan.reason("TensorRT gave no reason")
        raise ModelFileError(f"{self._plan.path}: {what}: {reason}")

    def close(self) -> None:
        """Release the context."""
        self._context = None


def pieces(count: int, largest: int) -> Sequence[slice]:
    """Slices of ``largest`` rows that cover ``count`` rows; the last may be shorter."""
    return [slice(start, min(start + largest, count)) for start in range(0, count, largest)]
