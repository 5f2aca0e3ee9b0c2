"""The engine runner over a GPU and a TensorRT made of NumPy."""

from __future__ import annotations

import sys
from pathlib import Path
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
from reid.model_file.manifest import Manifest, manifest_path, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import open_runner
from reid.runtime.device_memory import open_device
from reid.runtime.tensorrt_runner import TensorRtRunner
from reid.types import FloatArray
from tests.runtime.tensorrt_fakes import BUILT, DIM, FakeTensorRt, described, engine_file, images


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
    assert sorted(trt.batches, reverse=True) == batches


@pytest.mark.parametrize(("count", "batches"), [(1, [4]), (9, [8, 4])])
def test_a_piece_below_the_profiles_minimum_is_filled_up_and_cut(
    tmp_path: Path, trt: FakeTensorRt, count: int, batches: list[int]
) -> None:
    trt.profiles = [(4, 4, 8)]
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


@pytest.mark.parametrize(
    ("count", "batches"), [(0, []), (1, [2]), (8, [8]), (9, [8, 2]), (20, [8, 8, 4])]
)
def test_batched_inputs_are_split_alike_and_the_unbatched_one_goes_with_each_piece(
    comparison: Any, comparison_engine: Path, trt: FakeTensorRt, count: int, batches: list[int]
) -> None:
    trt.profiles = [(2, 4, 8)]
    inputs = comparison.inputs(count)
    with TensorRtRunner(comparison_engine) as runner:
        answer = runner.run(inputs)
    assert list(answer) == ["score", "product"]
    for name, expected in comparison.expected(inputs).items():
        np.testing.assert_array_equal(answer[name], expected)
    assert sorted(trt.batches, reverse=True) == batches
    assert trt.device.leaks() == (0, 0, 0, 0)


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
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_closing_frees_in_reverse_order_and_once(tmp_path: Path, trt: FakeTensorRt) -> None:
    runner = TensorRtRunner(engine_file(tmp_path))
    trt.device.events.clear()
    runner.close()
    runner.close()
    assert trt.device.events == [
        *["free_pinned", "free"] * 2,
        "del context",
        "close_stream",
        "del engine",
        "del runtime",
    ]
    assert trt.device.leaks() == (0, 0, 0, 0)
    with pytest.raises(ModelFileError, match="closed"):
        runner.run({"data": images(1)})


def test_a_failure_while_opening_frees_what_was_opened(tmp_path: Path, trt: FakeTensorRt) -> None:
    trt.device.allocations_left = 1
    with pytest.raises(ModelFileError, match="out of memory"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0, 0)
    assert trt.device.events[-4:] == [
        "del context",
        "close_stream",
        "del engine",
        "del runtime",
    ]


def test_a_plan_that_does_not_open_gives_tensorrts_words_on_one_line(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.opens = False
    with pytest.raises(ModelFileError, match="magic tag does not match; build") as refusal:
        TensorRtRunner(engine_file(tmp_path))
    assert "\n" not in str(refusal.value)
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_an_engine_that_does_not_run_is_an_error_and_can_still_be_closed(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    with TensorRtRunner(engine_file(tmp_path)) as runner:
        trt.fails_to_run = True
        with pytest.raises(ModelFileError, match="did not run"):
            runner.run({"data": images(2)})
        assert not any(trt.device.queues.values())
    assert trt.device.leaks() == (0, 0, 0, 0)


def test_an_engine_with_other_tensors_than_its_manifest_is_refused(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    trt.outputs["embedding"] = (DIM + 1,)
    with pytest.raises(ManifestError, match=r"embedding \(N, 2\), the engine has .*\(N, 3\)"):
        TensorRtRunner(engine_file(tmp_path))
    assert trt.device.leaks() == (0, 0, 0, 0)


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
    assert f"built by tensorrt 10.3.0, installed is {here}; build the engine here again" in str(
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
        with pytest.raises(EngineMismatchError, match=f"built for {architecture}, .*Fake GPU"):
            TensorRtRunner(file)
        assert trt.device.events == []
    assert trt.device.leaks() == (0, 0, 0, 0)


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
    with pytest.raises(ManifestError, match=r"manifest .* beside the model"):
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
@pytest.mark.parametrize("profiles", [((1, 8, 32),), ((1, 1, 1), (2, 16, 32))])
def test_a_real_engine_answers_alike_by_every_path(
    tmp_path: Path, profiles: tuple[tuple[int, int, int], ...]
) -> None:
    torch = pytest.importorskip("torch")
    try:
        open_device()
    except ReidError as reason:
        pytest.skip(f"no GPU: {reason}")
    from reid.export.onnx import export_onnx
    from reid.export.tensorrt.engine import build_engine
    from reid.export.tensorrt.options import EngineOptions
    from reid.model_file.manifest import BatchProfile
    from reid.models.msp_cnn.network import MspCnn

    torch.manual_seed(0)
    manifest = Manifest(network="msp_cnn", stage="train", preprocess=Preprocess())
    onnx_file = tmp_path / "fp32.onnx"
    export_onnx(MspCnn(num_identities=10), manifest, onnx_file)
    first, *more = (BatchProfile(*profile) for profile in profiles)
    options = EngineOptions(*first, no_tf32=True, more_profiles=tuple(more))
    built = build_engine(onnx_file, tmp_path, options)
    data = 50 * images(100)
    with open_runner(onnx_file, device="cpu") as reference:
        expected = reference.run({"data": data})["embedding"]
    with open_runner(built.path) as runner:
        for _ in range(2):
            for count in (1, 7, 32, 33, 100):
                found = runner.run({"data": data[:count]})["embedding"]
                assert (expected[:count] * found).sum(axis=1).min() > 0.99999
            if not runner.use_cuda_graphs():
                pytest.skip("this package for GPU memory has no CUDA graphs")


@pytest.mark.gpu
def test_a_real_engine_answers_as_onnx_runtime_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    try:
        open_device()
    except ReidError as reason:
        pytest.skip(f"no GPU: {reason}")
    from reid.export.onnx import export_onnx
    from reid.export.tensorrt.engine import build_engine
    from reid.export.tensorrt.options import EngineOptions
    from reid.models.msp_cnn.network import MspCnn

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
