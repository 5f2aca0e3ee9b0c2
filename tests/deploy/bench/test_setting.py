"""What nvidia-smi says of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid.deploy.bench.setting import gpu_memory_mb


def test_gpu_memory_is_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory_mb() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 100\necho 50\n", encoding="utf-8")
    tool.chmod(0o755)
    assert gpu_memory_mb() == pytest.approx(150 * 1.048576)
    tool.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    assert gpu_memory_mb() is None
