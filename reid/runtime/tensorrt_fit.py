"""Checking by its manifest that a plan can run here, before TensorRT opens it."""

from __future__ import annotations

from pathlib import Path

from reid.errors import EngineMismatchError, ModelFileError
from reid.model_file.manifest import EngineInfo, Manifest
from reid.runtime.device_memory import Device

REBUILD = "build the engine here again from its ONNX file: reid build FILE.onnx"


def engine_info(manifest: Manifest, path: Path) -> EngineInfo:
    """The engine part of a manifest. Raises ModelFileError for a plan that cannot run."""
    info = manifest.engine
    if info is None:
        raise ModelFileError(
            f"{path}: its manifest is not of an engine (it has no part 'engine'); {REBUILD}"
        )
    if info.flavour not in ("tensorrt", "tensorrt_rtx"):
        raise ModelFileError(f"{path}: unknown TensorRT flavour {info.flavour!r}; {REBUILD}")
    if info.stripped:
        raise ModelFileError(
            f"{path}: the engine was built without its weights (--stripWeights) and cannot run "
            "before they are added (refit); build it without that option"
        )
    return info


def check_version(info: EngineInfo, here: str, path: Path) -> None:
    """Reject a plan of another version.

    A plan opens in the version that wrote it; a version-compatible plan also opens in later
    versions with the same major number.
    """
    if here == info.tensorrt_version:
        return
    built = _numbers(info.tensorrt_version)
    running = _numbers(here)
    if info.version_compatible and running[:1] == built[:1] and running >= built:
        return
    raise EngineMismatchError(
        f"{path.name} was built by {info.flavour} {info.tensorrt_version}, installed is {here}; "
        f"{REBUILD}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def check_architecture(info: EngineInfo, device: Device, path: Path) -> None:
    """Reject a plan for another GPU; see EngineInfo.gpu_architecture for the values."""
    major, minor = device.compute_capability
    fits = {
        "ampere_plus": major >= 8,
        # NVIDIA's support matrix of TensorRT for RTX: 8.x and from 12.0 on.
        "rtx": major == 8 or major >= 12,
    }.get(info.gpu_architecture, info.gpu_architecture == f"sm{major}{minor}")
    if not fits:
        raise EngineMismatchError(
            f"{path.name} was built for {info.gpu_architecture}, but the GPU here is {device.name} "
            f"(sm{major}{minor}); {REBUILD}"
        )
