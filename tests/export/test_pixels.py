"""Graphs that crop and normalise by themselves answer as the network behind its preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from reid.cli import main
from reid.export.onnx import export_graph, from_pixels, prepared_graphs
from reid.export.pixels import Pixels
from reid.model_file.manifest import Manifest, read_manifest
from reid.model_file.preprocess import Preprocess
from reid.models.graphs import Graph
from reid.runtime.onnx_runner import OnnxRunner
from reid.types import ArraySpec, Image
from tests.export.conftest import lively_network

Capture = pytest.CaptureFixture[str]

PREPROCESS = Preprocess(21, 11, 16, 8, "RGB", (100.5, 101.25, 99.0), (58.0, 57.0, 56.5))
"""Sizes whose centre is between two pixels, another channel order, a scale per channel."""


@pytest.fixture(scope="module")
def images() -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 17, 3), dtype=np.uint8) for _ in range(3)]


def test_pixels_are_cropped_and_normalised_as_outside(images: list[Image]) -> None:
    size = (PREPROCESS.crop_height, PREPROCESS.crop_width)
    layer = Pixels(*PREPROCESS.crop_corner, size, PREPROCESS.mean, PREPROCESS.std)
    found = layer(torch.from_numpy(PREPROCESS.resize_only().batch(images)))
    np.testing.assert_allclose(found.numpy(), PREPROCESS.batch(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_graph_takes_resized_pixels_and_says_so(
    images: list[Image], tmp_path: Path, precision: str
) -> None:
    manifest = Manifest("msp_cnn", "train", PREPROCESS)
    (plain,) = prepared_graphs(lively_network(), manifest, fp16=precision == "fp16")
    vectors = []
    for name, (graph, described) in {
        "plain": (plain, manifest),
        "pixels": from_pixels(plain, manifest),
    }.items():
        path = tmp_path / f"{name}.onnx"
        export_graph(graph, described, path, fp16=precision == "fp16")
        found = read_manifest(path)
        with OnnxRunner(path, "cpu") as runner:
            vectors.append(runner.run({"data": found.preprocess.batch(images)})["embedding"])
    assert found.preprocess == PREPROCESS.resize_only()
    assert found.preprocess.input_shape == (3, 21, 11)
    assert ("pixels" in found.fp32_islands) is (precision == "fp16")
    nodes = [node.name for node in onnx.load(path).graph.node]
    assert {"pixels/Slice", "pixels/Sub", "pixels/Div", "conv1.conv/Conv"} <= set(nodes)
    assert np.linalg.norm(vectors[0] - vectors[0][::-1], axis=1)[0] > 1e-2
    tolerance = 1e-5 if precision == "fp32" else 2e-3
    np.testing.assert_allclose(vectors[1], vectors[0], atol=tolerance)


def test_the_command_writes_and_proves_it_beside_the_other(
    tiny_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    order = ["export", str(tiny_run), "--out", str(tmp_path), "--pixels", "--fp16", "--json"]
    assert main(order) == 0
    found = json.loads(capsys.readouterr().out)
    names = [Path(file).name for file in found["files"]]
    assert names == ["msp_cnn.pixels.fp32.onnx", "msp_cnn.pixels.fp16.onnx"]
    assert [proof["passed"] for proof in found["parity"]] == [True, True]


def test_a_graph_without_images_stays_as_it_is() -> None:
    vectors = (ArraySpec("query", (256,), batched=False), ArraySpec("gallery", (256,)))
    given = Graph("compare", torch.nn.Identity(), vectors, (ArraySpec("score", ()),))
    graph, described = from_pixels(given, Manifest("csn", "train", PREPROCESS))
    assert graph is given
    assert described.preprocess == PREPROCESS.resize_only()
