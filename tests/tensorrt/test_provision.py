"""The test bench gives a reason where it cannot be made, and never half of itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def pip_that(result: subprocess.CompletedProcess[str], wheel: bytes | None) -> Any:
    """Stands for ``subprocess.run``: pip writes ``wheel``, or nothing."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        place = Path(command[command.index("--dest") + 1])
        place.mkdir(parents=True)
        if wheel is not None:
            (place / "some-1.0-py3-none-any.whl").write_bytes(wheel)
        return result

    return run


@pytest.fixture
def on_linux(provisioning: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning.platform, "system", lambda: "Linux")
    monkeypatch.setattr(provisioning.platform, "machine", lambda: "x86_64")


@pytest.mark.usefixtures("on_linux")
def test_a_wheel_with_another_hash_is_refused(
    provisioning: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(provisioning.subprocess, "run", pip_that(done, b"another wheel"))
    with pytest.raises(provisioning.CannotProvision, match="SHA-256"):
        provisioning.provision(tmp_path, (3, 11))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("on_linux")
def test_a_package_that_pip_cannot_fetch_is_a_reason(
    provisioning: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retry\nERROR: No route to host\n")
    monkeypatch.setattr(provisioning.subprocess, "run", pip_that(failed, None))
    with pytest.raises(provisioning.CannotProvision, match=r"cannot fetch .*: ERROR: No route"):
        provisioning.provision(tmp_path, (3, 11))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("on_linux")
def test_a_machine_or_python_without_wheels_is_a_reason(
    provisioning: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(provisioning.CannotProvision, match=r"Python 3\.99"):
        provisioning.provision(tmp_path, (3, 99))
    monkeypatch.setattr(provisioning.platform, "machine", lambda: "aarch64")
    with pytest.raises(provisioning.CannotProvision, match="this is Linux aarch64"):
        provisioning.provision(tmp_path, (3, 11))
