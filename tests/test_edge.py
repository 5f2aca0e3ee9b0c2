"""An edge box has onnxruntime and OpenCV, and neither torch nor what training needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ABSENT = ("torch", "onnx", "onnxscript", "matplotlib", "tensorboardX", "h5py")
"""What ``[cpu]`` installs and ``[edge]`` does not."""


def without_torch() -> str:
    """A program: the ``reid`` command where the absent packages cannot be imported."""
    blocked = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in ABSENT)
    return f"{blocked}from reid.cli import main\nsys.exit(main(sys.argv[1:]))"


def reid_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``reid ARGUMENTS`` in an interpreter in which the absent packages cannot be imported."""
    command = [sys.executable, "-c", without_torch(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_exported_file_is_evaluated_and_measured_without_torch(
    road: Any, road_data: list[str], precision: str
) -> None:
    file = str(road.onnx(precision))
    evaluated = reid_without_torch("eval", file, *road_data, "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    (found,) = json.loads(evaluated.stdout)["models"]
    before = json.loads((road.folder / "report.json").read_text())["eval"]["models"]
    assert found["cmc"] in [model["cmc"] for model in before]
    measured = reid_without_torch("bench", file, "--seconds", "0.02", "--batch", "1", "--json")
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["precision"] == precision


def test_a_gallery_is_indexed_and_searched_without_torch(road: Any, tmp_path: Path) -> None:
    model, gallery = str(road.onnx("fp32")), str(tmp_path / "gallery")
    images = road.people / "bounding_box_test"
    indexed = reid_without_torch("index", model, str(images), "--gallery", gallery, "--json")
    assert indexed.returncode == 0, indexed.stderr
    count = len(list(images.glob("*.jpg")))
    assert json.loads(indexed.stdout)["added"] == count > 10
    query = next(path for path in sorted(images.glob("0*.jpg")) if path.name[:4] != "0000")
    found = reid_without_torch("search", model, str(query), "--gallery", gallery, "--json")
    assert found.returncode == 0, found.stderr
    first = json.loads(found.stdout)["queries"][0]["matches"][0]
    assert first["source"] == str(query)
    assert first["person"] == str(int(query.name[:4]))
    assert first["camera"] == query.name[6]


def test_a_bundle_is_written_and_examined_without_torch(road: Any, tmp_path: Path) -> None:
    written = reid_without_torch(
        "bundle", "triton", str(road.onnx("fp16")), "--out", str(tmp_path), "--json"
    )
    assert written.returncode == 0, written.stderr
    model = json.loads(written.stdout)["files"][0]
    examined = reid_without_torch("doctor", model, "--json")
    assert examined.returncode == 0, examined.stderr
    found = {one["check"]: one["status"] for one in json.loads(examined.stdout)["findings"]}
    assert found == dict.fromkeys(("libraries", "file", "checkpoint", "answers", "precision"), "ok")


def test_a_build_is_begun_without_torch(road: Any) -> None:
    """``tests/tensorrt`` has whole ones."""
    refused = reid_without_torch("build", str(road.onnx("fp32")), "--fp16")
    assert refused.returncode == 1
    assert str(road.onnx("fp16")) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_checkpoint_on_an_edge_box_says_what_to_install(road: Any, road_data: list[str]) -> None:
    refused = reid_without_torch("eval", str(road.run), *road_data)
    assert refused.returncode == 1
    assert "needs torch, which is not installed" in refused.stderr
    assert "Traceback" not in refused.stderr
