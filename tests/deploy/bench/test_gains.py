"""What ``reid bench`` says of an INT8 file: against the files beside it, and on this CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.bench import gains as module
from reid.deploy.bench.gains import NO_VNNI, Gain, beside, gains, notes_on_int8
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.types import FloatArray

MANIFEST = Manifest(
    "net", "embed", Preprocess(), output_dim=4, precision="int8", checkpoint_sha256="a" * 64
)


class TimedRunner(Runner):
    """Moves a clock by its own time for each crop."""

    def __init__(self, clock: list[int], ns_per_crop: int, manifest: Manifest = MANIFEST) -> None:
        self.manifest, self.backend = manifest, "timed"
        self._clock, self._ns = clock, ns_per_crop

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        count = len(inputs["data"])
        self._clock[0] += count * self._ns
        return {"embedding": np.zeros((count, 4), np.float32)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", ["net.int8.onnx", "net.int8.x86.onnx"])
def test_the_files_of_other_precisions_beside_it_are_found_by_name(
    tmp_path: Path, name: str
) -> None:
    for other in ("net.fp32.onnx", "net.fp16.onnx", "other.fp32.onnx", name):
        (tmp_path / other).touch()
    assert beside(tmp_path / name) == {
        "fp32": tmp_path / "net.fp32.onnx",
        "fp16": tmp_path / "net.fp16.onnx",
    }


def test_an_engine_finds_the_engine_beside_it(tmp_path: Path) -> None:
    (tmp_path / "net.sm87.trt10.3.fp16.b1-8-32.engine").touch()
    found = beside(tmp_path / "net.sm87.trt10.3.int8.b1-8-32.engine")
    assert found == {"fp16": tmp_path / "net.sm87.trt10.3.fp16.b1-8-32.engine"}


def test_rates_are_measured_by_turns_and_another_model_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0]
    other = dataclasses.replace(MANIFEST, checkpoint_sha256="b" * 64)
    runners = {
        "net.fp32.onnx": TimedRunner(clock, 4_000_000),
        "net.fp16.onnx": TimedRunner(clock, 1, other),
    }
    for name in runners:
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "open_runner", lambda file, *_: runners[file.name])
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: clock[0])
    found = gains(TimedRunner(clock, 1_000_000), tmp_path / "net.int8.onnx", (1, 8))
    assert [gain.batch_size for gain in found] == [1, 8]
    assert found[1].crops_per_s == {"int8": 1000.0, "fp32": 250.0}
    assert "4.00 times fp32" in found[1].words()


def test_without_a_file_beside_it_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert gains(TimedRunner([0], 1), tmp_path / "net.int8.onnx", (1,)) == ()


def test_where_int8_gains_nothing_the_line_says_over_what() -> None:
    words = Gain(8, {"int8": 100.0, "fp32": 99.0, "fp16": 20.0}).words()
    assert "no gain over fp32 here" in words
    assert "5.00 times fp16" in words


@pytest.mark.parametrize(
    ("flags", "on_gpu", "expected"),
    [
        ("flags : sse avx2 avx512_vnni", False, []),
        ("flags : sse avx2", False, [NO_VNNI]),
        ("flags : sse avx2", True, []),
        ("Features : fp asimddp", False, []),
        ("nothing known", False, []),
    ],
)
def test_a_cpu_without_products_of_integers_is_named(
    tmp_path: Path, flags: str, on_gpu: bool, expected: list[str]
) -> None:
    (tmp_path / "net.int8.onnx").touch()
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    found = notes_on_int8(tmp_path / "net.int8.onnx", on_gpu, tmp_path / "cpuinfo")
    assert found == expected
