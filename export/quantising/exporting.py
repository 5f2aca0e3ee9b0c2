"""An INT8 export from beginning to end: calibrate, choose, quantise, prove."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from reid.errors import ConfigError
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.model_file.quantisation import INT8, Quantisation
from reid.models import graphs_of
from reid.progress import Reporter

from ..file_names import onnx_file_name
from ..parity.proof import Proof
from ..pipeline import Exported
from ..precision import prove_precision
from ..writing import write_onnx
from .gate import Gate
from .images import Calibration, CalibrationImages
from .quantiser import VARIANTS, Quantiser, Variant
from .search import FLOAT_SHARES, Ranged, Search


@dataclass(frozen=True, slots=True)
class Int8File:
    """A written file and the verdict on it, which the caller settles."""

    exported: Exported
    proof: Proof[Any]
    variant: Variant


def refuse_pairs_of(run: ModelFile) -> None:
    """Raise ConfigError for a run of a network that compares pairs."""
    network, manifest = run.network(), run.checkpoint.manifest
    shape = manifest.preprocess.input_shape
    for graph in graphs_of(network, manifest.network, shape, manifest.normalised):
        if not graph.on_request:
            refuse_pairs(manifest.of_graph(graph.name, graph.inputs, graph.outputs))


def refuse_pairs(manifest: Manifest) -> None:
    """Raise ConfigError for a graph that does not give one vector for each image."""
    if manifest.inputs or manifest.outputs:
        raise ConfigError(
            f"--int8 is for networks that give a vector for each image; {manifest.network}'s graph "
            f"{manifest.stage!r} is of a network that compares pairs: export it with --fp16"
        )


def export_int8(
    source: Path,
    out: Path,
    images: CalibrationImages,
    wanted: Calibration,
    reporter: Reporter,
) -> Iterator[Int8File]:
    """Write ``NAME.int8.onnx`` and ``NAME.int8.x86.onnx`` for the FP32 file ``source``.

    Layers stay in floating point, those that lose most first, until the gate passes or a quarter of
    them do. Raises BuildError, ConfigError, ModelFileError, OutputError.
    """
    file = ModelFile.at(source)
    manifest = file.manifest
    refuse_pairs(manifest)
    model = onnx.load(source)
    prepare = manifest.preprocess.batch
    quantiser = Quantiser(model, manifest.input_name)
    search = Search(quantiser, model, manifest.output_name, prepare([*images.held_out]))
    ranged = search.calibrate(prepare([*images.crops]), VARIANTS, reporter)
    gate = Gate(file, images.gate, reporter)
    for variant in VARIANTS:
        start = time.perf_counter()
        quantisation = Quantisation(
            activations=variant.activations,
            method=ranged[variant].method.words,
            crops=len(images.crops),
            dataset=images.gate.dataset,
            images=images.words,
            seed=wanted.seed,
        )
        described = dataclasses.replace(
            manifest,
            precision=INT8,
            opset=quantiser.opset,
            source_sha256=file.sha256,
            checkpoint_sha256=manifest.model_sha256,
            file_sha256="",
            parity={},
        )
        path = out / onnx_file_name(described, described.stage, variant.suffix)
        attempt = _Attempt(search, variant, ranged[variant], described, quantisation)
        proof = _until_proven(attempt, path, gate, reporter)
        for line in _said(path, ranged[variant], proof, gate):
            reporter.say(line)
        yield Int8File(Exported(path, INT8, time.perf_counter() - start), proof, variant)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What is the same for a file however many of its layers stay in floating point."""

    search: Search
    variant: Variant
    ranged: Ranged
    described: Manifest
    quantisation: Quantisation


def _until_proven(attempt: _Attempt, path: Path, gate: Gate, reporter: Reporter) -> Proof[Any]:
    """Write the file with as few layers in floating point as the gate allows; its last verdict."""
    search, variant, ranged = attempt.search, attempt.variant, attempt.ranged
    quantiser = search.quantiser
    order: tuple[tuple[str, ...], ...] = ()
    for share in FLOAT_SHARES:
        if share and not order:
            order = search.by_loss(variant, ranged, reporter)
        layers = quantiser.in_order(sum(order[: math.ceil(share * len(order))], ()))
        model = quantiser.quantised(ranged.ranges, variant, layers)
        prove_precision(model, INT8, layers)
        made = dataclasses.replace(attempt.quantisation, float_layers=layers)
        manifest = dataclasses.replace(attempt.described, quantisation=made)
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder, path.name)
            write_onnx(model, manifest, trial)
            proof = gate.judge(trial)
        if proof.passed or share == FLOAT_SHARES[-1]:
            break
        failures = "; ".join(proof.report.failures)
        reporter.say(f"{path.name}: {len(layers)} layers in FP32 are too few: {failures}")
    write_onnx(model, manifest, path)
    report = dataclasses.replace(proof.report, candidate=str(path))
    return dataclasses.replace(proof, file=path, report=report)


def _said(path: Path, ranged: Ranged, proof: Proof[Any], gate: Gate) -> list[str]:
    """What was chosen, and the verdict, as lines."""
    cosines = ", ".join(f"{name} {cosine:.5f}" for name, cosine in ranged.cosines.items())
    made = proof.manifest.quantisation
    layers = len(made.float_layers) if made else 0
    return [
        f"{path.name}: ranges by {ranged.method.words} (mean row cosines: {cosines})",
        f"{path.name}: {layers} layers in FP32; {gate.words(proof)}",
    ]
