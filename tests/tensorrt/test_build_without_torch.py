"""``reid build`` on an edge box: the real builder, in a process that has no torch and no onnx."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reid.files import sha256_of_file
from reid.model_file.manifest import read_manifest
from tests.test_edge import without_torch

pytestmark = pytest.mark.tensorrt


def build(builder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", without_torch(), "build", *map(str, arguments)]
    found = {**os.environ, "PYTHONPATH": str(builder)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=found
    )


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_an_engine_is_built_and_its_precision_proven_without_torch(
    bench: Any, onnx_files: dict[str, Path], tmp_path: Path, precision: str
) -> None:
    source = onnx_files[precision]
    options = ["--timingCacheFile", tmp_path / "timing.cache", "--profile", "1-2-4"]
    options += ["--fp16"] if precision == "fp16" else []
    done = build(bench.builder, source, "--out", tmp_path, "--json", *options)
    assert done.returncode == 0, done.stderr
    (engine,) = map(Path, json.loads(done.stdout)["engines"])
    assert engine.name == f"msp_cnn.rtx.trtrtx1.7.{precision}.b1-2-4.engine"
    manifest = read_manifest(engine)
    assert (manifest.precision, manifest.source_sha256) == (precision, sha256_of_file(source))
    assert manifest.engine is not None
    assert "parsed types" in manifest.engine.precision_proof
    assert "of the FP32 weights" in manifest.engine.precision_proof
    assert (tmp_path / "timing.cache").stat().st_size > 0
    assert "parity: not checked" in done.stderr


def test_both_files_of_csn_are_built_without_torch_from_their_onnx_files_alone(
    bench: Any, pair_onnx_files: list[Path], tmp_path: Path
) -> None:
    for file in pair_onnx_files[:2]:  # without their manifests, which are inside too
        shutil.copy(file, tmp_path)
    done = build(bench.builder, tmp_path / "csn.describe.fp16.onnx", "--fp16", "--json")
    assert done.returncode == 0, done.stderr
    engines = [Path(path) for path in json.loads(done.stdout)["engines"]]
    assert [read_manifest(engine).stage for engine in engines] == ["describe", "compare"]
