"""Another project's distribution of the same import name, installed beside ours, is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reid import packages
from reid.deploy.doctor.examination import examine
from tests.deploy.watch.conftest import write_model


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with the metadata of the other distribution, as pip leaves it."""
    info = tmp_path / "site" / "reid-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reid\nVersion: 0.1.0\n")
    return info.parent


def imported(path: Path | None) -> str:
    """What ``import reid`` says on stderr, with another folder on the path."""
    environment = {**os.environ, "PYTHONPATH": "" if path is None else str(path)}
    done = subprocess.run(
        [sys.executable, "-c", "import reid; import reid"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_first_import_names_the_other_distribution_in_one_line(beside: Path) -> None:
    (line,) = imported(beside).splitlines()
    assert "'reid' (0.1.0)" in line
    assert "pip uninstall reid reid-toolkit" in line


def test_alone_nothing_is_said() -> None:
    assert imported(None) == ""


def test_doctor_names_it_as_a_fault(
    tmp_path: Path, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(beside))
    found = examine(write_model(tmp_path), device="cpu")
    (finding,) = [one for one in found.findings if one.check == "installation"]
    assert finding.status == "fault"
    assert "reid-toolkit" in finding.words
    assert not found.healthy


def test_our_own_metadata_is_not_the_other_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reid_toolkit-9.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    assert packages.clash() == ""
