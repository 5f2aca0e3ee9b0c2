"""Whether an engine fits the TensorRT of a version of DeepStream."""

from __future__ import annotations

import dataclasses

import pytest

from reid.deploy.bundle.deepstream import VERSIONS
from reid.deploy.doctor.deepstream_versions import ON_X86, fits_deepstream
from reid.errors import ConfigError
from reid.model_file.manifest import EngineInfo, Manifest
from reid.model_file.preprocess import Preprocess

ONNX = Manifest("msp_cnn", "embed", Preprocess())


def engine(version: str, *, compatible: bool = False, gpu: str = "sm86") -> Manifest:
    flavour = "rtx" if gpu == "rtx" else "tensorrt"
    info = EngineInfo(gpu, version, flavour, 1, 16, 16, version_compatible=compatible)
    return dataclasses.replace(ONNX, engine=info)


def test_the_known_versions_are_those_that_bundles_are_written_for() -> None:
    assert set(ON_X86) < set(VERSIONS)
    assert set(VERSIONS) - set(ON_X86) == {"9.1"}


@pytest.mark.parametrize(
    ("manifest", "version", "status"),
    [
        (engine("10.3.0.26"), "7.1", "ok"),
        (engine("10.3.0"), "7.1", "ok"),
        (engine("10.9.0.34"), "7.1", "fault"),
        (engine("10.9.0.34", compatible=True), "7.1", "ok"),
        (engine("8.6.1.6", compatible=True), "7.1", "fault"),
        (engine("8.6.1.6"), "6.4", "ok"),
        (engine("10.16.0.72"), "9.2", "ok"),
        (engine("10.16.1.7", gpu="sm110"), "9.2", "ok"),
        (engine("10.16.0.72", gpu="sm110"), "9.2", "fault"),
        (engine("1.7.1", gpu="rtx"), "9.2", "fault"),
        (ONNX, "7.1", "ok"),
    ],
)
def test_an_engine_fits_the_tensorrt_that_built_it(
    manifest: Manifest, version: str, status: str
) -> None:
    found = fits_deepstream(manifest, version)
    assert found.status == status
    if status == "fault" and manifest.engine and manifest.engine.gpu_architecture != "rtx":
        assert manifest.engine.tensorrt_version in found.words
        assert "DeepStream " + version in found.words


@pytest.mark.parametrize("version", ["7.2", "9.1"])
def test_a_version_whose_tensorrt_is_not_known_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=r"9\.0"):
        fits_deepstream(ONNX, version)
