"""DeepStream's files: the tracker's ReID block, and ``nvinfer`` as a second network on people.

Both resize a box to the network's size without keeping its aspect and compute one line,
y = scale * (x - offset), so a crop or a scale per channel has to be in the graph
(``reid export --pixels``). The same options have different numbers in the two files.

Keys are those of NVIDIA's documentation and of its sources where they are public: the engine's name
is made in ``nvdsinfer_model_builder.cpp``, and ``gstnvinfer.cpp`` reads
``secondary-reinfer-interval`` for classifiers and secondary detectors alone (NVIDIA's forum,
149060). ``strongly-typed`` stands in ``gstnvinfer_property_parser.h`` of the 9.x repository; with
``network-mode`` 2 the builder there sets FP16 too, which TensorRT refuses in a strongly typed
network, and then tries again without it.
"""

from __future__ import annotations

from reid.errors import ConfigError, nearest
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

VERSIONS = ("6.4", "7.0", "7.1", "8.0", "9.0", "9.1", "9.2")
"""DeepStream's versions that files can be written for."""

EXTRACTION_INTERVAL = 8
"""Frames between two vectors of a track, as in NVIDIA's own NvDCF file."""

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
    if manifest.engine is None:
        # The tracker builds it at its first start, and takes it at the next.
        body.insert(-1, f'  modelEngineFile: "{engine_name(manifest, model_file, batch)}"')
    if tracker == "nvdcf":
        body += [
            "# Merge these two into the TrajectoryManagement block that is there: without the",
            "# first no lost track is found again by its vector; the second is in frames.",
            "TrajectoryManagement:",
            "  enableReAssoc: 1",
            f"  reidExtractionInterval: {EXTRACTION_INTERVAL}",
        ]
    return "\n".join([*head, *body]) + "\n"


def engine_name(manifest: Manifest, model_file: str, batch: int, gpu: int = 0) -> str:
    """How nvinfer names the engine that it builds from an ONNX file, and finds again."""
    return f"{model_file}_b{batch}_gpu{gpu}_{manifest.precision}.engine"


def infer_file(
    manifest: Manifest, model_file: str, batch: int, person_class: int, version: str = ""
) -> str:
    """``nvinfer``'s configuration: run on each person, output the vector as a tensor.

    ``version`` is one of ``VERSIONS``; empty: keys that all of them have. Raises ConfigError.
    """
    check_version(version)
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
    if manifest.engine is None:
        # Without it the engine is built again at each start.
        lines["model-engine-file"] = engine_name(manifest, model_file, batch)
    notes = [
        f"# {manifest.network}, {manifest.precision}: vectors of people, for nvinfer behind a "
        "detector.",
        "# network-mode: 0 FP32, 1 INT8, 2 FP16; model-color-format: 0 RGB, 1 BGR;",
        "# process-mode 2: on the boxes of operate-on-gie-id; network-type 100: no parser.",
        "# Every person is described in every frame: secondary-reinfer-interval throttles",
        "# classifiers and detectors only. The tracker describes a track every few frames.",
    ]
    if manifest.engine is None and version.startswith("9."):
        notes += [
            "# strongly-typed=1 with network-mode=0 would keep the precision of each layer of the",
            "# file (not tried); the engine's name then ends in _fp32.engine.",
        ]
    if not manifest.normalised:
        notes.append("# The vectors are not of length 1: divide by the length before comparing.")
    return "\n".join([*notes, "[property]", *(f"{k}={v}" for k, v in lines.items())]) + "\n"


def check_version(version: str) -> None:
    """Raise ConfigError for a version that files cannot be written for."""
    if version and version not in VERSIONS:
        raise ConfigError(
            f"files are written for DeepStream {', '.join(VERSIONS)}; found {version!r}"
            f"{nearest(version, VERSIONS)}"
        )


def _number(value: float) -> str:
    """With the digits of a float32."""
    return f"{value:.9g}"


def _note(words: str | None) -> str:
    return f"  # {words}" if words else ""
