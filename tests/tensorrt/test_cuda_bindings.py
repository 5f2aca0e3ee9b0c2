"""Our calls of CUDA are ones that NVIDIA's bindings take, in versions 12.9 and 13."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from reid.runtime import cuda_graphs, device_memory
from tests.tensorrt.conftest import HERE, run_python

INVALID_VALUE, INSUFFICIENT_DRIVER, NO_DEVICE = 1, 35, 100

VERSIONS = ("12.9.10", "13.4.4")


def functions_in(module: ModuleType) -> set[str]:
    """``cudaMalloc`` and the others that a module of ours names, without classes and constants."""
    assert module.__file__ is not None
    names = re.findall(r"\bcuda[A-Z]\w+", Path(module.__file__).read_text(encoding="utf-8"))
    other = re.compile("cudaDev(iceAttr$|Attr)|cudaMemcpy(Kind$|.*To)|cudaStreamCaptureMode")
    return {name for name in names if not other.match(name)} - {"cudaGetErrorString"}


@pytest.mark.tensorrt
@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_ends_in_an_error_code_of_cuda_where_there_is_no_gpu(
    version: str, provisioning: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        folder = provisioning.provision_cuda(version)
    except provisioning.CannotProvision as reason:
        pytest.skip(f"no cuda-bindings {version}: {reason}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = run_python(folder, HERE / "call_cuda.py", None)
    assert set(answer["codes"]) == functions_in(device_memory) | functions_in(cuda_graphs)
    wrong = {
        name: code
        for name, code in answer["codes"].items()
        # A driver that is there, without a GPU, refuses null graphs by their value.
        if code not in (INSUFFICIENT_DRIVER, NO_DEVICE)
        and not (code == INVALID_VALUE and "Graph" in name)
    }
    assert not wrong
    assert re.search(r"no NVIDIA GPU can be used here .*\(CUDA error (35|100)\)", answer["refusal"])
