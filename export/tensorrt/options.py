"""The options of an engine build, named as in trtexec, and the engine's file name.

| field | trtexec |
|---|---|
| ``min_batch`` ``opt_batch`` ``max_batch`` | first of ``--minShapes --optShapes --maxShapes`` |
| ``more_profiles`` | the same three after ``--profile=1``, ``--profile=2`` ... |
| ``timing_cache_file`` | ``--timingCacheFile`` |
| ``builder_optimization_level`` | ``--builderOptimizationLevel`` |
| ``mem_pool_size_mib`` | ``--memPoolSize=workspace:...`` |
| ``hardware_compatibility_level`` | ``--hardwareCompatibilityLevel`` |
| ``version_compatible`` | ``--versionCompatible`` |
| ``strip_weights`` | ``--stripWeights`` |
| ``no_tf32`` | ``--noTF32``, on by default here |

There is no ``--fp16``: the precision is that of the ONNX graph (``--stronglyTyped``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reid.errors import ConfigError, nearest
from reid.model_file.manifest import BatchProfile, EngineInfo, Manifest
from reid.runtime.tensorrt_module import FLAVOURS

from ..file_names import graph_name

HARDWARE_LEVELS = {
    "none": "NONE",
    "ampere+": "AMPERE_PLUS",
    "sameComputeCapability": "SAME_COMPUTE_CAPABILITY",
}
"""trtexec's value -> name in ``tensorrt.HardwareCompatibilityLevel``; the last needs
TensorRT 11."""

MAX_BUILDER_LEVEL = 5

DEFAULT_PROFILE = BatchProfile(1, 8, 32)
LARGE_PROFILE = BatchProfile(33, 128, 256)
"""The second profile by default: what one for 8 images at once leaves unused of a large GPU."""

SUFFIXES = (".engine", ".plan")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of one build; None is TensorRT's default.

    ``flavour`` is ``auto``, ``tensorrt`` (for this machine's GPU) or ``tensorrt_rtx`` (ahead of
    time, no GPU needed). ``no_tf32`` keeps the products of an FP32 engine at full precision, as
    the FP32 parity limits require; TensorRT's own default is TF32 (10 bits of mantissa, as
    FP16) if the GPU supports it. ``more_profiles`` None is ``LARGE_PROFILE`` beside the default
    batch sizes, except on a GPU that uses the CPU's memory, and none beside others. Raises
    ConfigError for a value out of range.
    """

    min_batch: int = DEFAULT_PROFILE.min_batch
    opt_batch: int = DEFAULT_PROFILE.opt_batch
    max_batch: int = DEFAULT_PROFILE.max_batch
    timing_cache_file: Path | None = None
    builder_optimization_level: int | None = None
    mem_pool_size_mib: int | None = None
    hardware_compatibility_level: str = "none"
    version_compatible: bool = False
    strip_weights: bool = False
    no_tf32: bool = True
    flavour: str = "auto"
    more_profiles: tuple[BatchProfile, ...] | None = None

    @property
    def profiles(self) -> tuple[BatchProfile, ...]:
        """All optimisation profiles; the first is ``min_batch``, ``opt_batch``, ``max_batch``."""
        first = BatchProfile(self.min_batch, self.opt_batch, self.max_batch)
        if self.more_profiles is None:
            return (first, LARGE_PROFILE) if first == DEFAULT_PROFILE else (first,)
        return (first, *self.more_profiles)

    def __post_init__(self) -> None:
        for smallest, usual, largest in self.profiles:
            if not 1 <= smallest <= usual <= largest:
                raise ConfigError(
                    "batch sizes must be 1 <= min <= opt <= max, found "
                    f"{smallest}, {usual}, {largest}"
                )
        level = self.builder_optimization_level
        if level is not None and not 0 <= level <= MAX_BUILDER_LEVEL:
            raise ConfigError(
                f"--builderOptimizationLevel must be 0 to {MAX_BUILDER_LEVEL}, found {level}"
            )
        if self.mem_pool_size_mib is not None and self.mem_pool_size_mib < 1:
            raise ConfigError(
                f"--memPoolSize must be at least 1 MiB, found {self.mem_pool_size_mib}"
            )
        _one_of("--hardwareCompatibilityLevel", self.hardware_compatibility_level, HARDWARE_LEVELS)
        _one_of("TensorRT flavour", self.flavour, ("auto", *FLAVOURS))
        if self.flavour == "tensorrt_rtx" and self.hardware_compatibility_level != "none":
            raise ConfigError(
                "--hardwareCompatibilityLevel has no effect with tensorrt_rtx, whose engines run "
                "on every GPU it supports; leave it out"
            )


def engine_options_from(given: Mapping[str, object] | EngineOptions | None) -> EngineOptions:
    """The options, or those of a mapping of fields. Raises ConfigError for an unknown field."""
    if isinstance(given, EngineOptions):
        return given
    known = [field.name for field in fields(EngineOptions)]
    for name in given or ():
        if name not in known:
            raise ConfigError(
                f"unknown engine option {name!r}{nearest(name, known)}; options: {', '.join(known)}"
            )
    values: dict[str, Any] = dict(given or {})
    return EngineOptions(**values)


def _one_of(what: str, word: str, known: tuple[str, ...] | dict[str, str]) -> None:
    if word not in known:
        choices = ", ".join(known)
        raise ConfigError(f"{what} must be one of {choices}; found {word!r}{nearest(word, known)}")


def profile_from_text(text: str) -> BatchProfile:
    """Parse ``MIN-OPT-MAX``. Raises ConfigError."""
    words = text.split("-")
    if len(words) != len(BatchProfile._fields) or not all(word.isdecimal() for word in words):
        raise ConfigError(f"--profile must be MIN-OPT-MAX, such as 1-8-32; found {text!r}")
    return BatchProfile(*map(int, words))


def engine_file_name(manifest: Manifest, info: EngineInfo) -> str:
    """``msp_cnn.sm87.trt10.3.fp16.b1-8-32.engine``: everything that limits where the file runs.

    Several profiles are ``b1-1-1+2-8-32``. An engine built ahead of time with TensorRT for RTX
    is ``msp_cnn.rtx.trtrtx1.7...``, one of several graphs ``csn.describe.sm87...``.
    """
    short = ".".join(info.tensorrt_version.split(".")[:2])
    parts = [
        graph_name(manifest, manifest.stage),
        info.gpu_architecture,
        ("trtrtx" if info.flavour == "tensorrt_rtx" else "trt") + short,
        manifest.precision,
        "b" + "+".join(str(profile) for profile in info.profiles),
    ]
    if info.version_compatible:
        parts.append("vc")
    if info.stripped:
        parts.append("stripped")
    return ".".join(parts) + ".engine"


def engine_path(target: Path, manifest: Manifest, info: EngineInfo) -> Path:
    """``target`` if it is an engine file name, otherwise the engine's name in that folder."""
    if target.suffix.lower() in SUFFIXES:
        return target
    return target / engine_file_name(manifest, info)
