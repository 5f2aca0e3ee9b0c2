"""``reid.adopt``: a file of another program becomes a model file of this toolkit."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid import __version__
from reid.data.golden_crops import golden_crops
from reid.data.synthetic.crops import synthetic_people
from reid.errors import ModelFileError, OutputError, few_of, output_errors
from reid.files import staging_folder
from reid.matching.golden import FILE as GOLDEN_FILE
from reid.matching.golden import FOLDER as GOLDEN_FOLDER
from reid.matching.golden import golden_of, save_golden
from reid.model_file.manifest import METADATA_KEY, Manifest, manifest_path, write_manifest
from reid.model_file.parts import IR_SUFFIX, IR_WEIGHTS_SUFFIX, parts_of, sha256_of_model
from reid.model_file.preprocess import Preprocess
from reid.packages import named_packages
from reid.progress import Reporter, reporting
from reid.runtime import Runner, open_runner

from .content import Content
from .graph import Embedding, ForeignGraph, embedding_of, open_onnx
from .separation import LOWEST, separation
from .settings import PRESETS, Given, Size, Wanted, chosen_preprocess

STAGE = "embed"
PROBED = 3
"""Images to find the outputs with: a batch that no export is likely to be fixed to."""

FREED = (
    "batch: the file's is fixed; the copy takes any, and gives the same answers for several images "
    "at once"
)

CLASSES = {
    1000: "ImageNet's classes",
    751: "the training people of Market-1501",
    702: "the training people of DukeMTMC-reID",
    767: "the training people of CUHK03",
    1041: "the training people of MSMT17",
    4101: "all people of MSMT17",
}
"""Number of values of a classifier's output -> whose classes they are."""


@dataclass(frozen=True, slots=True)
class AdoptedModel:
    """The new model file, with its manifest and golden crops.

    ``notes`` say what was found and assumed, ``warnings`` what looks wrong; ``separation`` is how
    often two images of one synthetic person are nearer than two of different people, 0 to 1.
    """

    path: Path
    manifest: Manifest
    golden: Path
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    separation: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``reid import-onnx --json`` prints them."""
        return {
            "file": str(self.path),
            "golden": str(self.golden),
            "manifest": dataclasses.asdict(self.manifest),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "separation": self.separation,
        }


def adopt(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    mean: Given = "",
    std: Given = "",
    channels: str = "",
    resize: str | Size = "",
    crop: str | Size = "",
    interpolation: str = "bilinear",
    output: str = "",
    progress: bool | Reporter = False,
) -> AdoptedModel:
    """Make an ONNX file or OpenVINO IR of another program one that every command takes.

    It needs no PyTorch. The file, of an IR the ``.xml`` and its ``.bin``, is copied into the folder
    ``out`` with a manifest and golden crops. ``mean`` and ``std`` are ``imagenet`` (the default),
    ``caffe``, ``none`` (the graph normalises by itself) or three numbers, for pixels of 0-255 or of
    0-1; ``channels`` is ``RGB`` (the default, but not for ``caffe``) or ``BGR``. ``crop`` is the
    network's input, height and width, where the graph leaves it free; ``resize`` the size before a
    centre crop. ``output`` names the embedding if the graph has several outputs that can be it. The
    rest is found by running the file.

    Raises ModelFileError for a file that is neither, an IR without its ``.bin``, or one that takes
    anything but images or gives no vectors, ConfigError for settings that cannot be, OutputError
    for a folder with other files, MissingPackageError without ONNX Runtime, or OpenVINO for an IR.

    >>> adopted = reid.adopt("osnet.onnx", "models/osnet", mean="imagenet")  # doctest: +SKIP
    >>> reid.load(adopted.path).embed("people/")                             # doctest: +SKIP
    """
    source, folder = Path(model), Path(out)
    wanted = Wanted(mean, std, channels, resize, crop, interpolation)
    if not source.is_file():
        raise ModelFileError(f"{source}: no such file; expected an .onnx or an OpenVINO .xml file")
    name = re.sub(r"[^\w.-]", "_", source.stem, flags=re.ASCII).strip(".") or "model"
    is_ir = source.suffix.lower() == IR_SUFFIX
    target = folder / f"{name}{IR_SUFFIX if is_ir else '.onnx'}"
    _require_free(folder, target)
    with reporting(progress) as reporter, named_packages():
        graph = _opened_ir(source) if is_ir else open_onnx(source)
        _refuse_own(graph)
        _ask_about_normalisation(graph, wanted)
        preprocess, notes, doubts = chosen_preprocess(wanted, graph.size)
        probe = preprocess.batch(golden_crops(PROBED))
        graph = graph.free(probe) if graph.free else graph
        found = embedding_of(graph, probe, output)
        manifest = _manifest(name, source, graph, preprocess, found)
        notes = [*_found(manifest, found), *([FREED] if graph.save else []), *notes]
        doubts += [*found.doubts, *_doubts(found, graph.content, preprocess)]
        with staging_folder(target) as staging:
            manifest, share, more = _stage(graph, staging / target.name, manifest)
            _move(staging, folder)
        warnings = (*doubts, *more)
        for line in notes:
            reporter.say(line)
        for line in warnings:
            reporter.say(f"warning: {line}")
    golden = folder / GOLDEN_FOLDER / GOLDEN_FILE
    return AdoptedModel(target, manifest, golden, tuple(notes), warnings, share)


def _opened_ir(path: Path) -> ForeignGraph:
    """As ``open_ir``, whose module is imported here because only an IR needs OpenVINO."""
    graph: ForeignGraph = importlib.import_module("reid.export.adopting.ir").open_ir(path)
    return graph


def _require_free(folder: Path, target: Path) -> None:
    """Raise OutputError for a folder that holds anything but an earlier import of this file."""
    weights = target.with_suffix(IR_WEIGHTS_SUFFIX).name
    own = {target.name, manifest_path(target).name, GOLDEN_FOLDER}
    if target.suffix == IR_SUFFIX:
        own.add(weights)
    with output_errors(folder):
        names = os.listdir(folder) if folder.exists() else []
    others = sorted(name for name in names if name not in own and not name.startswith("."))
    if others:
        raise OutputError(
            f"{folder} holds other files ({few_of(others)}); expected a new or empty folder, or "
            f"an earlier import of {target.name}"
        )


def _refuse_own(graph: ForeignGraph) -> None:
    """Raise ModelFileError for a file that has its manifest inside."""
    if METADATA_KEY in graph.metadata:
        raise ModelFileError(
            f"{graph.path} was exported by this toolkit, with its manifest inside; use it as it is"
        )


def _ask_about_normalisation(graph: ForeignGraph, wanted: Wanted) -> None:
    """Raise ModelFileError where the graph seems to normalise and the user says nothing of it."""
    if graph.content.first and not (wanted.mean or wanted.std):
        raise ModelFileError(
            f"{graph.path} begins with {', '.join(graph.content.first)}: it seems to normalise its "
            "input by itself; say --mean none if it does, or --mean imagenet if images are to be "
            "normalised before it too"
        )


def _manifest(
    name: str,
    source: Path,
    graph: ForeignGraph,
    preprocess: Preprocess,
    found: Embedding,
) -> Manifest:
    sha256 = sha256_of_model(source)
    return Manifest(
        network=name,
        stage=STAGE,
        preprocess=preprocess,
        input_name=graph.input_name,
        output_name=found.name,
        output_meaning=found.name if found.others else "embedding",
        output_dim=found.dim,
        normalised=found.normalised,
        precision=graph.content.precision,
        opset=graph.content.opset,
        static_batch=found.static_batch,
        source_sha256=sha256,
        checkpoint_sha256=sha256,
        file_sha256=sha256,
        toolkit_version=__version__,
    )


def _found(manifest: Manifest, found: Embedding) -> list[str]:
    """What running the file has shown, as lines."""
    before = manifest.preprocess
    length = "of length 1" if found.normalised else "not of length 1: each is divided by its length"
    lines = [
        f"input: {manifest.input_name}, {before.crop_height}x{before.crop_width} (height x width), "
        f"{before.channel_order}, mean {_words(before.mean)}, std {_words(before.std)}",
        f"output: {found.name}, {found.dim} values, {length}",
    ]
    if found.others:
        lines.append(f"other outputs, which are not used: {', '.join(found.others)}")
    if found.static_batch:
        lines.append(
            f"batch: fixed to {found.static_batch}; more images are run in batches of this size, "
            "one after the other; export the network with a dynamic batch for speed"
        )
    return lines


def _doubts(found: Embedding, content: Content, preprocess: Preprocess) -> list[str]:
    """What looks wrong, as lines."""
    lines = []
    if found.dim in CLASSES:
        lines.append(
            f"output {found.name!r} has {found.dim} values, as many as {CLASSES[found.dim]}: it "
            "may be a classifier's; export the network without its classifier"
        )
    plain = PRESETS["none"]
    if content.first and (preprocess.mean, preprocess.std) != plain:
        lines.append(
            f"the graph begins with {', '.join(content.first)}: it seems to normalise its input by "
            "itself; if it does, import it with --mean none"
        )
    return lines


def _stage(
    graph: ForeignGraph, model: Path, manifest: Manifest
) -> tuple[Manifest, float, list[str]]:
    """Write the model, its manifest and golden crops; its separation, and what looks wrong.

    The copy is opened and run: a file that keeps its weights in another one is refused here.
    """
    if graph.save:
        graph.save(model)
    else:
        for part in parts_of(graph.path):
            shutil.copyfile(part, model.with_suffix(part.suffix.lower()))
    manifest = write_manifest(model, manifest)
    try:
        runner = open_runner(model, "cpu")
    except ModelFileError as error:
        raise ModelFileError(
            f"{graph.path} does not run without files beside it; export it as one file, with its "
            f"weights inside ({error})"
        ) from error
    with closing(runner):
        save_golden(golden_of(runner, golden_crops()), model.parent / GOLDEN_FOLDER)
        share = _separation(runner, manifest.preprocess)
        if share >= LOWEST:
            return manifest, share, []
        return manifest, share, [_mend(runner, share)]


def _separation(runner: Runner, preprocess: Preprocess) -> float:
    manifest = runner.manifest
    outputs = runner.run({manifest.input_name: preprocess.batch([*synthetic_people()])})
    return separation(outputs[manifest.output_name])


def _mend(runner: Runner, share: float) -> str:
    """The line about people that do not separate, with the preset under which they do, if any."""
    own = runner.manifest.preprocess
    found: dict[str, float] = {}
    for name in PRESETS:
        wanted = Wanted(name, name, own.channel_order)
        other, *_ = chosen_preprocess(wanted, (own.crop_height, own.crop_width))
        found[name] = _separation(runner, dataclasses.replace(own, mean=other.mean, std=other.std))
    best = max(found, key=lambda name: found[name])
    line = (
        f"distances do not separate synthetic people: two images of one person are nearer than two "
        f"of different people in {share:.0%} of cases (chance: 50%)"
    )
    if found[best] >= LOWEST:
        return f"{line}; with --mean {best} --std {best} it is {found[best]:.0%}: import it so"
    return f"{line}; check --mean, --std, --output, and that it is a network for people"


def _move(staging: Path, folder: Path) -> None:
    """Move what was staged into the folder, the manifest last.

    Where it stops half-way, the manifest there is an earlier one, whose hash refuses the file.
    """
    golden = folder / GOLDEN_FOLDER
    golden.mkdir(exist_ok=True)
    paths: Sequence[Path] = sorted((staging / GOLDEN_FOLDER).iterdir())
    for path in paths:
        os.replace(path, golden / path.name)
    for path in sorted(path for path in staging.iterdir() if path.is_file()):
        os.replace(path, folder / path.name)


def _words(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in values)
