"""bfloat16 is used only where it gives the vectors of FP32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import reid.matching as matching
from reid.data.synthetic.crops import synthetic_people
from reid.errors import ModelFileError
from reid.matching import lower_precision
from reid.matching.lower_precision import prove_lower_precision, say_lower_precision
from reid.runtime import Runner
from reid.runtime.openvino_library import core
from reid.types import FloatArray
from tests.runtime.test_openvino_runner import PRODUCTS, write_products

BF16 = "openvino:CPU:bf16"


class Turned(Runner):
    """The mean colours of an image, with the first turned towards the second by ``share``."""

    def __init__(self, share: float = 0.0) -> None:
        self.manifest = dataclasses.replace(PRODUCTS, output_dim=3, normalised=False)
        self.backend = "turned"
        self.closed = False
        self._share = share

    def run(self, inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        colours = inputs["data"].mean(axis=(2, 3)) + 500
        colours[:, 0] += self._share * colours[:, 1]
        return {"embedding": colours}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """FP32 is ``Turned()``; holds the devices that it was opened with."""
    opened: list[str] = []

    def opener(path: Path, device: str, threads: int) -> Runner:
        opened.append(device)
        return Turned()

    monkeypatch.setattr(lower_precision, "open_runner", opener)
    return opened


def test_a_small_change_is_said_in_the_backend(reference: list[str]) -> None:
    runner = Turned(0.05)
    prove_lower_precision(runner, Path("model.onnx"), BF16)
    assert reference == ["openvino:CPU"]
    images = PRODUCTS.preprocess.batch([*synthetic_people()])
    rows, others = (Turned(share).run({"data": images})["embedding"] for share in (0.0, 0.05))
    cosines = [
        np.dot(row, other) / (np.linalg.norm(row) * np.linalg.norm(other))
        for row, other in zip(rows, others, strict=True)
    ]
    assert f"lowest row cosine {min(cosines):.4f}" in runner.backend


def test_a_large_change_is_refused_with_its_figure(reference: list[str]) -> None:
    with pytest.raises(ModelFileError, match=r"bfloat16.*cosine 0\.9.*expected 0\.99.*--precision"):
        prove_lower_precision(Turned(0.5), Path("model.onnx"), BF16)
    with pytest.raises(ModelFileError, match="nan"):
        prove_lower_precision(Turned(float("nan")), Path("model.onnx"), BF16)


@pytest.mark.parametrize("device", ["auto", "cpu", "openvino", "openvino:GPU"])
def test_nothing_is_compared_where_bfloat16_is_not_asked_for(
    reference: list[str], device: str
) -> None:
    runner = Turned(0.5)
    prove_lower_precision(runner, Path("model.onnx"), device)
    assert (reference, runner.backend) == ([], "turned")


def test_a_refused_model_is_closed(monkeypatch: pytest.MonkeyPatch, reference: list[str]) -> None:
    runner = Turned(0.5)
    monkeypatch.setattr(matching, "open_runners", lambda *arguments: {"embed": runner})
    with pytest.raises(ModelFileError):
        matching.open_matcher("model.onnx", BF16)
    assert runner.closed


def test_features_in_bfloat16_are_not_those_in_float32(tmp_path: Path) -> None:
    if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    path = write_products(tmp_path / "model.onnx")
    identities = []
    for device in ("openvino", BF16):
        matcher = matching.open_matcher(path, device)
        identities.append(matcher.identity)
        if device == BF16:
            assert "synthetic people" in matcher.backend
        matcher.close()
    assert [one["precision"] for one in identities] == ["fp32", "bf16"]
    assert {key for key in identities[0] if identities[0][key] != identities[1][key]} == {
        "precision"
    }


@pytest.mark.parametrize(("device", "said"), [(BF16, ["words"]), ("openvino", []), ("auto", [])])
def test_bfloat16_is_said_where_it_was_asked_for(device: str, said: list[str]) -> None:
    heard: list[str] = []
    say_lower_precision(device, "words", heard.append)
    assert heard == said
