"""Exporting a network of another program, taken in by ``reid import-onnx``: FP16, pixels and
mirror image in."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid.errors import BuildError, ConfigError, ModelFileError, output_errors
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.packages import missing
from reid.progress import SILENT, Reporter
from reid.runtime import open_runner

from .file_names import onnx_file_name
from .pipeline import Exported
from .precision import prove_precision
from .writing import write_onnx

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise missing((error.name or "onnx").partition(".")[0], "ONNX export") from error

SUFFIX = ".onnx"
OPSET = 17
"""What a graph of an older opset than ``SLICE_OPSET`` is converted to."""

SLICE_OPSET = 10
"""The first whose Slice takes arrays, as the nodes in front of a graph do."""

_CONVERTER = "onnxconverter_common.float16"
"""Imported on use: nothing else needs it."""

HALF_MAX = 65504.0
_HALF_MIN = 6e-8


def export_file(
    source: ModelFile,
    out: Path,
    precisions: Sequence[str],
    pixels: bool = False,
    mirror: bool = False,
    reporter: Reporter = SILENT,
) -> Iterator[Exported]:
    """Write an ``.onnx`` file of another program into ``out`` in each precision.

    The files have the identity of ``source``: galleries know them as one model. With ``pixels``
    they take resized pixels, with ``mirror`` they average the mirror image in. Raises ManifestError
    for a file that was not taken in, ConfigError for one that is not FP32, compares pairs or cannot
    be mirrored, BuildError, ModelFileError, OutputError.
    """
    manifest = manifest_of(source)
    if manifest.precision != "fp32":
        raise ConfigError(
            f"{source.path} is {manifest.precision}; expected the network's FP32 file, which other "
            "precisions are made from"
        )
    if manifest.inputs or manifest.outputs:
        raise ConfigError(
            f"{source.path} is the {manifest.stage!r} graph of a network that compares pairs; "
            "export its run: reid export RUN --out DIR"
        )
    if pixels and manifest.preprocess == manifest.preprocess.resize_only():
        raise ConfigError(
            f"{source.path} takes resized pixels already, and nothing is left to put inside; leave "
            "--pixels out"
        )
    if mirror:
        _refuse_mirror(manifest, source.path)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    model = onnx.load(source.path)
    advance = reporter.begin("exporting", len(precisions))
    for precision in precisions:
        start = time.perf_counter()
        graph = halved_graph(model, source.path) if precision == "fp16" else copy.deepcopy(model)
        islands: tuple[str, ...] = ()
        if precision == "fp16":
            islands = prove_precision(graph, "fp16").fp32_islands
        described = manifest
        if mirror:
            graph = with_mirror_nodes(graph, manifest)
            described = manifest.with_mirror()
        if pixels:  # in front of the mirror, which reverses the crop
            graph = with_pixels(graph, manifest.input_name, manifest.preprocess)
            described = dataclasses.replace(
                described,
                preprocess=manifest.preprocess.resize_only(),
                inside=manifest.preprocess,
            )
        described = dataclasses.replace(
            described,
            precision=precision,
            fp32_islands=islands,
            opset=_opset(graph),
            source_sha256=source.sha256,
            checkpoint_sha256=manifest.model_sha256,
            file_sha256="",
            parity={},
        )
        path = out / onnx_file_name(described, described.stage, precision)
        _refuse_same(source.path, path)
        write_onnx(graph, described, path)
        advance(1, path.name)
        yield Exported(path, precision, time.perf_counter() - start)


def manifest_of(source: ModelFile) -> Manifest:
    """The manifest beside or inside the file, with its identity.

    Raises ManifestError, which names `reid import-onnx`, for a file without one; ModelFileError.
    """
    with closing(open_runner(source, "cpu")) as runner:
        return source.identified(runner.manifest)


def halved_graph(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """A copy that computes in float16, with float32 inputs and outputs.

    Raises BuildError for weights beyond float16's range, MissingPackageError.
    """
    try:
        converter = importlib.import_module(_CONVERTER)
    except ImportError as error:
        raise missing("onnxconverter_common", "FP16 of networks of other programs") from error
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if not (np.abs(values) <= HALF_MAX).all():
            raise BuildError(
                f"{path}: {weight.name} has values that float16 cannot represent (beyond "
                f"{HALF_MAX:.0f}, or not finite); export this network in FP32"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that float16 rounds to zero
        half: onnx.ModelProto = converter.convert_float_to_float16(
            copy.deepcopy(model),
            min_positive_val=_HALF_MIN,
            max_finite_val=HALF_MAX,
            keep_io_types=True,
        )
    return half


def with_pixels(model: onnx.ModelProto, name: str, inside: Preprocess) -> onnx.ModelProto:
    """The graph behind a centre crop and (x - mean) / std, in float32.

    Its input ``name`` then takes resized pixels, 0-255, in the order of ``inside.mean``.
    """
    if _opset(model) < SLICE_OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    graph = model.graph
    cropped, centred, normalised = (f"{name}/{word}" for word in ("crop", "mean", "std"))
    for node in graph.node:
        node.input[:] = [normalised if value == name else value for value in node.input]
    (taken,) = (value for value in graph.input if value.name == name)
    sizes = taken.type.tensor_type.shape.dim
    for size, edge in zip(sizes[2:], (inside.resize_height, inside.resize_width), strict=True):
        size.dim_value = edge
    top, left = inside.crop_corner
    ends = [top + inside.crop_height, left + inside.crop_width]
    constants: dict[str, npt.NDArray[Any]] = {
        f"{name}/starts": np.array([top, left], np.int64),
        f"{name}/ends": np.array(ends, np.int64),
        f"{name}/axes": np.array([2, 3], np.int64),
        f"{name}/mean_values": np.array(inside.mean, np.float32).reshape(1, 3, 1, 1),
        f"{name}/std_values": np.array(inside.std, np.float32).reshape(1, 3, 1, 1),
    }
    starts, stops, axes, mean, std = constants
    nodes = [
        helper.make_node("Slice", [name, starts, stops, axes], [cropped], "pixels/Slice"),
        helper.make_node("Sub", [cropped, mean], [centred], "pixels/Sub"),
        helper.make_node("Div", [centred, std], [normalised], "pixels/Div"),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(
        numpy_helper.from_array(array, key) for key, array in constants.items()
    )
    return model


def with_mirror_nodes(model: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """The graph between a copy of its crops in reverse columns and the mean of both vectors.

    In float32. Each vector is brought to length 1 before the mean, and the mean after it; the
    output keeps its name and shape. Other outputs are left out.
    """
    if _opset(model) < SLICE_OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    graph = model.graph
    taken, given = manifest.input_name, manifest.output_name
    both, each = f"{taken}/both", f"{given}/each"
    names = {taken: both, given: each}
    for node in graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    kept = [value for value in graph.output if value.name == given]
    # Shapes of a batch N are in the file's notes, and the network now runs on 2 N.
    del graph.output[:], graph.value_info[:]
    graph.output.extend(kept)
    constants: dict[str, npt.NDArray[Any]] = {
        f"{taken}/last": np.array([-1], np.int64),
        f"{taken}/before_first": np.array([np.iinfo(np.int64).min], np.int64),
        f"{taken}/columns": np.array([3], np.int64),
        f"{given}/forms": np.array([2, -1, manifest.output_dim], np.int64),
        f"{given}/own": np.array(0, np.int64),
        f"{given}/mirrored": np.array(1, np.int64),
    }
    last, before_first, columns, forms, own, other = constants
    flipped, unit, apart = f"{taken}/flipped", f"{given}/unit", f"{given}/apart"
    halves, total = (f"{given}/first", f"{given}/second"), f"{given}/sum"
    ends = [last, before_first, columns, last]
    front = [
        helper.make_node("Slice", [taken, *ends], [flipped], "mirror/Slice"),
        helper.make_node("Concat", [taken, flipped], [both], "mirror/Concat", axis=0),
    ]
    behind = [
        helper.make_node("LpNormalization", [each], [unit], "mirror/Each", axis=1, p=2),
        helper.make_node("Reshape", [unit, forms], [apart], "mirror/Reshape"),
        helper.make_node("Gather", [apart, own], [halves[0]], "mirror/Own", axis=0),
        helper.make_node("Gather", [apart, other], [halves[1]], "mirror/Mirrored", axis=0),
        # Twice the mean, which has the same direction.
        helper.make_node("Add", halves, [total], "mirror/Add"),
        helper.make_node("LpNormalization", [total], [given], "mirror/Mean", axis=1, p=2),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *rest, *behind])
    graph.initializer.extend(
        numpy_helper.from_array(array, key) for key, array in constants.items()
    )
    return model


def _refuse_mirror(manifest: Manifest, path: Path) -> None:
    """Raise ConfigError for a graph that mirrors already, or whose batch cannot be doubled."""
    if manifest.mirrored:
        raise ConfigError(
            f"{path} averages the mirror image in already; leave --mirror out to export it again"
        )
    if manifest.static_batch:
        raise ConfigError(
            f"{path} is fixed to batches of {manifest.static_batch}, and --mirror runs the network "
            "on two images for each one; export the network with a dynamic batch where it was "
            "trained, and import that file: reid import-onnx"
        )


def refuse_for_files(caffe: bool, also: Sequence[str]) -> None:
    """Raise ConfigError for what only a run can be exported to."""
    asked = [option for option, given in (("--caffe", caffe), ("--also", also)) if given]
    if asked:
        raise ConfigError(
            f"{' and '.join(asked)} need a run folder or checkpoint, found an .onnx file, "
            "which has one graph and no layers with names of Caffe; leave it out"
        )


def _refuse_same(source: Path, target: Path) -> None:
    """Raise ModelFileError before the file that is read is overwritten."""
    if target.exists() and target.samefile(source):
        raise ModelFileError(
            f"{source} would be overwritten by its own export; give another folder with --out"
        )


def _opset(model: onnx.ModelProto) -> int:
    return max((one.version for one in model.opset_import if not one.domain), default=0)
