"""One branch, the other, and both: three vector networks out of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reid.export.onnx import export_graph
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.models.graphs import Graph
from reid.models.sisnet.graphs import Cascade, scale_graphs
from reid.models.sisnet.network import SisNet
from reid.models.sisnet.settings import SisNetSettings
from reid.runtime.onnx_runner import OnnxRunner

SHAPE = (3, 48, 24)
SMALL = Preprocess(resize_height=48, resize_width=24, crop_height=48, crop_width=24)


def network_of() -> SisNet:
    torch.manual_seed(0)
    network = SisNet(5, SisNetSettings(depth=18, second_size=(40, 20))).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network


@pytest.fixture(scope="module")
def network() -> SisNet:
    return network_of()


def graphs_by_name(network: SisNet, normalise: bool = True) -> dict[str, Graph]:
    return {graph.name: graph for graph in scale_graphs(network, SHAPE, normalise)}


def images(number: int = 3) -> Tensor:
    return torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_one_branch_is_deployed_and_the_others_come_on_request(network: SisNet) -> None:
    graphs = graphs_by_name(network)
    assert {name: graph.on_request for name, graph in graphs.items()} == {
        "embed": False,
        "second": True,
        "cascade": True,
    }
    for graph in graphs.values():
        (data,), (embedding,) = graph.inputs, graph.outputs
        assert (data.name, data.shape, embedding.name) == ("data", SHAPE, "embedding")
        found = graph.module(images())
        assert found.shape == (3, *embedding.shape)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_each_branch_is_the_network_on_its_scale(network: SisNet) -> None:
    graphs = graphs_by_name(network, normalise=False)
    x = images()
    torch.testing.assert_close(graphs["embed"].module(x), network.embed(x))
    torch.testing.assert_close(graphs["second"].module(x), network.embed(network.second_scale(x)))


def test_a_squared_distance_of_the_cascade_is_the_mean_of_the_branches(network: SisNet) -> None:
    squared = {
        name: torch.cdist(*[graph.module(images())] * 2).square()
        for name, graph in graphs_by_name(network).items()
    }
    torch.testing.assert_close(squared["cascade"], (squared["embed"] + squared["second"]) / 2)
    assert not torch.allclose(squared["embed"], squared["second"])


def test_a_cascade_of_raw_branches_is_their_concatenation(network: SisNet) -> None:
    x = images()
    found = Cascade(network, normalise_branches=False).embed(x)
    parts = network.embed(x), network.embed(network.second_scale(x))
    torch.testing.assert_close(found, torch.cat(parts, 1))


def test_the_cascade_is_one_onnx_file_that_takes_any_batch(network: SisNet, tmp_path: Path) -> None:
    graph = graphs_by_name(network)["cascade"]
    path = tmp_path / "cascade.onnx"
    manifest = export_graph(graph, Manifest("sisnet", "train", SMALL), path, fp16=False)
    assert (manifest.stage, manifest.output_dim, manifest.opset) == ("cascade", 1024, 18)
    with OnnxRunner(path, "cpu", 1) as runner:
        for number in (1, 3):
            found = runner.run({"data": images(number).numpy()})["embedding"]
            torch.testing.assert_close(
                torch.from_numpy(found), graph.module(images(number)), rtol=1e-4, atol=1e-5
            )
