"""A network in memory behind the same seam as an exported file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.errors import ModelFileError
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.models.embedding import EmbeddingNetwork
from reid.runtime.torch_runner import PIECE, TorchRunner, _full_float32

PREPROCESS = Preprocess(resize_height=6, resize_width=4, crop_height=6, crop_width=4)
MANIFEST = Manifest("msp_cnn", "embed", PREPROCESS, output_dim=5)
DATA = np.random.default_rng(0).normal(size=(4, 3, 6, 4)).astype(np.float32)


class SmallNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.bn = nn.BatchNorm2d(5)
        self.dropout = nn.Dropout(0.5)

    def embed(self, x: Tensor) -> Tensor:
        return self.dropout(self.bn(self.conv(x))).mean(dim=(2, 3))


@pytest.fixture
def network() -> SmallNetwork:
    torch.manual_seed(0)
    return SmallNetwork().train()


def test_rows_are_the_networks_in_evaluation_mode(network):
    with TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu") as runner:
        found = runner.run({"data": DATA})["embedding"]
    with torch.no_grad():
        expected = network.eval().embed(torch.from_numpy(DATA)).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)


def test_rows_do_not_depend_on_the_batch(network):
    with TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu") as runner:
        together = runner.run({"data": DATA})["embedding"]
        alone = [runner.run({"data": DATA[i : i + 1]})["embedding"] for i in range(4)]
    assert np.allclose(together, np.concatenate(alone), atol=1e-6)


def test_many_images_go_through_some_at_a_time_and_come_out_in_order(network):
    data = np.random.default_rng(1).normal(size=(2 * PIECE + 3, 3, 6, 4)).astype(np.float32)
    sizes = []
    module = EmbeddingNetwork(network)
    module.register_forward_hook(lambda _module, inputs, _answer: sizes.append(len(inputs[0])))
    with TorchRunner(module, MANIFEST, device="cpu") as runner:
        found = runner.run({"data": data})["embedding"]
    assert sizes == [PIECE, PIECE, 3]
    with torch.no_grad():
        expected = module(torch.from_numpy(data)).numpy()
    assert np.allclose(found, expected, atol=1e-6)


def test_empty_batch_gives_no_rows(network):
    with TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu") as runner:
        assert runner.run({"data": DATA[:0]})["embedding"].shape == (0, 5)


def test_callers_array_is_not_changed(network):
    before = DATA.copy()
    with TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu") as runner:
        runner.run({"data": DATA})
    assert np.array_equal(DATA, before)


def test_thread_count_of_the_process_is_given_back(network):
    before = torch.get_num_threads()
    counts = []
    module = EmbeddingNetwork(network)
    module.register_forward_hook(lambda *_: counts.append(torch.get_num_threads()))
    with TorchRunner(module, MANIFEST, device="cpu", threads=before + 1) as runner:
        runner.run({"data": DATA})
    assert counts == [before + 1]
    assert torch.get_num_threads() == before


def test_wrong_shape_says_what_was_expected_and_found(network):
    runner = TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu")
    with pytest.raises(ModelFileError, match=r"data \(N, 3, 6, 4\), found shape \(4, 3, 4, 6\)"):
        runner.run({"data": DATA.swapaxes(2, 3)})


def test_output_that_the_manifest_does_not_describe_is_refused(network):
    manifest = Manifest("msp_cnn", "embed", PREPROCESS, output_dim=256)
    runner = TorchRunner(EmbeddingNetwork(network), manifest, device="cpu")
    with pytest.raises(ModelFileError, match=r"N = 4, .*\(4, 5\)"):
        runner.run({"data": DATA})


class Compare(nn.Module):
    def forward(self, query: Tensor, gallery: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        product = query * gallery
        return (product.sum(dim=(1, 2)) * weight)[:, None], product


@pytest.mark.parametrize("count", [0, 1, 5, 2 * PIECE + 1])
def test_several_arrays_go_in_by_name_and_come_out_by_name(comparison, count):
    inputs = comparison.inputs(count)
    with TorchRunner(Compare(), comparison.manifest, device="cpu") as runner:
        found = runner.run(inputs)
    assert list(found) == ["score", "product"]
    for name, expected in comparison.expected(inputs).items():
        assert found[name].dtype == np.float32
        assert found[name].shape == expected.shape
        assert np.allclose(found[name], expected, atol=1e-6)


class WideningCompare(Compare):
    takes_half = True

    def forward(self, query: Tensor, gallery: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        assert gallery.dtype == torch.float16
        return super().forward(query, gallery.float(), weight)


def test_float16_goes_into_a_network_that_takes_it_and_into_no_other(comparison):
    inputs = comparison.inputs(5)
    half = {**inputs, "gallery": inputs["gallery"].astype(np.float16)}
    half["gallery"].flags.writeable = False  # as in a mapped file
    with TorchRunner(WideningCompare(), comparison.manifest, device="cpu") as runner:
        found = runner.run(half)
    expected = comparison.expected(inputs)
    assert np.allclose(found["product"], expected["product"], rtol=1e-2, atol=1e-2)
    with (
        TorchRunner(Compare(), comparison.manifest, device="cpu") as runner,
        pytest.raises(ModelFileError, match="'gallery' must be a float32 array, found float16"),
    ):
        runner.run(half)


def test_wrong_second_input_is_refused_before_the_network_runs(comparison):
    inputs = comparison.inputs(5)
    inputs["gallery"] = inputs["gallery"][:4]
    with (
        TorchRunner(Compare(), comparison.manifest, device="cpu") as runner,
        pytest.raises(ModelFileError, match="'gallery': 4, 'weight': 5"),
    ):
        runner.run(inputs)


def test_network_with_another_number_of_outputs_is_refused(comparison):
    class First(Compare):
        def forward(self, *inputs: Tensor) -> Tensor:
            return super().forward(*inputs)[0]

    runner = TorchRunner(First(), comparison.manifest, device="cpu")
    expected = r"score \(N, 1\), product \(N, 2, 3\) with N = 5, .*\(5, 1\)"
    with pytest.raises(ModelFileError, match=expected):
        runner.run(comparison.inputs(5))


def test_backend_names_torch_and_the_device(network):
    runner = TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu")
    assert runner.backend == f"torch {torch.__version__} cpu"


def test_closed_runner_does_not_run_and_closes_twice(network):
    runner = TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cpu")
    runner.close()
    runner.close()
    with pytest.raises(ModelFileError, match="closed"):
        runner.run({"data": DATA})


def test_cuda_without_a_gpu_is_one_line(network, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ModelFileError, match="finds no GPU; use device cpu"):
        TorchRunner(EmbeddingNetwork(network), MANIFEST, device="cuda")


def test_unknown_device_is_refused(network):
    with pytest.raises(ModelFileError, match="found 'tpu'"):
        TorchRunner(EmbeddingNetwork(network), MANIFEST, device="tpu")


def test_half_network_takes_and_gives_float32_of_length_one(network):
    rows = EmbeddingNetwork(network.eval().half())(torch.from_numpy(DATA))
    assert rows.dtype == torch.float32
    assert torch.linalg.vector_norm(rows, dim=1).tolist() == pytest.approx([1] * 4, abs=1e-6)


def test_zero_embedding_stays_zero():
    class Nothing(nn.Module):
        def embed(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 5)

    rows = EmbeddingNetwork(Nothing())(torch.from_numpy(DATA))
    assert rows.tolist() == [[0.0] * 5] * 4


def test_network_without_embed_is_refused():
    with pytest.raises(TypeError, match="Linear has no embed"):
        EmbeddingNetwork(nn.Linear(2, 2))


def test_on_cuda_neither_products_nor_convolutions_use_tf32_whatever_the_process_chose():
    """The settings exist without a GPU."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision
    try:
        torch.set_float32_matmul_precision("high")
        with _full_float32(torch.device("cuda")):
            assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
        assert (matmul.allow_tf32, torch.get_float32_matmul_precision()) == (True, "high")
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
        matmul.fp32_precision = before
