"""Which TensorRT a version of DeepStream has, and whether an engine fits it."""

from __future__ import annotations

from reid.errors import ConfigError
from reid.model_file.manifest import Manifest

from ..bundle.deepstream import VERSIONS, check_version
from .diagnosis import CheckResult

TENSORRT = {
    "6.4": "8.6.1",
    "7.0": "8.6.1",
    "7.1": "10.3.0",
    "8.0": "10.9.0",
    "9.0": "10.14.1",
    "9.2": "10.16",
}
"""DeepStream's version -> TensorRT's on x86, from NVIDIA's release notes; 8.0 by others' word and
9.2 not checked. 9.1 is left out: its version was not found."""

CHECK = "DeepStream"


def fits_deepstream(manifest: Manifest, version: str) -> CheckResult:
    """Whether DeepStream ``version`` can run a model file. Raises ConfigError for an unknown one.

    An engine runs on the TensorRT that built it, or on another of the same major version if it was
    built to be version-compatible.
    """
    check_version(version)
    if version not in TENSORRT:
        known = ", ".join(one for one in VERSIONS if one in TENSORRT)
        raise ConfigError(f"the TensorRT of DeepStream {version} is not known here; known: {known}")
    theirs, engine = TENSORRT[version], manifest.engine
    if engine is None:
        words = f"DeepStream {version} builds the engine itself, with TensorRT {theirs} on x86"
        return CheckResult(CHECK, "ok", words)
    if engine.gpu_architecture == "rtx":
        words = "the engine is of TensorRT for RTX, which DeepStream has not; build it there"
        return CheckResult(CHECK, "fault", words)
    ours, wanted = engine.tensorrt_version.split("."), theirs.split(".")
    same = ours[: len(wanted)] == wanted
    if same or (engine.version_compatible and ours[0] == wanted[0]):
        return CheckResult(CHECK, "ok", f"DeepStream {version} has TensorRT {theirs}")
    words = (
        f"the engine is of TensorRT {engine.tensorrt_version}, DeepStream {version} has {theirs} "
        "on x86: build it with the TensorRT beside DeepStream"
    )
    return CheckResult(CHECK, "fault", words)
