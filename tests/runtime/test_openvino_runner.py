"""Opening an .onnx or an OpenVINO IR with OpenVINO: the same checks, FP32 that stays FP32."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid.errors import ManifestError, MissingPackageError, ModelFileError
from reid.model_file.manifest import METADATA_KEY, Manifest, manifest_path, write_manifest
from reid.model_file.onnx_seal import SEALED_KEY, SEALED_VALUE, seal_of
from reid.model_file.opening import ModelFile
from reid.model_file.parts import sha256_of_model
from reid.runtime import open_runner, openvino_int8, openvino_library, openvino_runner
from reid.runtime.cpu_flags import has_int8_instructions
from reid.runtime.onnx_runner import OnnxRunner
from reid.runtime.openvino_library import devices, openvino
from reid.runtime.openvino_runner import OpenVinoRunner, read_model
from reid.runtime.places import OpenVinoPlace, check_device, openvino_place
from tests.runtime.test_onnx_runner import DATA, MANIFEST, write_comparison, write_model

WEIGHTS = np.random.default_rng(5).normal(size=(3 * 6 * 4, 8)).astype(np.float32)
PRODUCTS = dataclasses.replace(MANIFEST, output_dim=8)


def write_products(path: Path, batch: int | str = "batch", half: bool = False) -> Path:
    """A graph that multiplies each image's 72 pixels with WEIGHTS."""
    kind = np.float16 if half else np.float32
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["data"], ["flat"]),
            helper.make_node("Cast", ["flat"], ["cast"], to=number),
            helper.make_node("MatMul", ["cast", "weights"], ["product"]),
            helper.make_node("Cast", ["product"], ["embedding"], to=TensorProto.FLOAT),
        ],
        "embed",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, 6, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 8])],
        [numpy_helper.from_array(WEIGHTS.astype(kind), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    precision = "fp16" if half else "fp32"
    size = batch if isinstance(batch, int) else 0
    manifest = dataclasses.replace(PRODUCTS, precision=precision, static_batch=size)
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(model, path)
    return path


def write_ir(path: Path, manifest: Manifest | None = PRODUCTS) -> Path:
    """``write_products`` as an IR, ``path`` and its ``.bin``, with ``manifest`` beside it."""
    source = write_products(path.with_suffix(".source.onnx"))
    openvino.save_model(read_model(source), str(path), compress_to_fp16=False)
    if manifest is not None:
        write_manifest(path, manifest)
    return path


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def ir(tmp_path) -> Path:
    return write_ir(tmp_path / "model.xml")


def expected(count: int = 5) -> np.ndarray:
    return DATA[:count].reshape(count, -1).astype(np.float64) @ WEIGHTS


@pytest.mark.parametrize("size", [1, 3, 5])
def test_rows_of_an_onnx_are_the_graphs_at_any_batch_size(model, size):
    with OpenVinoRunner(model) as runner:
        found = runner.run({"data": DATA[:size]})
    assert list(found) == ["embedding"]
    assert found["embedding"].dtype == np.float32
    assert np.allclose(found["embedding"], DATA[:size].mean(axis=(2, 3)), atol=1e-6)


@pytest.mark.parametrize("device", ["auto", "cpu", "openvino", "openvino:CPU"])
def test_an_ir_runs_in_full_float32_on_every_name_of_the_cpu(ir, device):
    with open_runner(ir, device, threads=1) as runner:
        found = runner.run({"data": DATA})["embedding"]
        assert runner.backend == f"openvino {openvino_library.VERSION} CPU FP32"
    assert np.abs(found - expected()).max() < 1e-4  # in bfloat16 it is above 0.01


def test_bfloat16_is_asked_for_and_the_manifest_says_so(tmp_path):
    path = write_products(tmp_path / "model.onnx")
    if "BF16" not in openvino_library.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ModelFileError, match=r"BF16.*CPU.*FP32"):
            OpenVinoRunner(path, "openvino:CPU:bf16")
        return
    with OpenVinoRunner(path, "openvino:bf16") as runner:
        found = runner.run({"data": DATA})["embedding"]
        assert runner.manifest.precision == "bf16"
        assert runner.backend.endswith(" CPU BF16")
    assert 1e-4 < np.abs(found - expected()).max() < 0.5


def test_a_device_that_computes_in_another_precision_is_refused(ir, monkeypatch):
    monkeypatch.setattr(openvino_runner, "_precision_of", lambda compiled: "f16")
    with pytest.raises(ModelFileError, match=r"FP32 .* CPU.* FP16"):
        OpenVinoRunner(ir)


def test_an_fp16_file_is_computed_in_fp32_on_a_cpu_and_says_so(tmp_path):
    path = write_products(tmp_path / "model.onnx", half=True)
    with OpenVinoRunner(path) as runner:
        found = runner.run({"data": DATA})["embedding"]
        assert runner.backend.endswith("CPU FP32 (of FP16 weights)")
        assert runner.manifest.precision == "fp16"
    rounded = DATA.reshape(5, -1) @ WEIGHTS.astype(np.float16).astype(np.float32)
    assert np.abs(found - rounded).max() < 0.02  # the pixels are FP16 in this graph


def test_a_static_batch_is_looped_and_said(tmp_path):
    with OpenVinoRunner(write_products(tmp_path / "model.onnx", batch=2)) as runner:
        found = runner.run({"data": DATA})["embedding"]
        assert "2 image(s) at a time" in runner.backend
    assert np.allclose(found, expected(), atol=1e-4)


def test_empty_batch_and_strided_arrays_are_taken(model):
    with OpenVinoRunner(model) as runner:
        assert runner.run({"data": DATA[:0]})["embedding"].shape == (0, 3)
        found = runner.run({"data": DATA[::2]})["embedding"]
    assert np.allclose(found, DATA[::2].mean(axis=(2, 3)), atol=1e-6)


def test_several_threads_may_call_one_runner(ir):
    found: dict[int, np.ndarray] = {}
    with OpenVinoRunner(ir) as runner:

        def call(number: int) -> None:
            for _ in range(20):
                found[number] = runner.run({"data": DATA[number : number + 1]})["embedding"]

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, row in found.items():
        assert np.allclose(row, expected()[number : number + 1], atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_several_arrays_go_in_by_name_and_come_out_by_name(tmp_path, comparison, count):
    inputs = comparison.inputs(count)
    path = write_comparison(tmp_path / "compare.onnx", comparison.manifest)
    with OpenVinoRunner(path) as runner:
        found = runner.run(inputs)
    assert list(found) == ["score", "product"]
    for name, answer in comparison.expected(inputs).items():
        assert found[name].shape == answer.shape
        assert np.allclose(found[name], answer, atol=1e-6)


def test_bfloat16_is_refused_for_a_network_that_compares_pairs(tmp_path, comparison):
    path = write_comparison(tmp_path / "compare.onnx", comparison.manifest)
    with pytest.raises(ModelFileError, match=r"compare\.onnx.*bf16.*csn.*pairs"):
        OpenVinoRunner(path, "openvino:CPU:bf16")


def test_manifest_is_read_from_inside_an_onnx_where_none_is_beside(model):
    with OpenVinoRunner(model) as runner:
        assert dataclasses.replace(runner.manifest, file_sha256="") == MANIFEST


def test_a_foreign_file_is_not_ours(tmp_path):
    foreign = write_model(tmp_path / "foreign.onnx", manifest=None)
    for path in (foreign, write_ir(tmp_path / "model.xml", manifest=None)):
        with pytest.raises(ManifestError, match=rf"{path.name} was not exported.*import-onnx"):
            OpenVinoRunner(path)


def test_manifest_of_another_graph_is_refused(tmp_path):
    other = dataclasses.replace(PRODUCTS, output_dim=9)
    with pytest.raises(ManifestError, match=r"embedding \(N, 9\).* embedding \(N, 8\)"):
        OpenVinoRunner(write_ir(tmp_path / "model.xml", other))


def test_the_hash_of_an_ir_covers_its_weights(ir):
    joined = ir.read_bytes() + ir.with_suffix(".bin").read_bytes()
    ir.with_suffix(".joined").write_bytes(joined)
    assert ModelFile.at(ir).manifest.file_sha256 == sha256_of_model(ir.with_suffix(".joined"))


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_an_ir_with_a_changed_byte_is_refused_by_its_hash(ir, suffix):
    part = ir.with_suffix(suffix)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(ManifestError, match=r"model\.xml\.json describes another file"):
        OpenVinoRunner(ir)


@pytest.mark.parametrize("hashed", [True, False])
def test_an_ir_without_its_weights_is_refused_by_their_name(ir, hashed):
    ir.with_suffix(".bin").unlink()
    if not hashed:
        manifest_path(ir).write_text(PRODUCTS.to_json())
    with pytest.raises(ModelFileError, match=r"model\.bin.*missing"):
        OpenVinoRunner(ir)


def test_two_irs_of_one_graph_without_hashes_are_two_models(ir):
    """As a manifest written by hand has none: the weights tell the models apart."""
    manifest_path(ir).write_text(PRODUCTS.to_json())
    with OpenVinoRunner(ir) as runner:
        first = runner.manifest.model_sha256
    weights = ir.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with OpenVinoRunner(ir) as runner:
        assert runner.manifest.model_sha256 not in ("", first)


def test_a_sealed_onnx_with_a_changed_byte_is_refused(model):
    graph = onnx.load(model)
    graph.metadata_props.add(key=SEALED_KEY, value=SEALED_VALUE)
    content = graph.SerializeToString()
    sealed = content + seal_of(content)
    model.write_bytes(sealed)
    OpenVinoRunner(model).close()
    model.write_bytes(content)  # OpenVINO opens what is left
    with pytest.raises(ModelFileError, match="its end is not the hash"):
        OpenVinoRunner(model)
    model.write_bytes(sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:])
    with pytest.raises(ModelFileError, match="SHA-256"):
        OpenVinoRunner(model)


@pytest.mark.parametrize("content", [b"", b"not an onnx file", b"\x08\x0a"])
def test_file_that_is_no_onnx_is_one_line(tmp_path, content, capfd):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.onnx") as caught:
        OpenVinoRunner(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_damaged_ir_without_a_hash_is_one_line_and_ends_no_process(ir, capfd):
    """Cut at many places, and with digits and other bytes changed, in either file."""
    manifest_path(ir).write_text(PRODUCTS.to_json())
    rng = np.random.default_rng(0)
    for suffix in (".xml", ".bin"):
        part = ir.with_suffix(suffix)
        whole = part.read_bytes()
        for trial in range(40):
            content = bytearray(whole)
            place = int(rng.integers(len(content)))
            if trial % 2:
                del content[place:]
            else:
                for at in rng.integers(len(content), size=3):
                    content[at] = rng.choice([*b"0123456789-", 0, 255])
            part.write_bytes(content)
            try:
                with OpenVinoRunner(ir) as runner:
                    runner.run({"data": DATA})
            except (ModelFileError, ManifestError) as error:
                assert "\n" not in str(error)  # noqa: PT017
                assert ir.name in str(error)  # noqa: PT017
        part.write_bytes(whole)
    assert capfd.readouterr().err == ""


def test_closed_runner_does_not_run_and_closes_twice(model):
    runner = OpenVinoRunner(model)
    runner.close()
    runner.close()
    with pytest.raises(ModelFileError, match="closed"):
        runner.run({"data": DATA})


def test_a_device_that_is_not_there_names_those_that_are(model):
    with pytest.raises(ModelFileError, match=r"NOWHERE.*devices here: .*CPU") as caught:
        OpenVinoRunner(model, "openvino:NOWHERE")
    assert "\n" not in str(caught.value)
    assert "CPU" in devices()


def test_a_graph_that_openvino_cannot_hold_says_which_part(tmp_path):
    """ONNX Runtime pools a map that is smaller than the kernel, OpenVINO does not."""
    pool = helper.make_node(
        "MaxPool", ["data"], ["embedding"], kernel_shape=[9, 1], ceil_mode=1, strides=[2, 1]
    )
    graph = helper.make_graph(
        [pool],
        "embed",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 6, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    with pytest.raises(ModelFileError, match=r"[Kk]ernel.* larger than") as caught:
        read_model(path)
    assert "\n" not in str(caught.value)


def test_cuda_is_no_device_of_openvino(ir):
    with pytest.raises(ModelFileError, match=r"cuda.*openvino"):
        open_runner(ir, "cuda")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("openvino", OpenVinoPlace("CPU")),
        ("openvino:GPU", OpenVinoPlace("GPU")),
        ("openvino:bf16", OpenVinoPlace("CPU", bf16=True)),
        ("openvino:GPU.1:bf16", OpenVinoPlace("GPU.1", bf16=True)),
        ("openvino:AUTO:GPU,CPU", OpenVinoPlace("AUTO:GPU,CPU")),
        ("cuda", None),
        ("openvinos", None),
    ],
)
def test_a_device_text_says_the_device_and_the_precision(text, place):
    assert openvino_place(text) == place


def test_a_checkpoint_is_not_for_openvino():
    with pytest.raises(ModelFileError, match=r"openvino:GPU .*\.onnx"):
        check_device("openvino:GPU")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("Features\t: fp asimd asimddp\n", True),
        ("flags\t\t: fpu avx2\n", False),
        ("model name: a CPU\n", None),
    ],
)
def test_int8_instructions_are_read_from_the_cpus_flags(tmp_path, flags, found, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    (tmp_path / "cpuinfo").write_text(flags)
    assert has_int8_instructions(tmp_path / "cpuinfo") is found


def write_int8(path: Path, *, joins: bool, signed: bool = True) -> Path:
    """A Q/DQ graph: images to unit vectors by 1x1 convolutions; ``joins`` has a concatenation."""
    rng = np.random.default_rng(1)
    kind = np.int8 if signed else np.uint8
    step = np.float32(3 / (127 if signed else 255))
    nodes, weights = [], []

    def quantised(name: str, scale: np.float32) -> str:
        weights.append(numpy_helper.from_array(scale, f"{name}_scale"))
        weights.append(numpy_helper.from_array(kind(0), f"{name}_zero"))
        terms = [f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *terms], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *terms], [f"{name}_d"]))
        return f"{name}_d"

    def convolved(source: str, before: int, after: int, name: str) -> str:
        steps = rng.integers(-127, 128, (after, before, 1, 1)).astype(np.int8)
        weights.append(numpy_helper.from_array(steps, f"{name}_w"))
        weights.append(numpy_helper.from_array(np.full(after, 0.01, np.float32), f"{name}_s"))
        weights.append(numpy_helper.from_array(np.zeros(after, np.int8), f"{name}_z"))
        terms = [f"{name}_w", f"{name}_s", f"{name}_z"]
        nodes.append(helper.make_node("DequantizeLinear", terms, [f"{name}_k"], axis=0))
        nodes.append(helper.make_node("Conv", [source, f"{name}_k"], [f"{name}_c"]))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [name]))
        return name

    nodes.append(helper.make_node("Relu", ["data"], ["pixels"]))
    pixels = quantised("pixels", step)
    first = convolved(pixels, 3, 16, "first")
    if joins:
        second = convolved(pixels, 3, 16, "second")
        nodes.append(helper.make_node("Concat", [first, second], ["joined"], axis=1))
    last = convolved(quantised("joined" if joins else first, step), 32 if joins else 16, 8, "last")
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"]))
    graph = helper.make_graph(
        nodes,
        "embed",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 6, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 8])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    write_manifest(path, dataclasses.replace(PRODUCTS, precision="int8", preprocess=SMALL))
    return path


SMALL = dataclasses.replace(PRODUCTS.preprocess, mean=(0.0, 0.0, 0.0), std=(100.0, 100.0, 100.0))


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_an_int8_graph_gives_its_own_answers_with_every_kind_of_activation(tmp_path, joins, signed):
    """OpenVINO's 8-bit kernels compute a concatenation of signed arrays wrongly."""
    path = write_int8(tmp_path / "model.onnx", joins=joins, signed=signed)
    with OnnxRunner(path, "cpu") as runner:
        right = runner.run({"data": DATA})["embedding"]
    with OpenVinoRunner(path) as runner:
        found = runner.run({"data": DATA})["embedding"]
        assert "INT8" in runner.backend
    assert np.abs(found - right).max() < 0.03 * np.abs(right).max()


def test_an_int8_graph_whose_kernels_answer_otherwise_is_computed_in_floating_point(
    tmp_path, monkeypatch
):
    path = write_int8(tmp_path / "model.onnx", joins=False)
    monkeypatch.setattr(openvino_int8, "_lowest_cosine", lambda *rows: 0.5)
    for vnni, why in ((True, "other answers, lowest row cosine 0.50"), (False, "VNNI")):
        monkeypatch.setattr(openvino_int8, "has_int8_instructions", lambda found=vnni: found)
        with OpenVinoRunner(path) as runner:
            assert "CPU INT8 computed in FP32" in runner.backend
            assert why in runner.backend
    monkeypatch.setattr(openvino_int8, "_lowest_cosine", lambda *rows: 1.0)
    monkeypatch.setattr(openvino_int8, "has_int8_instructions", lambda: True)
    with OpenVinoRunner(path) as runner:
        assert runner.backend.endswith("CPU INT8 and FP32")
    with OpenVinoRunner(write_int8(tmp_path / "model.onnx", joins=True)) as runner:
        assert "concatenation" in runner.backend


@pytest.mark.parametrize(
    ("other", "cosine"), [([1.0, 0.0], 1.0), ([0.0, 2.0], 0.0), ([np.nan, 1.0], -1.0)]
)
def test_the_lowest_cosine_is_that_of_the_worst_row(other, cosine):
    rows = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    others = np.array([[1.2, 1.6], other], np.float32)
    assert np.isclose(openvino_int8._lowest_cosine(rows, others), cosine)


def test_missing_openvino_gives_the_install_line(model, monkeypatch):
    for name in ("reid.runtime.openvino_runner", "reid.runtime.openvino_library"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"\[openvino\]"):
        open_runner(model, "openvino")


def test_opening_and_running_connect_to_no_address(ir, tmp_path):
    """Importing OpenVINO alone would start a process that reports, and write into ~/intel."""
    program = f"""
import sys
seen = []
watched = ("socket.connect", "socket.getaddrinfo", "os.fork", "subprocess.Popen")
sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)
from reid.runtime import open_runner
with open_runner({str(ir)!r}) as runner:
    import numpy
    runner.run({{"data": numpy.zeros((1, 3, 6, 4), numpy.float32)}})
assert "openvino" in sys.modules
assert not seen, seen
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert "torch" not in sys.modules
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "CI": ""}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not list(home.iterdir())
