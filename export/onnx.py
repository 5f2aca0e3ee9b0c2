"""A graph of a network as one ONNX file: dynamic batch, checked, its manifest and hash inside."""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import inspect
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from reid.errors import BuildError
from reid.model_file.manifest import Manifest
from reid.models import graphs_of
from reid.models.graphs import Graph
from reid.packages import missing
from reid.types import ArraySpec

from .pixels import FromPixels, Pixels

try:
    import onnx
    import onnxscript  # noqa: F401  (the exporter's translations, imported by PyTorch)
except ImportError as error:
    raise missing((error.name or "onnx").partition(".")[0], "ONNX export") from error

from .precision import folded, halved, prove_precision
from .writing import write_onnx

BATCH = "batch"
"""Name of the dynamic first axis of every batched input and output."""

OPSET = 18
"""The opset that the exporter's translations are written for, so nothing is converted; the
ONNX parser of TensorRT 10.3 and ONNX Runtime 1.18 read it."""

FOLD_TOLERANCE = 1e-4
"""The most that folding the batch norms may change an L2-normalised output (float32)."""

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
_EXAMPLE_BATCH = 2  # the smallest size that the exporter does not treat as a constant


def export_onnx(
    network: nn.Module,
    manifest: Manifest,
    path: Path,
    *,
    graph: str = "",
    fp16: bool = False,
    opset: int = OPSET,
) -> Manifest:
    """Write a graph of ``network`` to ``path`` and its manifest beside it and inside it.

    ``manifest`` is the checkpoint's; the one returned, with the new file's hash, is what
    was written. ``graph`` may be empty: a vector network has only one. The network is copied,
    never changed. With ``fp16`` the parameters and the arithmetic are float16 except in the
    FP32 islands that the manifest names; inputs and outputs stay float32. Raises BuildError if
    the export fails or has another precision, OutputError if it cannot be written; then no file
    is left.
    """
    graphs = {one.name: one for one in prepared_graphs(network, manifest, fp16=fp16)}
    if graph not in graphs and (graph or len(graphs) != 1):
        raise BuildError(
            f"{manifest.network} has the graphs {', '.join(graphs)}, found {graph!r}; name one"
        )
    chosen = graphs[graph] if graph else next(iter(graphs.values()))
    return export_graph(chosen, manifest, path, fp16=fp16, opset=opset)


def prepared_graphs(network: nn.Module, manifest: Manifest, *, fp16: bool) -> tuple[Graph, ...]:
    """Graphs of a copy on the CPU: batch norms folded and checked, float16 with ``fp16``.

    Raises BuildError if the weights cannot be folded or converted to float16.
    """
    original = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    prepared = folded(original)
    for before, after in zip(_graphs(original, manifest), _graphs(prepared, manifest), strict=True):
        _check_folding(before, after)
    return _graphs(halved(prepared) if fp16 else prepared, manifest)


def from_pixels(graph: Graph, manifest: Manifest) -> tuple[Graph, Manifest]:
    """A graph that includes crop and normalisation, and its manifest.

    A graph without images (``compare``) stays as it is.
    """
    preprocess = manifest.preprocess
    outside = preprocess.resize_only()
    described = dataclasses.replace(manifest, preprocess=outside)
    if any(spec.shape != preprocess.input_shape for spec in graph.inputs):
        return graph, described
    described = dataclasses.replace(described, inside=preprocess)
    size = (preprocess.crop_height, preprocess.crop_width)
    pixels = Pixels(*preprocess.crop_corner, size, preprocess.mean, preprocess.std)
    inputs = tuple(dataclasses.replace(spec, shape=outside.input_shape) for spec in graph.inputs)
    module = FromPixels(graph.to_export, pixels)
    return dataclasses.replace(graph, module=module, exported=None, inputs=inputs), described


def export_graph(
    graph: Graph, manifest: Manifest, path: Path, *, fp16: bool, opset: int = OPSET
) -> Manifest:
    """Write one of ``prepared_graphs`` in its precision.

    Otherwise as ``export_onnx``.
    """
    model = _traced(graph, opset)
    _rename(model, graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"the exported graph is not valid ONNX: {error}") from error
    proof = prove_precision(model, "fp16" if fp16 else "fp32")
    checkpoint_sha256 = manifest.file_sha256 or manifest.source_sha256
    exported = dataclasses.replace(
        manifest.of_graph(graph.name, graph.inputs, graph.outputs),
        precision=proof.precision,
        fp32_islands=proof.fp32_islands,
        opset=opset,
        source_sha256=checkpoint_sha256,
        checkpoint_sha256=checkpoint_sha256,
        file_sha256="",
        engine=None,
        parity={},
    )
    return write_onnx(model, exported, path)


def _graphs(network: nn.Module, manifest: Manifest) -> tuple[Graph, ...]:
    shape = manifest.preprocess.input_shape
    return graphs_of(network, manifest.network, shape, manifest.normalised)


def _check_folding(before: Graph, after: Graph) -> None:
    """Batch norms are matched to layers by name; this checks that the names were right."""
    generator = torch.Generator().manual_seed(0)
    inputs = [100 * torch.randn(shape, generator=generator) for shape in _shapes(before.inputs)]
    with torch.inference_mode():
        expected, found = before.module(*inputs), after.module(*inputs)
    if isinstance(expected, torch.Tensor):
        expected, found = (expected,), (found,)
    for spec, old, new in zip(before.outputs, expected, found, strict=True):
        change = float((old - new).abs().max() / old.abs().max())
        if not change <= FOLD_TOLERANCE:
            raise BuildError(
                f"folding the batch norms changed {spec.name!r} by {change:.2g} of its largest "
                f"value, allowed {FOLD_TOLERANCE:.0e}; a batch norm does not follow the layer it "
                "is named after, or the weights are not finite; check the checkpoint"
            )


def _shapes(specs: tuple[ArraySpec, ...]) -> list[tuple[int, ...]]:
    """Example sizes: a small batch, or one item where the array is not batched."""
    return [(_EXAMPLE_BATCH if spec.batched else 1, *spec.shape) for spec in specs]


def _traced(graph: Graph, opset: int) -> onnx.ModelProto:
    module = graph.to_export.eval()
    batch = torch.export.Dim(BATCH, min=1)
    axes = tuple({0: batch} if spec.batched else None for spec in graph.inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                tuple(torch.zeros(shape) for shape in _shapes(graph.inputs)),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=[spec.name for spec in graph.inputs],
                output_names=[spec.name for spec in graph.outputs],
                dynamic_shapes=(axes,) if _takes_any_number(module) else axes,
            )
    except torch.onnx.OnnxExporterError as error:
        reason: BaseException = error
        while (
            reason.__cause__ is not None
        ):  # the exporter's own message is advice; its cause is the reason
            reason = reason.__cause__
        words = str(reason).strip().partition("\n")[0]
        raise BuildError(
            f"PyTorch {torch.__version__} cannot export the graph {graph.name!r}: {words}"
        ) from error
    if program is None:
        raise BuildError(f"PyTorch {torch.__version__} returned no ONNX program from the export")
    model: onnx.ModelProto = program.model_proto
    found = next((entry.version for entry in model.opset_import if entry.domain == ""), None)
    if found != opset:
        raise BuildError(f"the exporter wrote opset {found}, expected opset {opset}")
    return model


def _takes_any_number(module: nn.Module) -> bool:
    """Whether ``forward(*arrays)`` takes any number of arrays: one argument to the exporter."""
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's progress, warnings and log lines; errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _rename(model: onnx.ModelProto, graph: Graph) -> None:
    """Name nodes ``<layer>/<operator>`` and weights as in the state dict; drop metadata.

    Errors of TensorRT and profiles of ONNX Runtime then name the network's layers. The
    exporter's metadata contains stack traces with local paths and is larger than the graph.
    """
    model.graph.name = graph.name
    weights = {w.name: _within_network(w.name) for w in model.graph.initializer}
    used: Counter[str] = Counter()
    for node in model.graph.node:
        name = f"{_layer_of(node) or graph.name}/{node.op_type}"
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"
        node.input[:] = [weights.get(value, value) for value in node.input]
        del node.metadata_props[:]
        node.doc_string = ""
    for weight in model.graph.initializer:
        weight.name = weights[weight.name]
        del weight.metadata_props[:]
    kept = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:], model.graph.metadata_props[:]
    model.graph.value_info.extend(kept)
    for values in (model.graph.value_info, model.graph.input, model.graph.output):
        for value in values:
            del value.metadata_props[:]


def _layer_of(node: onnx.NodeProto) -> str:
    """The module that the node comes from, ``conv1.conv``; empty for the wrapping module.

    The exporter stores the path as a list that ends with the operation's own name.
    """
    for note in node.metadata_props:
        if note.key == _SCOPES_KEY:
            scopes = ast.literal_eval(note.value)
            return _within_network(str(scopes[-2])) if len(scopes) > 1 else ""
    return ""


def _within_network(name: str) -> str:
    """The name without those of the modules that wrap the network."""
    while name.startswith("network."):
        name = name.removeprefix("network.")
    return name
