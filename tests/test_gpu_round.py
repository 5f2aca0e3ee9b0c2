"""The one command for a machine with a GPU runs on a CPU in small, part by part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("torch")


def test_a_part_that_fails_is_kept_with_its_reason_and_the_others_run(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    script = ROOT / "tests/benchmarks/gpu_round.py"
    command = [sys.executable, str(script), "--device", "cpu", "--quick", "--out", str(record)]
    only = ["--only", "bindings", "power"]
    subprocess.run([*command, *only], check=True, capture_output=True, timeout=300)
    found = json.loads(record.read_text())
    assert list(found["parts"]) == ["bindings", "power"]
    copied = found["parts"]["bindings"]
    assert copied["same"] if "same" in copied else "GPU" in copied["failed"]
    assert found["parts"]["power"]["images"] >= 64
    assert found["machine"]["torch"]
