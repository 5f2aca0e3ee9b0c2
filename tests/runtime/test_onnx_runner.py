"""Opening an .onnx: whose it is, what it takes, and one line where it cannot be used."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reid.errors import ManifestError, MissingPackageError, ModelFileError
from reid.files import sha256_of_file
from reid.model_file.manifest import METADATA_KEY, Manifest, manifest_path, write_manifest
from reid.model_file.onnx_seal import SEAL_BYTES, SEALED_KEY, SEALED_VALUE, seal_of
from reid.model_file.preprocess import Preprocess
from reid.runtime import onnx_runner, open_runner
from reid.runtime.inputs import padded_inputs
from reid.runtime.onnx_runner import OnnxRunner
from reid.types import ArraySpec

PREPROCESS = Preprocess(resize_height=6, resize_width=4, crop_height=6, crop_width=4)
CUDA = "CUDAExecutionProvider"
MANIFEST = Manifest("msp_cnn", "embed", PREPROCESS, output_dim=3)
DATA = np.random.default_rng(0).normal(size=(5, 3, 6, 4)).astype(np.float32)


def write_model(path: Path, manifest: Manifest | None = MANIFEST, height: int = 6) -> Path:
    """A graph that gives each image's mean colour, with ``manifest`` inside."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["embedding"]),
        ],
        "embed",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, height, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if manifest is not None:
        model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(model, path)
    return path


def write_comparison(path: Path, manifest: Manifest, query_size: int | str = 1) -> Path:
    """The graph of ``Comparison``, with ``manifest`` inside."""

    def array(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["query", "gallery"], ["product"]),
            helper.make_node("ReduceSum", ["product", "rows_columns"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["sum", "weight"], ["weighted"]),
            helper.make_node("Unsqueeze", ["weighted", "last"], ["score"]),
        ],
        "compare",
        [
            array("query", query_size, 2, 3),
            array("gallery", "batch", 2, 3),
            array("weight", "batch"),
        ],
        [array("score", "batch", 1), array("product", "batch", 2, 3)],
        [
            helper.make_tensor("rows_columns", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("size", [1, 3, 5])
def test_rows_are_the_graphs_at_any_batch_size(model, size):
    with OnnxRunner(model, device="cpu") as runner:
        found = runner.run({"data": DATA[:size]})
    assert list(found) == ["embedding"]
    assert found["embedding"].dtype == np.float32
    assert np.allclose(found["embedding"], DATA[:size].mean(axis=(2, 3)), atol=1e-6)


def test_batches_on_cuda_have_few_sizes_and_their_rows_are_those_without_padding(model):
    with OnnxRunner(model, device="cpu") as runner:
        session, sizes = runner._session, []

        class OnGpu:
            def run(self, names, arrays):
                sizes.append(len(arrays["data"]))
                return session.run(names, arrays)

        runner._session, runner.on_gpu = OnGpu(), True
        for size in (1, 3, 5, 33):
            data = np.resize(DATA, (size, *DATA.shape[1:]))
            found = runner.run({"data": data})["embedding"]
            assert np.allclose(found, data.mean(axis=(2, 3)), atol=1e-6)
    assert sizes == [1, 4, 8, 33]


def test_only_batched_inputs_are_padded(comparison):
    inputs = {"query": np.ones((1, 2, 3)), "gallery": np.ones((3, 2, 3)), "weight": np.ones(3)}
    padded = padded_inputs(inputs, comparison.manifest, (1, 2, 4))
    assert {name: len(array) for name, array in padded.items()} == {
        "query": 1,
        "gallery": 4,
        "weight": 4,
    }
    assert padded["query"] is inputs["query"]


def test_cuda_computes_full_float32_and_does_not_time_convolutions(monkeypatch):
    monkeypatch.setattr(onnx_runner.onnxruntime, "get_available_providers", lambda: [CUDA])
    monkeypatch.setattr(onnx_runner.onnxruntime, "preload_dlls", lambda: None, raising=False)
    name, options = onnx_runner._providers("cuda")[0]
    assert (name, options["use_tf32"], options["cudnn_conv_algo_search"]) == (
        CUDA,
        "0",
        "HEURISTIC",
    )


def test_empty_batch_gives_no_rows(model):
    with OnnxRunner(model, device="cpu") as runner:
        assert runner.run({"data": DATA[:0]})["embedding"].shape == (0, 3)


def test_strided_array_is_accepted(model):
    with OnnxRunner(model, device="cpu", threads=1) as runner:
        found = runner.run({"data": DATA[::2]})["embedding"]
    assert np.allclose(found, DATA[::2].mean(axis=(2, 3)), atol=1e-6)


def test_manifest_is_read_from_inside_where_none_is_beside(model):
    assert not manifest_path(model).exists()
    with OnnxRunner(model, device="cpu") as runner:
        found = dataclasses.replace(MANIFEST, file_sha256=sha256_of_file(model))
        assert runner.manifest == found


def test_manifest_beside_the_file_is_the_one_that_counts(model):
    written = write_manifest(model, dataclasses.replace(MANIFEST, parity={"passed": True}))
    with OnnxRunner(model, device="cpu") as runner:
        assert runner.manifest == written


def test_backend_names_the_release_and_the_provider(model):
    with OnnxRunner(model, device="cpu") as runner:
        assert runner.backend.startswith("onnxruntime ")
        assert runner.backend.endswith(" CPUExecutionProvider")


def test_open_runner_knows_the_suffix(model):
    with open_runner(model, device="cpu") as runner:
        assert isinstance(runner, OnnxRunner)


@pytest.fixture
def sealed(model) -> Path:
    """A model that ends with its hash, as an exported one does."""
    graph = onnx.load(model)
    graph.metadata_props.add(key=SEALED_KEY, value=SEALED_VALUE)
    content = graph.SerializeToString()
    model.write_bytes(content + seal_of(content))
    return model


def test_a_file_that_ends_with_its_hash_opens_and_others_read_the_hash_as_metadata(sealed):
    with OnnxRunner(sealed, device="cpu") as runner:
        assert dataclasses.replace(runner.manifest, file_sha256="") == MANIFEST
    *_, last = onnx.load(sealed).metadata_props
    assert (last.key, len(last.value)) == ("reid.sha256", 64)


def test_every_changed_byte_of_a_sealed_file_is_found_without_its_manifest(sealed):
    content = sealed.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        sealed.write_bytes(changed)
        with pytest.raises((ManifestError, ModelFileError)) as caught:
            OnnxRunner(sealed, device="cpu")
        assert "\n" not in str(caught.value)


def test_a_sealed_file_whose_end_is_gone_is_refused(sealed):
    sealed.write_bytes(sealed.read_bytes()[:-SEAL_BYTES])  # ONNX Runtime opens what is left
    with pytest.raises(ModelFileError, match="its end is not the hash"):
        OnnxRunner(sealed, device="cpu")


def test_a_manifest_beside_without_a_hash_leaves_the_check_to_the_seal(sealed):
    manifest_path(sealed).write_text(MANIFEST.to_json())
    OnnxRunner(sealed, device="cpu").close()
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelFileError, match=r"expected SHA-256 [0-9a-f]{12}\.\.\., found"):
        OnnxRunner(sealed, device="cpu")


def test_file_without_any_manifest_is_not_ours(tmp_path):
    path = write_model(tmp_path / "foreign.onnx", manifest=None)
    with pytest.raises(ManifestError, match="was not exported by this toolkit"):
        OnnxRunner(path, device="cpu")


def test_manifest_of_another_file_is_refused(tmp_path, model):
    write_manifest(model, MANIFEST)
    write_model(model, manifest=dataclasses.replace(MANIFEST, dataset="another"))
    with pytest.raises(ManifestError, match="describes another file"):
        OnnxRunner(model, device="cpu")


@pytest.mark.parametrize("change", [{"output_dim": 256}, {"input_name": "image"}])
def test_manifest_of_another_graph_is_refused(tmp_path, change):
    path = write_model(tmp_path / "model.onnx", dataclasses.replace(MANIFEST, **change))
    with pytest.raises(ManifestError, match=r"the manifest describes .* the graph has"):
        OnnxRunner(path, device="cpu")


def test_graph_of_another_input_size_is_refused(tmp_path):
    path = write_model(tmp_path / "model.onnx", height=8)
    with pytest.raises(ManifestError, match=r"data \(N, 3, 6, 4\).*data \(N, 3, 8, 4\)"):
        OnnxRunner(path, device="cpu")


@pytest.mark.parametrize("content", [b"", b"not an onnx file", b"\x08\x0a"])
def test_file_that_is_no_onnx_is_one_line(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not an ONNX file") as caught:
        OnnxRunner(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_truncated_file_is_refused(model):
    model.write_bytes(model.read_bytes()[:-40])
    with pytest.raises((ModelFileError, ManifestError)):
        OnnxRunner(model, device="cpu")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.onnx: no such file"):
        OnnxRunner(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"data \(N, 3, 6, 4\); found: none"),
        ({"image": DATA}, "found: 'image'"),
        ({"data": DATA, "more": DATA}, "found: 'data', 'more'"),
        ({"data": DATA.astype(np.float64)}, "float32 array, found float64"),
        ({"data": DATA.tolist()}, "float32 array, found list"),
        ({"data": DATA[0]}, r"data \(N, 3, 6, 4\), found shape \(3, 6, 4\)"),
        ({"data": DATA[:, :, :4]}, r"data \(N, 3, 6, 4\), found shape \(5, 3, 4, 4\)"),
    ],
)
def test_wrong_input_says_what_was_expected_and_found(model, inputs, message):
    with OnnxRunner(model, device="cpu") as runner, pytest.raises(ModelFileError, match=message):
        runner.run(inputs)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_several_arrays_go_in_by_name_and_come_out_by_name(tmp_path, comparison, count):
    inputs = comparison.inputs(count)
    path = write_comparison(tmp_path / "compare.onnx", comparison.manifest)
    with OnnxRunner(path, device="cpu") as runner:
        found = runner.run(inputs)
    assert list(found) == ["score", "product"]
    for name, expected in comparison.expected(inputs).items():
        assert found[name].dtype == np.float32
        assert found[name].shape == expected.shape
        assert np.allclose(found[name], expected, atol=1e-6)


def test_wrong_second_input_is_refused_before_the_session_runs(tmp_path, comparison):
    path = write_comparison(tmp_path / "compare.onnx", comparison.manifest)
    inputs = comparison.inputs(5)
    inputs["gallery"] = inputs["gallery"][:4]
    with (
        OnnxRunner(path, device="cpu") as runner,
        pytest.raises(ModelFileError, match="'gallery': 4, 'weight': 5"),
    ):
        runner.run(inputs)


def test_graph_that_batches_an_array_which_the_manifest_does_not_is_refused(tmp_path, comparison):
    path = write_comparison(tmp_path / "compare.onnx", comparison.manifest, "queries")
    expected = r"query \(1, 2, 3\) and gallery .* graph has query \(N, 2, 3\) and gallery"
    with pytest.raises(ManifestError, match=expected):
        OnnxRunner(path, device="cpu")


def test_graph_without_an_array_of_the_manifest_is_refused(tmp_path, comparison):
    outputs = (*comparison.manifest.outputs, ArraySpec("missing", (2,)))
    manifest = dataclasses.replace(comparison.manifest, outputs=outputs)
    path = write_comparison(tmp_path / "compare.onnx", manifest)
    with pytest.raises(ManifestError, match=r"missing \(N, 2\), the graph has .*"):
        OnnxRunner(path, device="cpu")


def test_an_output_that_the_manifest_does_not_list_is_left_out(tmp_path, comparison):
    outputs = comparison.manifest.outputs[:1]
    manifest = dataclasses.replace(comparison.manifest, outputs=outputs)
    path = write_comparison(tmp_path / "compare.onnx", manifest)
    with OnnxRunner(path, device="cpu") as runner:
        assert runner.run(comparison.inputs(2)).keys() == {outputs[0].name}


def test_closed_runner_does_not_run_and_closes_twice(model):
    runner = OnnxRunner(model, device="cpu")
    runner.close()
    runner.close()
    with pytest.raises(ModelFileError, match="closed"):
        runner.run({"data": DATA})


def test_unknown_device_is_refused(model):
    with pytest.raises(ModelFileError, match=r"auto, cpu, cuda, openvino.*found 'tpu'"):
        OnnxRunner(model, device="tpu")


def test_cuda_without_cuda_is_one_line_with_what_to_do(model, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ModelFileError, match="onnxruntime-gpu"):
        OnnxRunner(model, device="cuda")


def test_missing_onnxruntime_gives_the_install_line(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "reid.runtime.onnx_runner")
    with pytest.raises(MissingPackageError, match=r"pip install 'reid-toolkit\[edge\]'"):
        importlib.import_module("reid.runtime.onnx_runner")


def test_opening_and_running_imports_neither_torch_nor_onnx(model):
    code = (
        "import sys, numpy as np\n"
        "from reid.runtime import open_runner\n"
        f"runner = open_runner({str(model)!r}, device='cpu')\n"
        "runner.run({'data': np.zeros((2, 3, 6, 4), np.float32)})\n"
        "sys.exit(bool({'torch', 'onnx'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
