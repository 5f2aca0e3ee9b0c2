"""Exporting a checkpoint to checked files, and checking parity of two files."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid.data import load_split, read_image
from reid.data.readers.datasets import check_name
from reid.data.synthetic.writing import write_synthetic
from reid.errors import ConfigError, DataError, output_errors
from reid.evaluation.evaluating import evaluate, split_as_trained
from reid.model_file.opening import ModelFile
from reid.models.graphs import Graph
from reid.progress import SILENT, Reporter
from reid.types import ImageRecord, Split

from .caffe.parity import MAX_CROPS as MAX_LAYER_CROPS
from .caffe.parity import prove_layers
from .caffe.writing import caffe_from_checkpoint
from .file_names import onnx_file_name
from .mirror import refuse_pair_graph, with_mirror
from .onnx import export_graph, from_pixels, prepared_graphs
from .parity.answers import subjects_of
from .parity.comparison import compare, with_evaluations
from .parity.proof import Proof, opened, proof_of
from .parity.thresholds import Side, with_thresholds
from .tensorrt.engine import BuiltEngine, build_engine
from .tensorrt.options import EngineOptions

MAX_PARITY_CROPS = 256
EXPORT_CROPS = 64
"""Crops of the parity check after an export."""
EXPORT_LAYER_CROPS = 8
"""The same for Caffe files, whose every blob is compared: batches of 1, 3 and 4."""

SYNTHETIC = "synthetic"
"""The dataset that is drawn if no folder is given."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported file and the time it took.

    ``description_bytes`` is the size of an image in a gallery, as float32, if this graph
    describes images for another graph to compare; else 0. ``on_request`` is the graph's.
    """

    path: Path
    precision: str
    seconds: float
    description_bytes: int = 0
    on_request: bool = False

    def words(self) -> str:
        """``msp_cnn.fp16.onnx  13.1 MB  4.2 s``."""
        size_mb = self.path.stat().st_size / 1e6
        words = f"{self.path}  {size_mb:.1f} MB  {self.seconds:.1f} s"
        if not self.description_bytes:
            return words
        kb = self.description_bytes / 1e3
        return f"{words}; each gallery image takes {kb:.0f} kB, {kb / 2:.0f} kB as float16"


def export_checkpoint(
    run: Path | ModelFile,
    out: Path,
    precisions: Sequence[str],
    on_request: Sequence[str] = (),
    pixels: bool = False,
    mirror: bool = False,
    reporter: Reporter = SILENT,
) -> Iterator[Exported]:
    """Write a network's graphs into ``out`` in each precision, one file at a time.

    ``<network>.<precision>.onnx``, or ``<network>.<graph>.<precision>.onnx`` for a network of
    several graphs. ``on_request`` names graphs that are not written by default. With
    ``pixels`` the graphs include crop and normalisation, and ``.pixels`` is in their names; with
    ``mirror`` the mean with the mirror image's vector, and ``.mirror``. ``reporter`` counts the
    files written. Raises CheckpointError, ConfigError for a graph that the network does not have
    and for a mirrored network that compares pairs, BuildError, OutputError.
    """
    file = ModelFile.at(run)
    network = file.network()
    manifest = dataclasses.replace(file.checkpoint.manifest, source_sha256=file.sha256)
    for number, precision in enumerate(precisions):
        start = time.perf_counter()
        graphs = prepared_graphs(network, manifest, fp16=precision == "fp16")
        chosen = _chosen(graphs, on_request, manifest.network)
        for graph in chosen if mirror else ():
            refuse_pair_graph(graph, manifest)
        with output_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        if number == 0:
            advance = reporter.begin("exporting", len(chosen) * len(precisions))
        for graph in chosen:
            written, described = graph, manifest
            if mirror:
                written, described = with_mirror(written, described)
            if pixels:  # in front of the mirror, which reverses the crop
                written, described = from_pixels(written, described)
            path = out / onnx_file_name(described, graph.name, precision)
            export_graph(written, described, path, fp16=precision == "fp16")
            advance(1, path.name)
            is_kept = graph is graphs[0] and sum(not one.on_request for one in graphs) > 1
            floats = sum(math.prod(array.shape) for array in graph.outputs) if is_kept else 0
            seconds = time.perf_counter() - start
            yield Exported(path, precision, seconds, 4 * floats, graph.on_request)
            start = time.perf_counter()


def _chosen(graphs: tuple[Graph, ...], on_request: Sequence[str], network: str) -> list[Graph]:
    """The graphs to export, in order. Raises ConfigError for an unknown graph."""
    offered = [graph.name for graph in graphs if graph.on_request]
    for name in on_request:
        if name not in offered:
            known = ", ".join(graph.name for graph in graphs)
            raise ConfigError(
                f"{network} has no graph {name!r} (it has {known}); remove --also {name}"
            )
    return [graph for graph in graphs if not graph.on_request or graph.name in on_request]


def export_caffe(run: Path | ModelFile, out: Path, bn_count: int = 1) -> tuple[Exported, Exported]:
    """Write ``<network>.prototxt`` and ``.caffemodel`` into ``out``; see ``caffe_from_checkpoint``.

    Raises CheckpointError, BuildError, OutputError.
    """
    start = time.perf_counter()
    files = caffe_from_checkpoint(run, out, bn_count)
    seconds = time.perf_counter() - start
    return Exported(files.prototxt, "fp32", seconds), Exported(files.caffemodel, "fp32", seconds)


def build_engines(
    onnx_files: list[Path], out: Path, options: EngineOptions, reporter: Reporter = SILENT
) -> Iterator[BuiltEngine]:
    """Build an engine from each ONNX file. Raises BuildError, MissingPackageError."""
    for path in onnx_files:
        yield build_engine(path, out, options, reporter)


@contextmanager
def synthetic_or_real(
    name: str, data_root: Path | None, model: Path | ModelFile
) -> Iterator[Split]:
    """The named dataset, split as for ``model``'s training; ``synthetic`` without a root is drawn.

    Raises DataError for an unknown name, for another dataset without a root, and what
    ``load_split`` raises.
    """
    check_name(name)
    if data_root is not None:
        yield split_as_trained(model, name, data_root)
        return
    if name != SYNTHETIC:
        raise DataError(
            f"dataset {name} needs a folder, found none; give it with --data-root, or leave out "
            "--data to draw synthetic people"
        )
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(folder, num_train_identities=2, num_test_identities=16, images_per_camera=3)
        yield load_split(SYNTHETIC, folder)


def prove(
    reference: Path | ModelFile,
    candidate: Path,
    split: Split,
    *,
    device: str = "auto",
    max_crops: int = MAX_PARITY_CROPS,
    with_evaluation: bool = True,
    best: int = 0,
    reporter: Reporter = SILENT,
) -> Proof[Any]:
    """Compare two model files on a split's test images, spread evenly over query and gallery.

    ``with_evaluation`` also evaluates both on the whole split, for the change of rank-1 and
    mAP, if the crops agree and both can rank; with ``best`` each query is compared with that many
    gallery images, the nearest by ranking vector. A ``.caffemodel`` is compared blob by blob on
    ``MAX_LAYER_CROPS`` at most, on the CPU and without evaluation. ``reporter`` counts the images
    and says how long ranking will take. Raises DataError, ParityError (incomparable outputs),
    ModelFileError, ManifestError, CaffeError.
    """
    layers = is_caffemodel(candidate)
    crops = spread(split, min(max_crops, MAX_LAYER_CROPS) if layers else max_crops)
    images = [read_image(record.path) for record in crops]
    with_evaluation = with_evaluation and not layers

    advance = reporter.begin("crops", len(images))
    if layers:
        return prove_layers(reference, candidate, images, advance)
    with ExitStack() as stack:
        first, second = (opened(stack, path, device) for path in (reference, candidate))
        subjects = subjects_of(first, second)
        report = compare(*subjects, images)
        advance(len(images))
        matchers = [matcher for subject in subjects if (matcher := subject.matcher())]
        if with_evaluation and report.passed and len(matchers) == len(subjects):
            before, after = (evaluate(m, split, best=best, reporter=reporter) for m in matchers)
            report = with_evaluations(report, (before.report, after.report))
            sides = (
                Side(one.verification, matcher.manifest.thresholds)
                for one, matcher in zip((before, after), matchers, strict=True)
            )
            report = with_thresholds(report, *sides)
        manifests = [runner.manifest for runner in second.values()]
    report = dataclasses.replace(report, dataset=split.dataset)
    return proof_of(report, reference, candidate, manifests)


def prove_on_synthetic(
    reference: Path | ModelFile, candidates: Sequence[Path]
) -> Iterator[Proof[Any]]:
    """Compare new files with their checkpoint on a few synthetic people.

    This takes seconds, so rank-1 and mAP are not compared; ``reid parity`` does that. Raises what
    ``prove`` raises.
    """
    with synthetic_or_real(SYNTHETIC, None, reference) as split:
        for candidate in candidates:
            crops = EXPORT_LAYER_CROPS if is_caffemodel(candidate) else EXPORT_CROPS
            yield prove(reference, candidate, split, max_crops=crops, with_evaluation=False)


def one_of_each(files: Sequence[Path]) -> list[Path]:
    """One exported file of each pair (describe, compare): one parity report covers both."""
    chosen: list[Path] = []
    halves: list[Path | None] = []
    for file in files:
        if file not in halves:
            chosen.append(file)
            opened = ModelFile.at(file)
            halves.append(opened.partner(opened.manifest.stage))
    return chosen


def is_caffemodel(file: Path) -> bool:
    """Whether a file is one of Caffe's, by its suffix."""
    return file.suffix.lower() == ".caffemodel"


def spread(split: Split, count: int) -> list[ImageRecord]:
    """At most ``count`` test images, spread evenly over query and gallery, in order."""
    records = [*split.query, *split.gallery]
    count = min(count, len(records))
    return [records[i] for i in np.linspace(0, len(records) - 1, count).round().astype(int)]
