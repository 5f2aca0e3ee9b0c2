"""The arithmetic of a run is chosen by measurement, or as it was set."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import reid.training.arithmetic
from reid.config.settings import RunConfig
from reid.errors import ConfigError
from reid.training.arithmetic import Arithmetic, choose_arithmetic, choose_device

SHAPE = (3, 16, 8)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv(x),)


def mean_square(network: nn.Module, images: Tensor) -> Tensor:
    (output,) = network(images)
    return output.float().square().mean()


def test_what_is_set_is_taken_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reid.training.arithmetic, "_measure", None)
    config = RunConfig(device="cpu", precision="bf16", channels_last="on")
    chosen, words = choose_arithmetic(config, Small, mean_square, SHAPE)
    assert chosen == Arithmetic("cpu", "bf16", True)
    assert words == "arithmetic: cpu, bf16, channels-last (as set)"


def test_a_moment_in_which_the_machine_is_busy_does_not_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, last = Arithmetic("cpu", "fp32", False), Arithmetic("cpu", "fp32", True)
    # Both are slow at first; then the machine stalls in two passes that follow one another.
    passes = iter([(last, 9.0), (plain, 9.0), (last, 1.0), (plain, 2.0), (last, 7.0), (plain, 8.0)])

    def seconds(candidate: Arithmetic, *_: object) -> float:
        expected, taken = next(passes, (candidate, 5.0))
        assert candidate == expected
        return taken

    monkeypatch.setattr(reid.training.arithmetic, "_emulates_bf16", lambda: True)
    monkeypatch.setattr(reid.training.arithmetic, "_pass_seconds", seconds)
    chosen, words = choose_arithmetic(RunConfig(device="cpu"), Small, mean_square, SHAPE)
    assert chosen == last
    assert "channels-last: 4.0 images/s; cpu, fp32: 2.0 images/s" in words


def test_the_quickest_candidate_wins_and_the_line_shows_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = {"fp32": 5.0, "bf16": 9.0}

    def measured(candidates: list[Arithmetic], *_: object) -> dict[Arithmetic, float]:
        return {c: rates[c.precision] + (0.5 if c.channels_last else 0) for c in candidates}

    monkeypatch.setattr(reid.training.arithmetic, "_measure", measured)
    monkeypatch.setattr(reid.training.arithmetic, "_emulates_bf16", lambda: False)
    chosen, words = choose_arithmetic(RunConfig(device="cpu"), Small, mean_square, SHAPE)
    assert chosen == Arithmetic("cpu", "bf16", True)
    assert "chosen by measurement" in words
    assert words.count("images/s") == 4
    monkeypatch.setattr(reid.training.arithmetic, "_emulates_bf16", lambda: True)
    chosen, words = choose_arithmetic(RunConfig(device="cpu"), Small, mean_square, SHAPE)
    assert chosen == Arithmetic("cpu", "fp32", True)
    assert "bf16" not in words


def test_measuring_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    chosen, words = choose_arithmetic(
        RunConfig(device="cpu", precision="fp32"), Small, mean_square, SHAPE
    )
    assert chosen.precision == "fp32"
    assert "images/s" in words
    assert torch.equal(torch.rand(3), expected)


def test_fp16_on_a_processor_and_cuda_without_a_gpu_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="on a CPU use fp32 or bf16"):
        choose_arithmetic(RunConfig(device="cpu", precision="fp16"), Small, mean_square, SHAPE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == "cpu"


@pytest.mark.parametrize(("generation", "precision"), [(7, "fp16"), (8, "bf16")])
def test_a_gpu_that_only_emulates_bfloat16_trains_in_fp16(
    generation: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(major=generation)
    for name, value in (
        ("is_available", True),
        ("current_device", 0),
        ("get_device_name", "a GPU"),
        ("get_device_properties", properties),
        ("_check_bf16_tensor_supported", True),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    chosen, _ = choose_arithmetic(RunConfig(), Small, mean_square, SHAPE)
    assert chosen == Arithmetic("cuda", precision, True)


def test_autocast_computes_in_the_precision_that_is_named() -> None:
    network, images = Small(), torch.randn(2, *SHAPE)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Arithmetic("cpu", precision, False).autocast():
            assert network(images)[0].dtype == dtype
