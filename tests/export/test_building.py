"""``reid build``: what it accepts, and parity of an engine with its ONNX file.

No engine runs here: another runner stands for the engine. Real builds, in a process that cannot
import torch, are in ``tests/tensorrt``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import reid
from reid.cli import main
from reid.errors import BuildError, ManifestError, ModelFileError, ParityError, ReidError
from reid.export import building
from reid.export.tensorrt.engine import BuiltEngine
from reid.export.tensorrt.options import EngineOptions, engine_path
from reid.files import sha256_of_file
from reid.model_file.manifest import EngineInfo, Manifest, read_manifest, write_manifest
from reid.model_file.opening import ModelFile
from reid.runtime import OPENERS
from reid.runtime.onnx_runner import OnnxRunner
from reid.types import FloatArray

CHANGES = {"error": 0.0}
"""What is added to the engine's outputs, which then are not its ONNX file's."""

SOURCES: dict[str, Path] = {}
"""Name of an engine -> the ONNX file that it was built from."""


class OnnxAsEngine(OnnxRunner):
    """Stands for the runner of an engine, with the engine's manifest."""

    def __init__(self, file: ModelFile, device: str = "auto", threads: int = 0) -> None:
        super().__init__(SOURCES[file.path.name], "cpu", threads)
        self.manifest = file.manifest

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        found = super().run(inputs)
        return {name: array + np.float32(CHANGES["error"]) for name, array in found.items()}


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., BuiltEngine]:
    """Stands for TensorRT on a machine with a GPU."""

    def build(
        path: Path, target: Path, options: EngineOptions, reporter: object, source: Manifest
    ) -> BuiltEngine:
        info = EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32, stripped=options.strip_weights)
        engine = engine_path(target, source, info)
        engine.parent.mkdir(parents=True, exist_ok=True)
        engine.write_bytes(b"plan")
        SOURCES[engine.name] = path
        manifest = write_manifest(engine, dataclasses.replace(source, engine=info, parity={}))
        return BuiltEngine(engine, manifest, 0.1, ("precision: proven",))

    gpu = SimpleNamespace(compute_capability=(8, 7), name="a GPU", close=lambda: None)
    monkeypatch.setattr(building, "build_engine", build)
    monkeypatch.setattr(building, "open_device", lambda: gpu)
    monkeypatch.setitem(OPENERS, ".engine", f"{__name__}:OnnxAsEngine")
    monkeypatch.setitem(CHANGES, "error", 0.0)
    return build


@pytest.mark.usefixtures("builder")
def test_the_engine_is_compared_with_its_onnx_file_and_the_verdict_kept(
    road: Any, tmp_path: Path
) -> None:
    source = road.onnx("fp16")
    built = reid.build(source, tmp_path, fp16=True)
    (engine,) = built.engines
    assert engine.parent == tmp_path
    kept = read_manifest(engine).parity
    assert (kept["passed"], kept["num_crops"]) == (True, 16)
    assert kept["reference_sha256"] == {source.name: sha256_of_file(source)}
    assert [proof["passed"] for proof in built.proofs] == [True]


@pytest.mark.usefixtures("builder")
def test_an_engine_that_differs_is_kept_with_its_failure(
    road: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CHANGES, "error", 0.01)
    assert main(["build", str(road.onnx("fp32")), "--out", str(tmp_path)]) == ParityError.exit_code
    assert "max_error" in capsys.readouterr().err.splitlines()[-1]
    (engine,) = tmp_path.glob("*.engine")
    assert read_manifest(engine).parity["passed"] is False


@pytest.mark.usefixtures("builder")
def test_the_command_prints_the_engine_beside_its_onnx_file_by_default(
    road: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copy(road.onnx("fp32"), tmp_path))  # its manifest is only inside
    assert main(["build", str(source), "--json"]) == 0
    shown = capsys.readouterr()
    (engine,) = json.loads(shown.out)["engines"]
    assert Path(engine).parent == tmp_path
    assert "parity passed" in shown.err
    assert main(["build", str(source), "--no-parity"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == engine
    assert "parity: not checked" in shown.err
    assert read_manifest(Path(engine)).parity == {}


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize("why", ["no GPU", "another GPU", "no weights"])
def test_an_engine_that_cannot_run_here_is_built_without_parity(
    road: Any,
    tmp_path: Path,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_device() -> None:
        raise ModelFileError("CUDA error 35")

    other = SimpleNamespace(compute_capability=(9, 0), name="H100", close=lambda: None)
    devices = {"no GPU": no_device, "another GPU": lambda: other}
    if why in devices:
        monkeypatch.setattr(building, "open_device", devices[why])
    options = ["--stripWeights"] if why == "no weights" else []
    assert main(["build", str(road.onnx("fp32")), "--out", str(tmp_path), *options]) == 0
    expected = {"no GPU": "CUDA error 35", "another GPU": "H100", "no weights": "weights"}[why]
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("parity: not")]
    assert expected in line


@pytest.mark.usefixtures("builder")
def test_both_files_of_a_network_that_compares_pairs_are_built(
    pair_run: Any, tmp_path: Path
) -> None:
    built = reid.build(pair_run.file("compare", "fp16"), tmp_path, fp16=True)
    assert [path.name.split(".")[1] for path in built.engines] == ["compare", "describe"]
    (proof,) = built.proofs
    assert proof["passed"]
    assert all(read_manifest(path).parity["passed"] for path in built.engines)
    with pytest.raises(BuildError, match=r"csn\.describe\.fp16\.onnx .*folder"):
        reid.build(pair_run.file("describe", "fp16"), tmp_path / "one.engine")


def foreign(path: Path) -> Path:
    """An ONNX file of another program."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "ab"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])], "other", ends[:1], ends[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize(
    ("name", "error", "named"),
    [
        ("nothing.onnx", BuildError, r"nothing\.onnx: no such file"),
        ("msp_cnn.engine", BuildError, r"an engine already.*\.onnx"),
        ("run", BuildError, "reid export"),
        ("model.bin", BuildError, r"'\.bin'.*\.onnx"),
        ("foreign.onnx", ManifestError, "reid export"),
        ("msp_cnn.fp32.onnx", BuildError, r"is fp32.*FP16.*reid export RUN --fp16"),
    ],
)
def test_a_file_that_is_not_the_expected_one_is_refused_in_one_line(
    road: Any, tmp_path: Path, name: str, error: type[ReidError], named: str
) -> None:
    (tmp_path / "run").mkdir()
    foreign(tmp_path / "foreign.onnx")
    shutil.copy(road.onnx("fp32"), tmp_path / "msp_cnn.fp32.onnx")
    with pytest.raises(error, match=named) as refused:
        reid.build(tmp_path / name, fp16=True)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("*.engine*"))


@pytest.mark.usefixtures("builder")
def test_the_fp16_file_beside_an_fp32_file_is_named(road: Any) -> None:
    with pytest.raises(BuildError, match=str(road.onnx("fp16"))):
        reid.build(road.onnx("fp32"), fp16=True)
