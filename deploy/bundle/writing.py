"""Writing a bundle: the model, the server's files, the golden crops."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from reid.data.golden_crops import golden_crops
from reid.errors import ConfigError, ModelFileError, ReidError
from reid.files import atomic_path, check_writable, write_text
from reid.matching.golden import FILE as GOLDEN_FILE
from reid.matching.golden import FOLDER, Golden, golden_beside, golden_of, save_golden
from reid.model_file.manifest import Manifest, write_manifest
from reid.model_file.opening import ModelFile
from reid.model_file.parts import IR_SUFFIX
from reid.model_file.quantisation import INT8, refuse_unproven
from reid.runtime import open_runner
from reid.runtime.tensorrt_fit import engine_info

from .deepstream import (
    INFER_FILE,
    INFER_MODE,
    TRACKER_FILE,
    affine,
    check_version,
    infer_file,
    tracker_block,
)
from .repository import check_repository, move_earlier_golden, replaced_model
from .triton import CONFIG_FILE, VERSION, config_text, model_name, triton_models

DEFAULT_BATCH = 16
"""Images per call, unless an engine has its own limit."""


def bundle_deepstream(
    model: Path,
    out: Path,
    *,
    batch: int | None = None,
    tracker: str = "nvdcf",
    person_class: int = 0,
    version: str = "",
    reference: Path | None = None,
    allow_unproven: bool = False,
) -> list[Path]:
    """Write the tracker's block, nvinfer's file, the model and the golden crops into ``out``.

    INT8 that no real images have proven is refused, unless ``allow_unproven``. ``reference``
    computes the golden answers; by default see ``golden_of_model``. Returns the files. Raises
    ConfigError for a model that DeepStream cannot run, ModelFileError, ManifestError, OutputError.
    """
    check_version(version)
    file, manifest = _opened(model, allow_unproven)
    if manifest.outputs or manifest.inputs:
        raise ConfigError(
            f"DeepStream keeps one vector per person, and {manifest.network}'s "
            f"{manifest.stage!r} graph outputs {len(manifest.output_arrays)} arrays; use "
            "`reid bundle triton`"
        )
    if manifest.precision not in INFER_MODE:
        raise ConfigError(
            f"DeepStream's files are written for {', '.join(INFER_MODE)}, found a model in "
            f"{manifest.precision!r}; export it again"
        )
    if manifest.precision == INT8 and manifest.engine is None:
        raise ConfigError(
            f"{file.name} is INT8, which DeepStream builds by calibrating itself, not from an ONNX "
            f"file; build its engine on the target, and bundle that: reid build {file.name}"
        )
    affine(manifest.preprocess)
    # nvinfer and the tracker run an engine on its first optimisation profile only.
    size = _batch(manifest, manifest.engine.max_batch if manifest.engine else None, batch)
    golden = golden_of_model(file, manifest, reference)
    told_of = [out / name for name in (TRACKER_FILE, INFER_FILE)] + [out / FOLDER / GOLDEN_FILE]
    copied = _copied(file, manifest, out / file.name, told_of)
    texts = {
        TRACKER_FILE: tracker_block(manifest, file.name, size, tracker),
        INFER_FILE: infer_file(manifest, file.name, size, person_class, version),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return [copied, *(out / name for name in texts), save_golden(golden, out / FOLDER)]


def bundle_triton(
    models: Sequence[Path],
    out: Path,
    *,
    batch: int | None = None,
    name: str = "",
    reference: Path | None = None,
    allow_unproven: bool = False,
) -> list[Path]:
    """Put a model into the repository ``out``: ``<name>/config.pbtxt`` and ``<name>/1/``.

    A model of this name is replaced in one step (see ``repository``), others are kept. The golden
    crops lie beside the repository (``golden_beside``); a graph that takes no images has none.
    Several engines of one graph are for several GPUs. Returns the files. Raises as
    ``bundle_deepstream``.
    """
    named = triton_models([_opened(model, allow_unproven) for model in models])
    manifest = named[0].manifest
    size = min(_batch(one.manifest, _largest(one.manifest), batch) for one in named)
    name = name or model_name(manifest)
    repository = check_repository(out, name)
    takes_images = manifest.input_arrays[0].shape == manifest.preprocess.input_shape
    takes_images = takes_images and len(manifest.input_arrays) == 1
    golden = golden_of_model(named[0].source, manifest, reference) if takes_images else None
    beside = golden_beside(repository, name)
    if golden is not None:
        check_writable(beside / GOLDEN_FILE)
    with replaced_model(repository, name) as folder:
        for one in named:
            _copied(one.source, one.manifest, folder / VERSION / one.name, ())
        write_text(folder / CONFIG_FILE, config_text(named, name, size))
        (beside / GOLDEN_FILE).unlink(missing_ok=True)
    move_earlier_golden(repository)
    files = [out / name / VERSION / one.name for one in named]
    files.append(out / name / CONFIG_FILE)
    if golden is not None:
        files.append(save_golden(golden, beside))
    return files


def golden_of_model(file: Path, manifest: Manifest, reference: Path | None) -> Golden:
    """Golden crops with answers of ``reference``, of the FP32 file beside the model, or of itself.

    With answers in FP32 the doctor can check that an FP16 model computes in FP16. An INT8 model's
    are those of the INT8 file: its answers differ from FP32's by more than faults do. Raises
    ModelFileError if none of them can run here.
    """
    crops = golden_crops()
    source = reference or _single_precision(file, manifest) or file
    try:
        with closing(open_runner(source)) as runner:
            golden = golden_of(runner, crops)
    except ReidError as error:
        if reference is not None:
            raise
        raise ModelFileError(
            f"{source.name} cannot run here on the golden crops ({error}); name a file of the "
            "same checkpoint that can with --reference"
        ) from None
    if golden.checkpoint != manifest.checkpoint_sha256[:16]:
        raise ConfigError(
            f"{source} and {file.name} come from different checkpoints; name another --reference"
        )
    return golden


def _single_precision(file: Path, manifest: Manifest) -> Path | None:
    """The FP32 ONNX file that was exported beside an FP16 one, or beside its engine; of an INT8
    engine the INT8 file."""
    head = file.name.partition(f".{manifest.precision}.")[0]
    stem = head.partition(f".{manifest.engine.gpu_architecture}.")[0] if manifest.engine else head
    wanted = INT8 if manifest.precision == INT8 else "fp32"
    beside = file.with_name(f"{stem}.{wanted}.onnx")
    return beside if beside.is_file() and beside != file else None


def _opened(model: Path, allow_unproven: bool) -> tuple[Path, Manifest]:
    """The file and its manifest; refuses a run, unproven INT8, and an engine that no server can
    open.

    Raises ConfigError, ManifestError, ModelFileError.
    """
    file = ModelFile.at(model)
    if file.is_checkpoint:
        raise ConfigError(
            f"{model} is a run; export it first, and bundle the .onnx or .engine file: reid export "
            f"{model} --out DIR --pixels --fp16"
        )
    if file.suffix == IR_SUFFIX:
        raise ConfigError(
            f"{model} is an OpenVINO IR, for which no bundle is written; bundle the .onnx file "
            "that it was made from"
        )
    manifest = file.manifest
    refuse_unproven(file.path, manifest, allow_unproven)
    if manifest.engine and engine_info(manifest, file.path).flavour != "tensorrt":
        raise ConfigError(
            f"{file.path.name} is an engine of TensorRT for RTX, which DeepStream and Triton "
            "cannot open; bundle the .onnx file, or an engine built by TensorRT"
        )
    return file.path, manifest


def _largest(manifest: Manifest) -> int | None:
    return manifest.engine.largest_batch if manifest.engine else None


def _batch(manifest: Manifest, of_engine: int | None, asked: int | None) -> int:
    """The largest batch. Raises ConfigError for more than an engine or a graph takes."""
    if static := manifest.static_batch:
        if asked not in (None, static):
            raise ConfigError(
                f"the graph is fixed to batches of {static}, found --batch {asked}; leave it out"
            )
        return static
    largest = of_engine or asked or DEFAULT_BATCH
    if asked is not None and asked > largest:
        raise ConfigError(
            f"the engine takes batches of {largest} at most, found --batch {asked}; build it with "
            f"--maxBatch {asked}"
        )
    return asked or largest


def _copied(file: Path, manifest: Manifest, target: Path, told_of: Sequence[Path]) -> Path:
    """The model under its new name, its manifest beside it. Raises OutputError.

    Files of the bundle that tell of the model that was there before are removed first: so a bundle
    whose writing was stopped lacks files, and none of them is of another model.
    """
    if not (target.exists() and target.samefile(file)):
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)
            for path in told_of:
                path.unlink(missing_ok=True)
        write_manifest(target, dataclasses.replace(manifest, file_sha256=""))
    return target
