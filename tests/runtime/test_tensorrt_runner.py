"""The engine runner over a GPU and a TensorRT made of NumPy."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from reid.errors import (
    EngineMismatchError,
    ManifestError,
    MissingPackageError,
    ModelFileError,
    ReidError,
)
from reid.manifest import EngineInfo, Manifest, manifest_path, write_manifest
from reid.preprocess import Preprocess
from reid.runtime import open_runner, tensorrt_runner
from reid.runtime.device_memory import open_device
from reid.runtime.tensorrt_runner import TensorRtRunner
from reid.types import FloatArray

ROW = (3, 144, 56)
DIM = 2
STREAM = 7


Computes = Callable[[dict[str, FloatArray]], dict[str, FloatArray]]
"""Named inputs of one run -> named outputs."""


def described(images: FloatArray) -> FloatArray:
    """What the fake engine computes: (N, 3, 144, 56) -> (N, 2), different for every row."""
    flat = images.reshape(len(images), -1)
    return np.stack([flat.mean(axis=1), flat.max(axis=1)], axis=1)


class FakeDevice:
    """Device memory is a dictionary; every event is written down; leaks can be counted."""

    name = "Fake GPU"

    def __init__(self, compute_capability: tuple[int, int] = (8, 7)) -> None:
        self.compute_capability = compute_capability
        self.memory: dict[int, FloatArray] = {}
        self.pinned_blocks: list[int] = []
        self.streams = 0
        self.events: list[str] = []
        self.is_active = False
        self.allocations_left = 100
        self.queue: list[Any] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        self.is_active = True
        try:
            yield
        finally:
            self.is_active = False

    def allocate(self, num_bytes: int) -> int:
        assert self.is_active
        if not self.allocations_left:
            raise ModelFileError("the GPU failed in cudaMalloc: out of memory")
        self.allocations_left -= 1
        address = 1000 * (len(self.memory) + 1)
        self.memory[address] = np.full(num_bytes // 4, np.nan, dtype=np.float32)
        return address

    def free(self, address: int) -> None:
        assert self.is_active
        del self.memory[address]
        self.events.append("free")

    def pinned(self, shape: tuple[int, ...]) -> FloatArray:
        array = np.full(shape, np.nan, dtype=np.float32)
        self.pinned_blocks.append(array.ctypes.data)
        return array

    def free_pinned(self, array: FloatArray) -> None:
        self.pinned_blocks.remove(array.ctypes.data)
        self.events.append("free_pinned")

    def open_stream(self) -> int:
        self.streams += 1
        return STREAM

    def close_stream(self, stream: int) -> None:
        assert stream == STREAM
        self.streams -= 1
        self.events.append("close_stream")

    def copy_to_device(self, address: int, host: FloatArray, stream: int) -> None:
        assert self.is_active
        assert stream == STREAM
        assert host.flags.c_contiguous

        def copy() -> None:
            self.memory[address][: host.size] = host.ravel()

        self.queue.append(copy)

    def copy_to_host(self, host: FloatArray, address: int, stream: int) -> None:
        assert stream == STREAM

        def copy() -> None:
            host.ravel()[:] = self.memory[address][: host.size]

        self.queue.append(copy)

    def synchronise(self, stream: int) -> None:
        assert stream == STREAM
        for work in self.queue:
            work()
        self.queue.clear()

    def close(self) -> None:
        self.events.append("close_device")

    def leaks(self) -> tuple[int, int, int]:
        return len(self.memory), len(self.pinned_blocks), self.streams


class FakeTensorRt(ModuleType):
    """As much of the ``tensorrt`` module as the runner uses, over a FakeDevice."""

    class ILogger:
        class Severity(IntEnum):
            ERROR = 1
            WARNING = 2
            INFO = 3

        def __init__(self) -> None: ...

    class TensorIOMode(IntEnum):
        INPUT = 1
        OUTPUT = 2

    class DataType(IntEnum):
        FLOAT = 0
        HALF = 1

    def __init__(self, device: FakeDevice, version: str) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.device = device
        self.profile = (1, 4, 8)
        self.inputs: dict[str, tuple[int, ...]] = {"data": ROW}
        self.outputs: dict[str, tuple[int, ...]] = {"embedding": (DIM,)}
        self.unbatched: set[str] = set()
        self.computes: Computes = lambda arrays: {"embedding": described(arrays["data"])}
        self.output_type = self.DataType.FLOAT
        self.opens = True
        self.fails_to_run = False
        self.host_code_allowed = False
        self.batches: list[int] = []

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        return self.inputs | self.outputs

    def Runtime(self, log: Any) -> FakeRuntime:
        return FakeRuntime(self, log)


class Gone:
    """Writes down when the last reference to a TensorRT object goes."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt

    def __del__(self) -> None:
        self.trt.device.events.append(f"del {type(self).__name__.removeprefix('Fake').lower()}")


class FakeRuntime(Gone):
    engine_host_code_allowed = False

    def __init__(self, trt: FakeTensorRt, log: Any) -> None:
        super().__init__(trt)
        self.log = log

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        assert plan == b"plan"
        self.trt.host_code_allowed = self.engine_host_code_allowed
        if not self.trt.opens:
            self.log.log(self.trt.ILogger.Severity.INFO, "never mind")
            self.log.log(self.trt.ILogger.Severity.ERROR, "magic tag\n does not match")
            return None
        return FakeEngine(self.trt)


class FakeEngine(Gone):
    @property
    def num_io_tensors(self) -> int:
        return len(self.trt.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.trt.tensors)[index]

    def get_tensor_mode(self, name: str) -> FakeTensorRt.TensorIOMode:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in self.trt.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> FakeTensorRt.DataType:
        return self.trt.DataType.FLOAT if name in self.trt.inputs else self.trt.output_type

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1 if name in self.trt.unbatched else -1, *self.trt.tensors[name])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        assert name in self.trt.inputs.keys() - self.trt.unbatched
        return [(size, *self.trt.tensors[name]) for size in self.trt.profile]

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self.trt)


class FakeContext(Gone):
    def __init__(self, trt: FakeTensorRt) -> None:
        super().__init__(trt)
        self.sizes: dict[str, int] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert shape[1:] == self.trt.inputs[name]
        assert shape[0] == 1 or name not in self.trt.unbatched
        self.sizes[name] = shape[0]
        return True

    def batch(self) -> int:
        (size,) = {self.sizes[name] for name in self.trt.inputs.keys() - self.trt.unbatched}
        return size

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        size = self.sizes[name] if name in self.trt.inputs else self.batch()
        return (size, *self.trt.tensors[name])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        smallest, _, largest = self.trt.profile
        assert smallest <= self.batch() <= largest
        if self.trt.fails_to_run:
            return False
        self.trt.batches.append(self.batch())
        shapes = {name: self.get_tensor_shape(name) for name in self.trt.inputs}
        memory = self.trt.device.memory

        def work() -> None:
            arrays = {}
            for name, shape in shapes.items():
                source = memory[self.addresses[name]][: int(np.prod(shape))]
                assert not np.isnan(source).any(), "a row was run that nobody wrote"
                arrays[name] = source.reshape(shape)
            for name, result in self.trt.computes(arrays).items():
                memory[self.addresses[name]][: result.size] = result.ravel()

        self.trt.device.queue.append(work)
        return True


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def trt(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    module = FakeTensorRt(device, "10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr(tensorrt_runner, "open_device", lambda: device)
    return module


BUILT = EngineInfo("sm87", "10.3.0", "tensorrt", min_batch=1, opt_batch=4, max_batch=8)


def engine_file(folder: Path, **changes: Any) -> Path:
    """A plan with its manifest."""
    manifest = Manifest("msp_cnn", "embed", Preprocess(), output_dim=DIM)
    return write_engine(folder, manifest, **changes)


def write_engine(folder: Path, manifest: Manifest, **changes: Any) -> Path:
    file = folder / f"{manifest.network}.engine"
    file.write_bytes(b"plan")
    engine = dataclasses.replace(BUILT, **changes)
    write_manifest(file, dataclasses.replace(manifest, engine=engine))
    return file


def images(count: int) -> FloatArray:
    return np.random.default_rng(count).normal(size=(count, *ROW)).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "batches"), [(0, []), (1, [1]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])]
)
def test_a_batch_is_split_at_the_profiles_maximum(
    tmp_path: Path, trt: FakeTensorRt, count: int, batches: list[int]
) -> None:
    data = images(count)
    with open_runner(engine_file(tmp_path)) as runner:
        answer = runner.run({"data": data})
    assert list(answer) == ["embedding"]
    assert answer["embedding"].dtype == np.float32
    assert answer["embedding"].shape == (count, DIM)
    np.testing.assert_array_equal(
        answer["embedding"], described(data) if count else answer["embedding"]
    )
    assert trt.batches == batches


@pytest.mark.parametrize(("count", "batches"), [(1, [4]), (9, [8, 4])])
def test_a_piece_below_the_profiles_minimum_is_filled_up_and_cut(
    tmp_path: Path, trt: FakeTensorRt, count: int, batches: list[int]
) -> None:
    trt.profile = (4, 4, 8)
    data = images(count)
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        answer = runner.run({"data": data})["embedding"]
    np.testing.assert_array_equal(answer, described(data))
    assert trt.batches == batches


def test_answers_do_not_change_when_the_buffers_are_used_again(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        first = runner.run({"data": images(3)})["embedding"]
        kept = first.copy()
        runner.run({"data": images(5)})
    np.testing.assert_array_equal(first, kept)


def test_an_array_that_is_not_contiguous_is_run_as_it_reads(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    data = images(6)[::2]
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        answer = runner.run({"data": data})["embedding"]
    np.testing.assert_array_equal(answer, described(data))


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": images(1)},
        {},
        {"data": images(1)[:, :, :, :-1]},
        {"data": images(1)[0]},
        {"data": images(1).astype(np.float64)},
    ],
)
def test_a_wrong_name_shape_or_type_is_refused_before_the_gpu(
    tmp_path: Path, trt: FakeTensorRt, inputs: dict[str, FloatArray]
) -> None:
    with (
        TensorRtRunner(engine_file(tmp_path)) as runner,
        pytest.raises(ModelFileError, match="data"),
    ):
        runner.run(inputs)
    assert trt.batches == []


@pytest.fixture
def comparison_engine(comparison: Any, tmp_path: Path, trt: FakeTensorRt) -> Path:
    """An engine of ``Comparison``; the fake TensorRT computes it."""
    trt.inputs = {spec.name: spec.shape for spec in comparison.manifest.inputs}
    trt.outputs = {spec.name: spec.shape for spec in comparison.manifest.outputs}
    trt.unbatched = {"query"}
    trt.computes = comparison.expected
    return write_engine(tmp_path, comparison.manifest)


@pytest.mark.parametrize(
    ("count", "batches"), [(0, []), (1, [2]), (8, [8]), (9, [8, 2]), (20, [8, 8, 4])]
)
def test_batched_inputs_are_split_alike_and_the_unbatched_one_goes_with_each_piece(
    comparison: Any, comparison_engine: Path, trt: FakeTensorRt, count: int, batches: list[int]
) -> None:
    trt.profile = (2, 4, 8)
    inputs = comparison.inputs(count)
    with TensorRtRunner(comparison_engine) as runner:
        answer = runner.run(inputs)
    assert list(answer) == ["score", "product"]
    for name, expected in comparison.expected(inputs).items():
        np.testing.assert_array_equal(answer[name], expected)
    assert trt.batches == batches
    assert trt.device.leaks() == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [("gallery", 4, "'gallery': 4, 'weight': 5"), ("query", 2, r"takes query \(1, 2, 3\)")],
)
def test_a_wrong_array_among_several_is_refused_before_the_gpu(
    comparison: Any, comparison_engine: Path, trt: FakeTensorRt, name: str, rows: int, words: str
) -> None:
    inputs = comparison.inputs(5)
    inputs[name] = np.resize(inputs[name], (rows, *inputs[name].shape[1:]))
    with (
        TensorRtRunner(comparison_engine) as runner,
        pytest.raises(ModelFileError, match=words),
    ):
        runner.run(inputs)
    assert trt.batches == []


def test_an_engine_without_an_output_of_its_manifest_is_refused(
    comparison_engine: Path, trt: FakeTensorRt
) -> None:
    del trt.outputs["product"]
    with pytest.raises(ManifestError, match=r"output product \(N, 2, 3\), the engine has"):
        TensorRtRunner(comparison_engine)
    assert trt.device.leaks() == (0, 0, 0)


def test_closing_frees_in_reverse_order_and_once(tmp_path: Path, trt: FakeTensorRt) -> None:
    runner = TensorRtRunner(engine_file(tmp_path))
    trt.device.events.clear()
    runner.close()
    runner.close()
    assert trt.device.events == [
        *["free_pinned", "free"] * 2,
        "del context",
        "del engine",
        "del runtime",
        "close_stream",
        "close_device",
    ]
    assert trt.device.leaks() == (0, 0, 0)
    with pytest.raises(ModelFileError, match="closed"):
        runner.run({"data": images(1)})


def test_a_failure_while_opening_frees_what_was_opened(tmp_path: Path, trt: FakeTensorRt) -> None:
    trt.device.allocations_left = 1
    with pytest.raises(ModelFileError, match="out of memory"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0)
    assert trt.device.events[-2:] == ["close_stream", "close_device"]


def test_a_plan_that_does_not_open_gives_tensorrts_words_on_one_line(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.opens = False
    with pytest.raises(ModelFileError, match="magic tag does not match; build") as refusal:
        TensorRtRunner(engine_file(tmp_path))
    assert "\n" not in str(refusal.value)
    assert trt.device.leaks() == (0, 0, 0)


def test_an_engine_that_does_not_run_is_an_error_and_can_still_be_closed(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        trt.fails_to_run = True
        with pytest.raises(ModelFileError, match="did not run"):
            runner.run({"data": images(2)})
        assert trt.device.queue == []
    assert trt.device.leaks() == (0, 0, 0)


def test_an_engine_with_other_tensors_than_its_manifest_is_refused(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.outputs["embedding"] = (DIM + 1,)
    with pytest.raises(ManifestError, match=r"embedding \(N, 2\), the engine has .*\(N, 3\)"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0)


def test_an_engine_with_half_precision_ends_is_refused(tmp_path: Path, trt: FakeTensorRt) -> None:
    trt.output_type = trt.DataType.HALF
    with pytest.raises(ModelFileError, match=r"'embedding' is .* expected float32"):
        TensorRtRunner(engine_file(tmp_path))


@pytest.mark.parametrize(
    ("built", "here", "opens"),
    [
        ({}, "10.3.0", True),
        ({}, "10.3.1", False),
        ({}, "11.4.0.106", False),
        ({"version_compatible": True}, "10.16.1.11", True),
        ({"version_compatible": True}, "10.2.0", False),
        ({"version_compatible": True}, "11.4.0.106", False),
    ],
)
def test_an_engine_opens_in_its_own_tensorrt_unless_built_for_others(
    tmp_path: Path, trt: FakeTensorRt, built: dict[str, Any], here: str, opens: bool
) -> None:
    trt.__version__ = here
    file = engine_file(tmp_path, **built)
    if opens:
        TensorRtRunner(file).close()
        assert trt.host_code_allowed == bool(built)
        return
    with pytest.raises(EngineMismatchError) as refusal:
        TensorRtRunner(file)
    assert f"built by tensorrt 10.3.0, here is {here}; build the engine here again" in str(
        refusal.value
    )
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("architecture", "here", "opens"),
    [
        ("sm87", (8, 7), True),
        ("sm87", (8, 9), False),
        ("sm120", (12, 0), True),
        ("ampere_plus", (9, 0), True),
        ("ampere_plus", (7, 5), False),
        ("rtx", (8, 6), True),
        ("rtx", (12, 0), True),
        ("rtx", (9, 0), False),
        ("rtx", (7, 5), False),
    ],
)
def test_an_engine_opens_on_the_gpus_it_was_built_for(
    tmp_path: Path, trt: FakeTensorRt, architecture: str, here: tuple[int, int], opens: bool
) -> None:
    trt.device.compute_capability = here
    flavour = "tensorrt_rtx" if architecture == "rtx" else "tensorrt"
    file = engine_file(tmp_path, gpu_architecture=architecture, flavour=flavour)
    if opens:
        TensorRtRunner(file).close()
    else:
        with pytest.raises(
            EngineMismatchError, match=f"built for {architecture}, here is Fake GPU"
        ):
            TensorRtRunner(file)
        assert trt.device.events == ["close_device"]
    assert trt.device.leaks() == (0, 0, 0)


def test_an_engine_without_weights_is_refused(tmp_path: Path, trt: FakeTensorRt) -> None:
    with pytest.raises(ModelFileError, match="without its weights"):
        TensorRtRunner(engine_file(tmp_path, stripped=True))


def test_an_engine_on_the_cpu_is_refused(tmp_path: Path, trt: FakeTensorRt) -> None:
    with pytest.raises(ModelFileError, match=r"use the \.onnx"):
        open_runner(engine_file(tmp_path), device="cpu")


def test_an_engine_without_its_manifest_or_with_anothers_is_refused(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    file = engine_file(tmp_path)
    file.write_bytes(b"another plan")
    with pytest.raises(ManifestError, match="another file"):
        TensorRtRunner(file)
    write_manifest(file, Manifest(network="msp_cnn", stage="embed", preprocess=Preprocess()))
    with pytest.raises(ModelFileError, match="not of an engine"):
        TensorRtRunner(file)
    manifest_path(file).unlink()
    with pytest.raises(ManifestError, match="no readable manifest"):
        TensorRtRunner(file)


def test_without_tensorrt_the_install_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingPackageError, match="pip install tensorrt"):
        TensorRtRunner(engine_file(tmp_path))


def test_the_backend_names_version_and_gpu(tmp_path: Path, trt: FakeTensorRt) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        assert runner.backend == "tensorrt 10.3.0 on Fake GPU"


@pytest.mark.gpu
def test_a_real_engine_answers_as_onnx_runtime_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    try:
        open_device().close()
    except ReidError as reason:
        pytest.skip(f"no GPU: {reason}")
    from reid.export.engine import build_engine
    from reid.export.engine_options import EngineOptions
    from reid.export.onnx import export_onnx
    from reid.models.msp_cnn import MspCnn

    torch.manual_seed(0)
    manifest = Manifest(network="msp_cnn", stage="train", preprocess=Preprocess())
    network = MspCnn(num_identities=10)
    data = 50 * images(37)
    for precision, lowest_cosine in (("fp32", 0.99999), ("fp16", 0.9995)):
        onnx_file = tmp_path / f"{precision}.onnx"
        export_onnx(network, manifest, onnx_file, fp16=precision == "fp16")
        options = EngineOptions(no_tf32=True)
        built = build_engine(onnx_file, tmp_path, options)
        with open_runner(onnx_file, device="cpu") as reference, open_runner(built.path) as runner:
            expected = reference.run({"data": data})["embedding"]
            found = runner.run({"data": data})["embedding"]
        assert "inspector" in (built.manifest.engine or BUILT).precision_proof
        assert (expected * found).sum(axis=1).min() > lowest_cosine
