"""TensorRT's builder configuration from EngineOptions."""

from __future__ import annotations

from typing import Any

from reid.errors import BuildError
from reid.runtime.tensorrt_module import version_of

from .options import HARDWARE_LEVELS, EngineOptions

DYNAMIC = -1
"""TensorRT's value for the size of a dynamic axis."""


def builder_config(trt: Any, builder: Any, network: Any, options: EngineOptions) -> Any:
    """The configuration with its optimisation profiles. Raises BuildError."""
    config = builder.create_builder_config()
    for smallest, usual, largest in options.profiles:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            first, *row = tuple(tensor.shape)
            if first == DYNAMIC:
                profile.set_shape(tensor.name, (smallest, *row), (usual, *row), (largest, *row))
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(
                f"TensorRT rejected the batch sizes {smallest}-{usual}-{largest}; choose others"
            )
    # Without it the inspector shows only names, from which the precision cannot be checked. It
    # costs time in a run; our runs turn it off (see ``nvtx_verbosity``).
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.mem_pool_size_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.mem_pool_size_mib << 20)
    if options.builder_optimization_level is not None:
        config.builder_optimization_level = options.builder_optimization_level
    if options.hardware_compatibility_level != "none":
        config.hardware_compatibility_level = _hardware_level(
            trt, options.hardware_compatibility_level
        )
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if options.no_tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    return config


def _hardware_level(trt: Any, word: str) -> Any:
    level = getattr(trt.HardwareCompatibilityLevel, HARDWARE_LEVELS[word], None)
    if level is None:
        raise BuildError(
            f"{trt.__name__} {version_of(trt)} does not support "
            f"--hardwareCompatibilityLevel={word}; leave it out, or build with TensorRT 11"
        )
    return level
