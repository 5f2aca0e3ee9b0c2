"""Which DeepStream opens a TensorRT engine: each version of it comes with one of TensorRT.

From NVIDIA's release notes and migration guides: that of 8.0 names TensorRT 10.9.0.34 (x86) and
10.13.2.6 (Jetson), that of 9.2 names 10.16.0.72 and 10.16.1.7. What they do not name is left out.
"""

from __future__ import annotations

from reid.errors import ConfigError
from reid.model_file.manifest import EngineInfo, Manifest

from ..bundle.deepstream import check_version
from .diagnosis import CheckResult

CHECK = "DeepStream"

ON_X86 = {
    "6.4": "8.6.1",
    "7.0": "8.6.1",
    "7.1": "10.3.0",
    "8.0": "10.9.0",
    "9.0": "10.14.1",
    "9.2": "10.16.0",
}
"""DeepStream -> its TensorRT."""
ON_JETSON = {"7.1": "10.3.0", "8.0": "10.13.2", "9.2": "10.16.1"}
"""The same on a Jetson, where JetPack brings TensorRT."""

JETSON_GPUS = ("sm72", "sm87", "sm101", "sm110")
"""Xavier, Orin, and both names of Thor."""


def fits_deepstream(manifest: Manifest, version: str) -> CheckResult:
    """Whether DeepStream ``version`` can run a model file. Raises ConfigError for an unknown one.

    An engine runs on the TensorRT that built it, or on another of the same major version if it was
    built to be version-compatible.
    """
    check_version(version)
    engine = manifest.engine
    known, place = _table(engine) if engine else (ON_X86, "x86")
    if version not in known:
        raise ConfigError(
            f"the TensorRT of DeepStream {version} on {place} is not known here; known: "
            f"{', '.join(known)}"
        )
    theirs = known[version]
    if engine is None:
        words = f"DeepStream {version} builds the engine itself, with TensorRT {theirs} on x86"
        return CheckResult(CHECK, "ok", words)
    if engine.flavour != "tensorrt":
        words = "built by TensorRT for RTX, which DeepStream lacks; build it with DeepStream's"
        return CheckResult(CHECK, "fault", words)
    ours, wanted = engine.tensorrt_version.split(".")[:3], theirs.split(".")
    if ours == wanted or (engine.version_compatible and ours[0] == wanted[0]):
        return CheckResult(CHECK, "ok", f"DeepStream {version} on {place} has TensorRT {theirs}")
    words = (
        f"the engine is of TensorRT {engine.tensorrt_version}, DeepStream {version} on {place} has "
        f"{theirs}: build it with the TensorRT beside DeepStream"
    )
    return CheckResult(CHECK, "fault", words)


def _table(engine: EngineInfo) -> tuple[dict[str, str], str]:
    jetson = engine.gpu_architecture in JETSON_GPUS
    return (ON_JETSON, "Jetson") if jetson else (ON_X86, "x86")


def deepstream_check(engine: EngineInfo) -> CheckResult:
    """Which DeepStream this engine is for; "not checked" where no version is known to open it."""
    known, place = _table(engine)
    built = engine.tensorrt_version.split(".")[:3]
    fitting = [version for version, one in known.items() if one.split(".") == built]
    words = f"built by TensorRT {engine.tensorrt_version}"
    if fitting:
        return CheckResult(
            CHECK, "ok", f"{words}, as DeepStream {' and '.join(fitting)} on {place} has it"
        )
    listed = ", ".join(f"{version} has {one}" for version, one in known.items())
    return CheckResult(
        CHECK,
        "not checked",
        f"{words}, which no DeepStream on {place} is known to have ({listed}); for DeepStream give "
        "it the .onnx file, or an engine built by its TensorRT",
    )
