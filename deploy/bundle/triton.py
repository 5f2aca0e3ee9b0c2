"""Triton's model folder: ``config.pbtxt`` from the manifest, one plan per compute capability."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid.errors import ConfigError
from reid.model_file.manifest import BatchProfile, Manifest
from reid.types import ArraySpec

CONFIG_FILE = "config.pbtxt"
VERSION = "1"
PARAMETER = "reid.manifest"
"""The configuration's parameter that holds the manifest."""
PLATFORMS = {"plan": "tensorrt_plan", "onnx": "onnxruntime_onnx"}
"""Kind of the model file -> Triton's name of its backend."""

MAX_QUEUE_DELAY_US = 1000
"""How long a request may wait for others to fill a batch."""


@dataclass(frozen=True, slots=True)
class TritonModel:
    """One file of the model: its path, its manifest, its name in the version's folder."""

    source: Path
    manifest: Manifest
    name: str

    @property
    def compute_capability(self) -> str:
        """``8.7`` of an engine for one GPU architecture; empty for any other file."""
        engine = self.manifest.engine
        digits = engine.gpu_architecture.removeprefix("sm") if engine else ""
        return f"{digits[:-1]}.{digits[-1]}" if digits.isdigit() else ""


def triton_models(files: Sequence[tuple[Path, Manifest]]) -> list[TritonModel]:
    """Names for the files of one model. Raises ConfigError for files of different models."""
    kinds = {"plan" if manifest.engine else "onnx" for _, manifest in files}
    facts = {(m.network, m.stage, m.checkpoint_sha256, m.precision, m.preprocess) for _, m in files}
    if len(kinds) > 1 or len(facts) > 1:
        raise ConfigError(
            "a model folder of Triton holds one graph in one precision, as an ONNX file or as "
            f"engines; found {', '.join(file.name for file, _ in files)}: bundle them separately"
        )
    (kind,) = kinds
    named = [TritonModel(file, manifest, f"model.{kind}") for file, manifest in files]
    if len(named) == 1:
        return named
    named = [
        TritonModel(one.source, one.manifest, f"model_sm{one.compute_capability}.{kind}")
        for one in named
    ]
    capabilities = [one.compute_capability for one in named]
    if "" in capabilities or len(set(capabilities)) < len(capabilities):
        raise ConfigError(
            "several engines must differ in their GPU's compute capability; found "
            f"{', '.join(c or 'none' for c in capabilities)}: give one engine for each"
        )
    profiles = [_profiles(one.manifest) for one in named]
    if len(set(map(len, profiles))) > 1:
        raise ConfigError(
            "the engines of one model folder share its list of optimisation profiles; found "
            f"{' and '.join('+'.join(map(str, each)) for each in profiles)}: build "
            "them with the same --profile"
        )
    return named


def model_name(manifest: Manifest) -> str:
    """``msp_cnn_fp16``, ``csn_describe_fp32``: Triton's name of the model."""
    graph = "" if manifest.stage == "embed" else f"_{manifest.stage}"
    return f"{manifest.network}{graph}_{manifest.precision}"


def config_text(models: Sequence[TritonModel], name: str, max_batch: int) -> str:
    """``config.pbtxt``, protobuf text of inference.ModelConfig.

    A graph with an array without a batch axis (the query of ``compare``), or with a fixed batch
    size, is configured without Triton's batching, with explicit sizes.
    """
    manifest = models[0].manifest
    specs = (*manifest.input_arrays, *manifest.output_arrays)
    batching = all(spec.batched for spec in specs) and not manifest.static_batch
    kind = "plan" if manifest.engine else "onnx"
    lines = [
        f"name: {_quoted(name)}",
        f"platform: {_quoted(PLATFORMS[kind])}",
        f"max_batch_size: {max_batch if batching else 0}",
        f"default_model_filename: {_quoted(models[0].name)}",
    ]
    for field, arrays in (("input", manifest.input_arrays), ("output", manifest.output_arrays)):
        lines += [_array(field, spec, batching, manifest.static_batch) for spec in arrays]
    if batching:
        lines.append(_dynamic_batching(manifest, max_batch))
    profiles = _profiles(manifest)
    if len(profiles) > 1:
        lines.append(_instance_group(len(profiles)))
    for model in models if len(models) > 1 else ():
        key, value = _quoted(model.compute_capability), _quoted(model.name)
        lines.append(f"cc_model_filenames {{ key: {key} value: {value} }}")
    lines.append(_parameter(PARAMETER, manifest.to_json()))
    return "\n".join(lines) + "\n"


def _profiles(manifest: Manifest) -> tuple[BatchProfile, ...]:
    return manifest.engine.profiles if manifest.engine else ()


def _instance_group(profiles: int) -> str:
    """All profiles by name: otherwise Triton uses only the first.

    Triton uses for each batch the profile whose tuned size is nearest (pull requests 919 and
    1987 of triton-inference-server/server).
    """
    indices = ", ".join(_quoted(str(index)) for index in range(profiles))
    return f"instance_group {{ count: 1 kind: KIND_GPU profile: [ {indices} ] }}"


def _array(field: str, spec: ArraySpec, batching: bool, static_batch: int) -> str:
    sizes = list(spec.shape)
    if not batching:
        sizes.insert(0, (static_batch or -1) if spec.batched else 1)
    # A scalar per image has no dimension, and Triton needs one.
    reshape = ""
    if not sizes:
        sizes, reshape = [1], " reshape { shape: [ ] }"
    dims = ", ".join(str(size) for size in sizes)
    return (
        f"{field} {{ name: {_quoted(spec.name)} data_type: TYPE_FP32 dims: [ {dims} ]{reshape} }}"
    )


def _dynamic_batching(manifest: Manifest, max_batch: int) -> str:
    tuned = {profile.opt_batch for profile in _profiles(manifest) if profile.opt_batch <= max_batch}
    preferred = ", ".join(str(size) for size in sorted({*tuned, max_batch}))
    return (
        f"dynamic_batching {{ preferred_batch_size: [ {preferred} ] "
        f"max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US} }}"
    )


def _parameter(key: str, text: str) -> str:
    compact = json.dumps(json.loads(text), separators=(",", ":"))
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(compact)} }} }}"


def _quoted(text: str) -> str:
    """A string of protobuf's text format."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
