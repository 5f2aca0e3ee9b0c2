"""Fixtures around the real TensorRT builder: it runs in processes of its own, which may crash."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
TIMEOUT_S = 120

Job = dict[str, Any]


def _provision_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reid_test_provision", HERE / "provision.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def provisioning() -> ModuleType:
    """The module ``provision.py`` beside this file."""
    return _provision_module()


@pytest.fixture(scope="session")
def bench(provisioning: ModuleType) -> Any:
    """The provisioned builder; the test is skipped with the reason where there is none."""
    try:
        return provisioning.provision()
    except provisioning.CannotProvision as reason:
        pytest.skip(f"no TensorRT builder: {reason}")


def run_python(path: Path, script: Path, message: object) -> Any:
    """Run ``script`` with ``path`` on PYTHONPATH: JSON in through stdin, JSON out."""
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(message),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def build(bench: Any) -> Callable[[list[Job]], list[Any]]:
    """Build a list of jobs in one process: see ``build_jobs.py`` for a job's keys."""

    def run(jobs: list[Job]) -> list[Any]:
        outcomes = run_python(bench.builder, HERE / "build_jobs.py", jobs)
        assert isinstance(outcomes, list)
        return outcomes

    return run


@pytest.fixture(scope="session")
def look(bench: Any) -> Callable[[str, object], Any]:
    """Ask the bindings of a version, in a process of its own: see ``look_up_names.py``."""

    def run(version: str, message: object) -> Any:
        if version not in bench.bindings:
            pytest.skip(f"no TensorRT {version} bindings for this Python")
        return run_python(bench.bindings[version], HERE / "look_up_names.py", message)

    return run


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The real network with fixed random weights, exported in both precisions."""
    import torch

    from reid.export.onnx import export_onnx
    from reid.model_file.manifest import Manifest
    from reid.model_file.preprocess import Preprocess
    from reid.models.msp_cnn.network import MspCnn

    folder = tmp_path_factory.mktemp("onnx")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MspCnn(num_identities=10)
    manifest = Manifest(network="msp_cnn", stage="train", preprocess=Preprocess())
    files = {}
    for precision in ("fp32", "fp16"):
        files[precision] = folder / f"msp_cnn.{precision}.onnx"
        export_onnx(network, manifest, files[precision], fp16=precision == "fp16")
    return files


@pytest.fixture(scope="session")
def pair_onnx_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """CSN of two levels, the comparison in both precisions, on images of a quarter of the size."""
    folder = tmp_path_factory.mktemp("csn")
    graphs = ("describe", "compare", "pair")
    files = _csn_files(folder, (2, 3), (80, 40), "fp16", graphs)
    return [*files, *_csn_files(folder, (2, 3), (80, 40), "fp32", ("compare",))]


@pytest.fixture(scope="session")
def large_compare_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compare graph of CSN of three levels, FP16, for images of the paper's size."""
    folder = tmp_path_factory.mktemp("csn_large")
    (file,) = _csn_files(folder, (2, 3, 4), (160, 60), "fp16", ("compare",))
    return file


def _csn_files(
    folder: Path,
    levels: tuple[int, ...],
    size: tuple[int, int],
    precision: str,
    wanted: tuple[str, ...],
) -> list[Path]:
    import torch

    from reid.export.file_names import onnx_file_name
    from reid.export.onnx import export_graph, prepared_graphs
    from reid.model_file.manifest import Manifest
    from reid.model_file.preprocess import Preprocess
    from reid.models.csn.network import Csn
    from reid.models.csn.settings import CsnSettings

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Csn(CsnSettings(levels=levels))
    manifest = Manifest("csn", "train", Preprocess(*size, *size))
    files = []
    for graph in prepared_graphs(network, manifest, fp16=precision == "fp16"):
        if graph.name in wanted:
            files.append(folder / onnx_file_name(manifest, graph.name, precision))
            export_graph(graph, manifest, files[-1], fp16=precision == "fp16")
    return files
