"""What needs no builder: options, names, proofs, progress, and what to do without a GPU."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from reid.errors import BuildError, ConfigError, MissingPackageError, ModelFileError
from reid.export.tensorrt import engine as engine_module
from reid.export.tensorrt.builder_config import builder_config
from reid.export.tensorrt.builder_progress import TOTAL, PhaseTree
from reid.export.tensorrt.engine import build_engine
from reid.export.tensorrt.options import (
    EngineOptions,
    engine_file_name,
    engine_path,
    profile_from_text,
)
from reid.export.tensorrt.precision import (
    ParsedLayer,
    ParsedNetwork,
    check_inspected_precision,
    check_parsed_precision,
    check_plan_size,
)
from reid.export.tensorrt.timing_cache import attach_timing_cache, save_timing_cache
from reid.model_file.manifest import BatchProfile, EngineInfo, Manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import tensorrt_module
from tests.runtime.tensorrt_fakes import FakeDevice, FakeEngine, FakeTensorRt

JETSON = EngineInfo("sm87", "10.3.0", "tensorrt", min_batch=1, opt_batch=8, max_batch=32)


def manifest(precision: str = "fp16", islands: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        network="msp_cnn",
        stage="embed",
        preprocess=Preprocess(),
        precision=precision,
        fp32_islands=islands,
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_batch": 0}, "1 <= min <= opt <= max"),
        ({"min_batch": 9}, "9, 8, 32"),
        ({"opt_batch": 64}, "1, 64, 32"),
        ({"more_profiles": (BatchProfile(1, 1, 1), BatchProfile(4, 2, 8))}, "4, 2, 8"),
        ({"builder_optimization_level": 6}, "--builderOptimizationLevel must be 0 to 5, found 6"),
        ({"mem_pool_size_mib": 0}, "--memPoolSize"),
        ({"hardware_compatibility_level": "ampere"}, "did you mean 'ampere\\+'"),
        ({"flavour": "tensorrt-rtx"}, "did you mean 'tensorrt_rtx'"),
        (
            {"flavour": "tensorrt_rtx", "hardware_compatibility_level": "ampere+"},
            "--hardwareCompatibilityLevel .*tensorrt_rtx",
        ),
    ],
)
def test_an_option_out_of_range_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EngineOptions(**settings)


def test_the_file_name_carries_what_makes_it_not_portable() -> None:
    assert engine_file_name(manifest(), JETSON) == "msp_cnn.sm87.trt10.3.fp16.b1-8-32.engine"
    moved = EngineInfo("rtx", "1.7.1", "tensorrt_rtx", 1, 4, 4, stripped=True)
    assert (
        engine_file_name(manifest("fp32"), moved)
        == "msp_cnn.rtx.trtrtx1.7.fp32.b1-4-4.stripped.engine"
    )


def test_the_file_name_carries_every_profile() -> None:
    two = dataclasses.replace(JETSON, min_batch=1, opt_batch=1, max_batch=1)
    two = dataclasses.replace(two, more_profiles=(BatchProfile(2, 8, 32),))
    assert engine_file_name(manifest(), two) == "msp_cnn.sm87.trt10.3.fp16.b1-1-1+2-8-32.engine"


def test_a_profile_is_read_from_its_three_sizes() -> None:
    assert profile_from_text("2-8-32") == BatchProfile(2, 8, 32)
    for text in ("", "8", "1-8", "1-8-32-64", "1--8", "-1-8-32", "1-8-x", "1.0-8-32"):
        with pytest.raises(ConfigError, match="MIN-OPT-MAX"):
            profile_from_text(text)


def test_the_file_name_says_which_of_several_graphs_it_is() -> None:
    describe = dataclasses.replace(manifest(), network="csn", stage="describe")
    assert engine_file_name(describe, JETSON) == "csn.describe.sm87.trt10.3.fp16.b1-8-32.engine"


def test_a_target_with_an_engine_suffix_is_the_file_and_any_other_its_folder() -> None:
    assert engine_path(Path("out/model.plan"), manifest(), JETSON) == Path("out/model.plan")
    named = engine_path(Path("out.v1"), manifest(), JETSON)
    assert named == Path("out.v1") / "msp_cnn.sm87.trt10.3.fp16.b1-8-32.engine"


def parsed(*types: str) -> ParsedNetwork:
    layers = [ParsedLayer(f"conv{i}/Conv", data_type) for i, data_type in enumerate(types)]
    return ParsedNetwork(tuple(layers), num_weights=0)


def test_parsed_types_must_be_the_manifests() -> None:
    check_parsed_precision(parsed("HALF", "HALF"), manifest("fp16"), "a.onnx")
    check_parsed_precision(parsed("FLOAT"), manifest("fp32"), "a.onnx")
    with pytest.raises(BuildError, match=r"1 of 2 .* parse as FLOAT \(first: conv1/Conv\)"):
        check_parsed_precision(parsed("HALF", "FLOAT"), manifest("fp16"), "a.onnx")
    with pytest.raises(BuildError, match="parse as HALF"):
        check_parsed_precision(parsed("FLOAT", "HALF"), manifest("fp32"), "a.onnx")


def test_a_product_in_a_named_island_may_stay_fp32() -> None:
    network = parsed("HALF", "FLOAT")
    check_parsed_precision(network, manifest("fp16", islands=("conv1",)), "a.onnx")
    with pytest.raises(BuildError, match="conv1/Conv"):
        check_parsed_precision(network, manifest("fp16", islands=("conv",)), "a.onnx")
    with pytest.raises(BuildError, match="outside the FP32 islands"):
        check_parsed_precision(parsed("FLOAT"), manifest("fp16", islands=("conv0",)), "a.onnx")


def test_a_precision_that_has_no_proof_is_refused() -> None:
    with pytest.raises(BuildError, match="the manifest has 'int4'"):
        check_parsed_precision(parsed("HALF"), manifest("int4"), "a.onnx")


def inspected(*layers: tuple[str, str, str]) -> str:
    return json.dumps(
        {
            "Layers": [
                {
                    "Name": f"layer{index}",
                    "LayerType": kind,
                    "Inputs": [{"Name": "x", "Format/Datatype": source}],
                    "Outputs": [{"Name": "y", "Format/Datatype": target}],
                }
                for index, (kind, source, target) in enumerate(layers)
            ]
        }
    )


HALF = "Channel major FP16 format where channel % 8 == 0"
FLOAT = "Row major linear FP32"


def test_the_inspector_proves_an_fp16_engine_by_its_tensors() -> None:
    report = inspected(
        ("Reformat", FLOAT, HALF), ("CaskConvolution", HALF, HALF), ("gemm", HALF, FLOAT)
    )
    proof = check_inspected_precision(report, "fp16")
    assert proof == "inspector: 3 of 3 layers use FP16, no FP32 product"
    half_words = inspected(("CaskConvolution", "Half", "Half"))
    assert "1 of 1" in check_inspected_precision(half_words, "fp16")


def test_the_inspector_refuses_an_fp16_engine_with_an_fp32_convolution() -> None:
    report = inspected(("CaskConvolution", HALF, HALF), ("CaskConvolution", FLOAT, FLOAT))
    with pytest.raises(BuildError, match=r"1 of its .* FP32 \(first: layer1\)"):
        check_inspected_precision(report, "fp16")
    with pytest.raises(BuildError, match="all of its"):
        check_inspected_precision(inspected(("PointWise", FLOAT, FLOAT)), "fp16")


def test_the_inspector_leaves_a_product_of_a_named_island_in_fp32() -> None:
    body = json.loads(inspected(("gemm", HALF, HALF), ("gemm", FLOAT, FLOAT)))
    body["Layers"][1]["Name"] = "stn.theta/Gemm + stn.tanh/Tanh"
    report = json.dumps(body)
    proof = check_inspected_precision(report, "fp16", ("stn.theta",))
    assert proof == "inspector: 1 of 2 layers use FP16, no FP32 product outside the islands"
    with pytest.raises(BuildError, match=r"1 of its .* FP32 \(first: stn.theta/Gemm"):
        check_inspected_precision(report, "fp16", ("stn",))


def myelin(*nodes: str) -> str:
    """The report of a half precision product, and of an FP32 one that Myelin fused of nodes."""
    body = json.loads(inspected(("gemm", HALF, HALF), ("gemm", FLOAT, FLOAT)))
    layers = body["Layers"]
    layers[0] |= {"Name": "__mye1_myl0_1", "Metadata": "[ONNX Layer: fc7/Gemm]"}
    metadata = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes)
    layers[1] |= {"Name": "stn.theta/Gemm_myl0_2", "Metadata": metadata}
    return json.dumps(body)


def test_the_inspector_finds_islands_by_metadata_where_myelin_renamed_their_layers() -> None:
    report = myelin("stn.theta/Gemm", "stn.tanh/Tanh")
    assert "no FP32 product" in check_inspected_precision(report, "fp16", ("stn.theta",))
    report = myelin("stn.theta/Reshape", "stn.tanh/Tanh")
    assert "no FP32 product" in check_inspected_precision(report, "fp16", ("stn.tanh",))


def test_a_product_outside_is_not_excused_by_an_island_in_the_same_layer_or_its_name() -> None:
    for nodes in (["fc7/Gemm"], ["stn.theta/Gemm", "fc7/MatMul"], ["fc7/Gemm", "stn.theta/Tanh"]):
        with pytest.raises(BuildError, match=r"1 of its .* FP32"):
            check_inspected_precision(myelin(*nodes), "fp16", ("stn.theta",))


def test_the_inspector_refuses_half_in_an_fp32_engine() -> None:
    report = inspected(("CaskConvolution", FLOAT, FLOAT))
    assert check_inspected_precision(report, "fp32") == "inspector: 1 layers, none FP16"
    with pytest.raises(BuildError, match="1 of its layers use FP16"):
        check_inspected_precision(inspected(("CaskConvolution", HALF, FLOAT)), "fp32")


def test_an_inspector_that_shows_names_only_proves_nothing() -> None:
    assert check_inspected_precision('{"Layers": ["conv1", "conv2"]}', "fp16") == ""


def test_a_plan_as_heavy_as_fp32_weights_is_not_fp16() -> None:
    weights = 6_742_208
    assert "0.54" in check_plan_size(14_546_532, weights, "fp16")
    assert "1.03" in check_plan_size(27_749_108, weights, "fp32")
    with pytest.raises(BuildError, match="FP32 weights"):
        check_plan_size(27_749_108, weights, "fp16")
    assert check_plan_size(10**8, 1000, "fp16") == ""
    # 10 MiB in FP32: the code of two profiles may take as much.
    assert check_plan_size(10 << 20, (10 << 20) // 4, "fp16", num_profiles=2) == ""


def test_progress_of_nested_phases_only_grows() -> None:
    tree = PhaseTree()
    tree.start("build", None, 4)
    seen = [tree.step("build", 0)]
    tree.start("tactics", "build", 10)
    seen += [tree.step("tactics", index) for index in range(5)]
    tree.start("kernels", "tactics", 2)
    seen += [tree.step("kernels", 0), tree.finish("kernels"), tree.finish("tactics")]
    seen += [tree.step("build", 1), tree.finish("build")]
    assert seen == sorted(seen)
    assert seen[0] == TOTAL // 4
    assert seen[5] == 250 + 125
    assert seen[6] == 250 + int(250 * 0.55)
    assert seen[-1] == TOTAL


class Log:
    """The captured log, with lines put in by hand."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class Config:
    """A builder configuration that takes caches of one version only."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.cache = b""

    def create_timing_cache(self, stored: bytes) -> SimpleNamespace:
        if stored == b"damaged":
            self._log.lines.append("Failed to deserialize\ntiming cache.")
            stored = b""
        return SimpleNamespace(stored=stored, serialize=lambda: stored + b"+")

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.stored.startswith(b"other"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> SimpleNamespace:
        return self.cache


TRT = ModuleType("tensorrt")


def test_a_timing_cache_is_made_saved_and_reused(tmp_path: Path) -> None:
    file, log = tmp_path / "timing.cache", Log()
    config = Config(log)
    assert attach_timing_cache(TRT, config, file, log).endswith(": new")
    save_timing_cache(config, file)
    assert file.read_bytes() == b"+"
    assert attach_timing_cache(TRT, config, file, log).endswith(": reused")
    save_timing_cache(config, file)
    assert file.read_bytes() == b"++"


def test_a_damaged_or_foreign_timing_cache_is_set_aside_with_a_line(tmp_path: Path) -> None:
    file, log = tmp_path / "timing.cache", Log()
    for stored, words in ((b"damaged", "deserialize timing cache"), (b"other", "another TensorRT")):
        file.write_bytes(stored)
        config = Config(log)
        line = attach_timing_cache(TRT, config, file, log)
        assert "replaced" in line
        assert words in line
        assert "\n" not in line
        save_timing_cache(config, file)
        assert file.read_bytes() == b"+"


def test_a_timing_cache_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    log = Log()
    with pytest.raises(BuildError, match="cannot be read"):
        attach_timing_cache(TRT, Config(log), tmp_path, log)


class Recorder(SimpleNamespace):
    """Stands for TensorRT's configuration and profile: it keeps what was set."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("set_", "add_", "clear_")):
            raise AttributeError(name)

        def record(*arguments: Any) -> int:
            calls = self.__dict__.setdefault("calls", [])
            calls.append((name, *arguments))
            return len(calls) - 1

        return record


def fake_builder_parts() -> tuple[Any, Any, Any, Recorder, Recorder]:
    """TensorRT, its builder, a network, what the builder configured, and its first profile."""
    config, profile = Recorder(), Recorder()
    profiles = itertools.chain([profile], iter(Recorder, None))
    trt = SimpleNamespace(
        __name__="tensorrt",
        __version__="10.3.0",
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        HardwareCompatibilityLevel=SimpleNamespace(NONE=0, AMPERE_PLUS=1),
        BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="vc", STRIP_PLAN="strip", TF32="tf32"),
    )
    builder = SimpleNamespace(
        create_builder_config=lambda: config, create_optimization_profile=lambda: next(profiles)
    )
    data = SimpleNamespace(name="data", shape=(-1, 3, 144, 56))
    network = SimpleNamespace(num_inputs=1, get_input=lambda index: data)
    return trt, builder, network, config, profile


def test_options_reach_the_builder() -> None:
    trt, builder, network, config, profile = fake_builder_parts()
    options = EngineOptions(
        min_batch=2,
        opt_batch=4,
        max_batch=16,
        mem_pool_size_mib=512,
        builder_optimization_level=5,
        hardware_compatibility_level="ampere+",
        version_compatible=True,
        strip_weights=True,
    )
    builder_config(trt, builder, network, options)
    row = (3, 144, 56)
    assert profile.calls == [("set_shape", "data", (2, *row), (4, *row), (16, *row))]
    assert config.calls == [
        ("add_optimization_profile", profile),
        ("set_memory_pool_limit", "workspace", 512 << 20),
        ("set_flag", "vc"),
        ("set_flag", "strip"),
        ("clear_flag", "tf32"),
    ]
    assert config.profiling_verbosity == "detailed"
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1-8-32+33-128-256"),
        ({"more_profiles": ()}, "1-8-32"),
        ({"max_batch": 64}, "1-8-64"),
        ({"more_profiles": (BatchProfile(33, 64, 64),)}, "1-8-32+33-64-64"),
    ],
)
def test_a_second_profile_is_for_a_large_gpu_unless_batch_sizes_are_chosen(
    given: dict[str, Any], expected: str
) -> None:
    assert "+".join(map(str, EngineOptions(**given).profiles)) == expected


@pytest.mark.parametrize(
    ("integrated", "given", "expected"),
    [
        (False, None, "1-8-32+33-128-256"),
        (True, None, "1-8-32"),
        (True, (BatchProfile(33, 64, 64),), "1-8-32+33-64-64"),
    ],
)
def test_a_gpu_that_uses_the_cpus_memory_gets_the_second_profile_only_if_asked(
    monkeypatch: pytest.MonkeyPatch,
    integrated: bool,
    given: tuple[BatchProfile, ...] | None,
    expected: str,
) -> None:
    device = FakeDevice()
    device.integrated = integrated
    monkeypatch.setattr(engine_module, "open_device", lambda: device)
    options = EngineOptions(more_profiles=given)
    info = engine_module._target_of(FakeTensorRt(device, "10.3.0"), "tensorrt", options)
    assert "+".join(map(str, info.profiles)) == expected


def test_each_profile_reaches_the_builder_in_order() -> None:
    trt, builder, network, config, profile = fake_builder_parts()
    further = (BatchProfile(2, 8, 32), BatchProfile(33, 64, 128))
    builder_config(trt, builder, network, EngineOptions(1, 1, 1, more_profiles=further))
    row = (3, 144, 56)
    added = [call[1] for call in config.calls if call[0] == "add_optimization_profile"]
    assert added[0] is profile
    assert [one.calls for one in added] == [
        [("set_shape", "data", *((size, *row) for size in sizes))]
        for sizes in ((1, 1, 1), *further)
    ]


def test_defaults_leave_the_builder_as_it_is_but_for_tf32() -> None:
    trt, builder, network, config, _ = fake_builder_parts()
    builder_config(trt, builder, network, EngineOptions())
    assert [call[0] for call in config.calls] == [*["add_optimization_profile"] * 2, "clear_flag"]
    builder_config(trt, builder, network, EngineOptions(no_tf32=False))
    assert [call[0] for call in config.calls[3:]] == ["add_optimization_profile"] * 2
    assert not hasattr(config, "builder_optimization_level")


def test_a_hardware_level_of_a_later_tensorrt_is_refused_in_one_line() -> None:
    trt, builder, network, _, _ = fake_builder_parts()
    options = EngineOptions(hardware_compatibility_level="sameComputeCapability")
    with pytest.raises(BuildError, match=r"tensorrt 10\.3\.0 .*--hardware"):
        builder_config(trt, builder, network, options)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    file = tmp_path / "msp_cnn.onnx"
    file.write_bytes(b"not read before a builder is found")
    write_manifest(file, manifest("fp32"))
    return file


def without_tensorrt(monkeypatch: pytest.MonkeyPatch, *flavours: str) -> None:
    for flavour in flavours:
        monkeypatch.setitem(sys.modules, flavour, None)


def test_without_tensorrt_the_install_lines_are_given(
    monkeypatch: pytest.MonkeyPatch, onnx_file: Path, tmp_path: Path
) -> None:
    without_tensorrt(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(MissingPackageError, match=r"pip install tensorrt .*tensorrt-rtx"):
        build_engine(onnx_file, tmp_path)


def test_plain_tensorrt_without_a_gpu_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, onnx_file: Path, tmp_path: Path
) -> None:
    without_tensorrt(monkeypatch, "tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt", TRT)

    def no_device() -> None:
        raise ModelFileError("CUDA error 35")

    monkeypatch.setattr(engine_module, "open_device", no_device)
    for flavour in ("auto", "tensorrt"):
        with pytest.raises(BuildError, match=r"no GPU found: .*tensorrt-rtx") as e:
            build_engine(onnx_file, tmp_path, EngineOptions(flavour=flavour))
        assert "\n" not in str(e.value)


def factory_without_a_driver(log: Any) -> None:
    raise TypeError("pybind11::init(): factory function returned nullptr")


def test_a_driver_too_old_for_the_builder_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, onnx_file: Path, tmp_path: Path
) -> None:
    trt = FakeTensorRt(FakeDevice(), "11.4.0")
    trt.Builder = factory_without_a_driver
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(engine_module, "open_device", FakeDevice)
    monkeypatch.setattr(tensorrt_module, "driver_words", lambda: "the driver here is 550.54.14")
    with pytest.raises(BuildError, match=r"tensorrt 11\.4\.0 .*550\.54\.14") as refusal:
        build_engine(onnx_file, tmp_path, EngineOptions(flavour="tensorrt"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("which", ["runtime", "engine", "inspector"])
def test_an_engine_that_cannot_be_inspected_here_is_no_error(
    monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    trt = FakeTensorRt(FakeDevice(), "11.4.0")
    trt.starts, trt.opens = which != "runtime", which != "engine"
    monkeypatch.setattr(FakeEngine, "create_engine_inspector", lambda _: None, raising=False)
    assert engine_module._inspected(trt, b"plan", manifest(), EngineOptions()) == ""


def test_a_profile_that_tensorrt_rejects_is_refused_in_one_line() -> None:
    trt, builder, network, config, _ = fake_builder_parts()
    config.add_optimization_profile = lambda _: -1
    with pytest.raises(BuildError, match="1-8-32"):
        builder_config(trt, builder, network, EngineOptions())


def test_a_timing_cache_that_tensorrt_does_not_give_is_not_written(tmp_path: Path) -> None:
    cache = SimpleNamespace(serialize=lambda: None)
    save_timing_cache(SimpleNamespace(get_timing_cache=lambda: cache), tmp_path / "timing.cache")
    assert not (tmp_path / "timing.cache").exists()
