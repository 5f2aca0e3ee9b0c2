"""DeepStream's files: the tracker's ReID block, and ``nvinfer`` as a second network on people.

Both resize a box to the network's size without keeping its aspect and compute one line,
y = scale * (x - offset), so a crop or a scale per channel has to be in the graph
(``reid export --pixels``). The same options have different numbers in the two files.
"""

from __future__ import annotations

from reid.errors import ConfigError
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess

TRACKER_FILE = "config_tracker_reid.yml"
INFER_FILE = "config_infer_reid.txt"

COLOR_FORMAT = {"RGB": 0, "BGR": 1}
"""``colorFormat`` and ``model-color-format``."""
TRACKER_MODE = {"fp32": 0, "fp16": 1, "int8": 2}
"""``networkMode`` of the tracker."""
INFER_MODE = {"fp32": 0, "fp16": 2, "int8": 1}
"""``network-mode`` of nvinfer."""
SCALING_FILTER = {"bilinear": 1, "cubic": 2}
"""``scaling-filter``, as NvBufSurfTransform_Inter counts them."""

REID_TYPES = {"nvdeepsort": 1, "nvdcf": 2}
"""Tracker -> ``reidType``: vectors for each association, or to find lost tracks again."""


def affine(preprocess: Preprocess) -> tuple[float, tuple[float, float, float]]:
    """(scale, offsets in channel order) of y = scale * (x - offset).

    Raises ConfigError for any other preprocessing.
    """
    if preprocess.interpolation not in SCALING_FILTER:
        raise ConfigError(
            f"this model resizes with {preprocess.interpolation!r}, DeepStream only with "
            f"{' or '.join(SCALING_FILTER)}; use `reid bundle triton`, whose clients resize, "
            "or train with one of these"
        )
    problem = ""
    if (preprocess.crop_height, preprocess.crop_width) != (
        preprocess.resize_height,
        preprocess.resize_width,
    ):
        problem = (
            f"crops {preprocess.crop_height}x{preprocess.crop_width} out of "
            f"{preprocess.resize_height}x{preprocess.resize_width}"
        )
    elif len(set(preprocess.std)) > 1:
        problem = f"divides the channels by {', '.join(f'{value:g}' for value in preprocess.std)}"
    if problem:
        raise ConfigError(
            f"this model {problem}, and DeepStream only resizes and computes scale * (x - offset) "
            "with one scale; export with `reid export RUN --out DIR --pixels` and bundle that file"
        )
    return 1 / preprocess.std[0], preprocess.mean


def tracker_block(manifest: Manifest, model_file: str, batch: int, tracker: str) -> str:
    """The ``ReID:`` block of a tracker's YAML file (nvmultiobjecttracker)."""
    scale, offsets = affine(manifest.preprocess)
    key = "modelEngineFile" if manifest.engine else "onnxFile"
    dims = ", ".join(str(size) for size in manifest.preprocess.input_shape)
    lines = {
        "reidType": REID_TYPES[tracker],
        "outputReidTensor": 1,
        "batchSize": batch,
        "workspaceSize": 1000,
        "reidFeatureSize": manifest.output_dim,
        "reidHistorySize": 100,
        "inferDims": f"[{dims}]",
        "networkMode": TRACKER_MODE[manifest.precision],
        "inputOrder": 0,
        "colorFormat": COLOR_FORMAT[manifest.preprocess.channel_order],
        "offsets": f"[{', '.join(_number(offset) for offset in offsets)}]",
        "netScaleFactor": _number(scale),
        "keepAspc": 0,
        "addFeatureNormalization": 0 if manifest.normalised else 1,
        key: f'"{model_file}"',
    }
    notes = {
        "reidType": "1 NvDeepSORT, 2 finding lost tracks again (NvDCF)",
        "networkMode": "0 FP32, 1 FP16, 2 INT8",
        "inputOrder": "channels first",
        "colorFormat": "0 RGB, 1 BGR",
        "keepAspc": "boxes are stretched, as in training",
    }
    body = [f"  {name}: {value}{_note(notes.get(name))}" for name, value in lines.items()]
    head = [
        "%YAML:1.0",
        f"# {manifest.network}, {manifest.precision}: put this block into the tracker's "
        "ll-config-file.",
        "ReID:",
    ]
    return "\n".join([*head, *body]) + "\n"


def infer_file(manifest: Manifest, model_file: str, batch: int, person_class: int) -> str:
    """``nvinfer``'s configuration: run on each person, output the vector as a tensor."""
    scale, offsets = affine(manifest.preprocess)
    key = "model-engine-file" if manifest.engine else "onnx-file"
    lines = {
        "gpu-id": 0,
        "gie-unique-id": 2,
        key: model_file,
        "batch-size": batch,
        "network-mode": INFER_MODE[manifest.precision],
        "network-type": 100,
        "output-tensor-meta": 1,
        "output-blob-names": manifest.output_name,
        "process-mode": 2,
        "operate-on-gie-id": 1,
        "operate-on-class-ids": person_class,
        "infer-dims": ";".join(str(size) for size in manifest.preprocess.input_shape),
        "model-color-format": COLOR_FORMAT[manifest.preprocess.channel_order],
        "net-scale-factor": _number(scale),
        "offsets": ";".join(_number(offset) for offset in offsets),
        "maintain-aspect-ratio": 0,
        "scaling-filter": SCALING_FILTER[manifest.preprocess.interpolation],
        "classifier-async-mode": 0,
    }
    notes = [
        f"# {manifest.network}, {manifest.precision}: vectors of people, for nvinfer behind a "
        "detector.",
        "# network-mode: 0 FP32, 1 INT8, 2 FP16; model-color-format: 0 RGB, 1 BGR;",
        "# process-mode 2: on the boxes of operate-on-gie-id; network-type 100: no parser.",
    ]
    if not manifest.normalised:
        notes.append("# The vectors are not of length 1: divide by the length before comparing.")
    return "\n".join([*notes, "[property]", *(f"{k}={v}" for k, v in lines.items())]) + "\n"


def _number(value: float) -> str:
    """With the digits of a float32."""
    return f"{value:.9g}"


def _note(words: str | None) -> str:
    return f"  # {words}" if words else ""
