"""Which DeepStream an engine is for, by the TensorRT that each version has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reid.deploy.bundle.deepstream import VERSIONS
from reid.deploy.doctor.deepstream_versions import ON_JETSON, ON_X86, deepstream_check
from reid.model_file.manifest import EngineInfo

GUIDE = Path(__file__).parents[3] / "deploy" / "README.md"


@pytest.mark.parametrize(
    ("gpu", "tensorrt", "named"),
    [
        ("sm87", "10.3.0", ["7.1"]),
        ("sm89", "8.6.1.6", ["6.4", "7.0"]),
        ("sm89", "10.16.0.72", ["9.2"]),
        ("sm110", "10.13.2.6", ["8.0"]),
    ],
)
def test_an_engine_is_named_the_versions_that_have_its_tensorrt(
    gpu: str, tensorrt: str, named: list[str]
) -> None:
    found = deepstream_check(EngineInfo(gpu, tensorrt, "tensorrt", 1, 8, 32))
    assert found.status == "ok"
    words = found.words.partition("DeepStream ")[2].partition(" on ")[0]
    assert words.split(" and ") == named


@pytest.mark.parametrize(
    ("gpu", "tensorrt"), [("sm89", "11.4.0"), ("sm87", "10.9.0"), ("sm89", "10.30.0")]
)
def test_an_engine_that_no_known_version_opens_is_not_called_good(gpu: str, tensorrt: str) -> None:
    found = deepstream_check(EngineInfo(gpu, tensorrt, "tensorrt", 1, 8, 32))
    assert found.status == "not checked"
    assert ".onnx" in found.words


def test_the_guide_has_the_same_table() -> None:
    section = GUIDE.read_text(encoding="utf-8").split("\n## DeepStream\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d[\d., ]*) \| (\d[\d.]*) \| (.+) \|$", section, re.MULTILINE)
    x86 = {version: one for versions, one, _ in rows for version in versions.split(", ")}
    jetson = {
        version: words.rpartition("TensorRT ")[2]
        for versions, _, words in rows
        for version in versions.split(", ")
        if "TensorRT" in words
    }
    assert x86 == ON_X86
    assert jetson == ON_JETSON
    assert set(ON_X86) <= set(VERSIONS)
