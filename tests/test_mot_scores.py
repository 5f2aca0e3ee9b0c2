"""TrackEval's figures of a case that is computed by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.interpreters import interpreter

SCRIPT = Path(__file__).with_name("benchmarks") / "mot_scores.py"


@pytest.mark.services
def test_a_person_whose_number_changes_once_has_half_the_association(tmp_path: Path) -> None:
    """Two frames, one person, found exactly in both, but under another number in the second.

    DetA is 1. Of the two matches each has one frame right and one missed, so AssA is 1 / 2 and
    HOTA its root. One switch of two true boxes: MOTA 1 / 2. One box right, one wrong and one missed
    under the best pairing of numbers: IDF1 = 2 / 4.
    """
    python = interpreter("REID_TRACKEVAL_PYTHON", "TrackEval")
    file = tmp_path / "frames.npz"
    np.savez(
        file,
        gt_counts=[1, 1],
        gt_ids=[0, 0],
        tracker_counts=[1, 1],
        tracker_ids=[0, 1],
        similarity=[1.0, 1.0],
    )
    done = subprocess.run(
        [python, SCRIPT, file], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout)
    assert found["deta"] == pytest.approx(1)
    assert found["assa"] == pytest.approx(1 / 2)
    assert found["hota"] == pytest.approx(0.5**0.5)
    assert found["mota"] == pytest.approx(1 / 2)
    assert found["idf1"] == pytest.approx(1 / 2)
    assert found["switches"] == 1
