"""Commands that are killed forty times lose nothing: `pytest -m kills`, run by .ci/services."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import killed_commands
from tests.conftest import ROOT

pytestmark = pytest.mark.kills


@pytest.mark.parametrize("kind", killed_commands.KINDS)
def test_what_a_killed_command_left_is_whole_and_the_next_one_goes_on(
    kind: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", killed_commands.__name__, kind, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{killed_commands.KILLS} killed" in done.stdout
