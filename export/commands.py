"""The commands ``reid export``, ``build``, ``parity`` and ``import-caffe``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar, say

if TYPE_CHECKING:
    from .tensorrt.options import EngineOptions


_ENGINE_FLAGS = (
    click.option("--minBatch", "min_batch", type=options.BATCH, default=1, show_default=True),
    click.option("--optBatch", "opt_batch", type=options.BATCH, default=8, show_default=True),
    click.option("--maxBatch", "max_batch", type=options.BATCH, default=32, show_default=True),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="MIN-OPT-MAX",
        help="Batch sizes of an optimisation profile, instead of the three options above. Repeat "
        "for several profiles; the first is trtexec's --profile=0.  [default: 1-8-32 and "
        "33-128-256; on a Jetson 1-8-32]",
    ),
    click.option(
        "--timingCacheFile",
        "timing_cache",
        type=options.FILE,
        help="Timing cache to read and update.",
    ),
    click.option("--builderOptimizationLevel", "level", type=click.IntRange(0, 5)),
    click.option("--memPoolSize", "workspace_mib", type=int, help="Workspace in MiB."),
    click.option(
        "--hardwareCompatibilityLevel",
        "hardware",
        type=click.Choice(["none", "ampere+", "sameComputeCapability"]),
        default="none",
        show_default=True,
    ),
    click.option("--versionCompatible", "version_compatible", is_flag=True),
    click.option("--stripWeights", "strip_weights", is_flag=True),
    click.option(
        "--noTF32/--TF32",
        "no_tf32",
        default=True,
        help="FP32 engines compute in FP32 (TensorRT's default is TF32, which fails parity).",
    ),
    click.option(
        "--flavour",
        type=click.Choice(["auto", "tensorrt", "tensorrt_rtx"]),
        default="auto",
        show_default=True,
        help="Which TensorRT to build with; tensorrt_rtx needs no GPU.",
    ),
)


def _engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of an engine build, which the command gets as ``builder_options``."""

    @functools.wraps(command)
    def with_options(
        *,
        min_batch: int,
        opt_batch: int,
        max_batch: int,
        profiles: tuple[str, ...],
        timing_cache: Path | None,
        level: int | None,
        workspace_mib: int | None,
        hardware: str,
        version_compatible: bool,
        strip_weights: bool,
        no_tf32: bool,
        flavour: str,
        **others: Any,
    ) -> Any:
        from .tensorrt.options import EngineOptions, profile_from_text

        sizes_given = _given("min_batch", "opt_batch", "max_batch")
        if profiles and sizes_given:
            raise click.UsageError(
                "--profile replaces --minBatch, --optBatch and --maxBatch; give one kind"
            )
        asked = profiles or [f"{min_batch}-{opt_batch}-{max_batch}"]
        first, *more = map(profile_from_text, asked)
        builder_options = EngineOptions(
            *first,
            more_profiles=tuple(more) if profiles or sizes_given else None,
            timing_cache_file=timing_cache,
            builder_optimization_level=level,
            mem_pool_size_mib=workspace_mib,
            hardware_compatibility_level=hardware,
            version_compatible=version_compatible,
            strip_weights=strip_weights,
            no_tf32=no_tf32,
            flavour=flavour,
        )
        return command(builder_options=builder_options, **others)

    for flag in reversed(_ENGINE_FLAGS):
        with_options = flag(with_options)
    return with_options


def _given(*names: str) -> bool:
    """Whether one of these parameters was given on the command line."""
    context = click.get_current_context()
    return any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in names)


@click.command()
@click.argument("run", type=options.MODEL)
@click.option("--out", type=options.FOLDER, required=True, help="The folder to write into.")
@click.option("--fp16", is_flag=True, help="Also write FP16 graphs (and engines).")
@click.option(
    "--also",
    multiple=True,
    metavar="GRAPH",
    help="Also write this graph. CSN: pair (two images at once). SiSNet: second (the other scale) "
    "or cascade (both). May be repeated.",
)
@click.option(
    "--pixels",
    is_flag=True,
    help="Put crop, mean and scale inside the graphs: they then take the resized image, 0-255, as "
    "DeepStream and Triton provide it.",
)
@click.option(
    "--mirror",
    is_flag=True,
    help="Put the mirror image inside the graphs: each vector is the mean of the crop's and its "
    "mirror image's, of length 1 again, for twice the computing.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Also write INT8 graphs: NAME.int8.onnx for TensorRT and OpenVINO, NAME.int8.x86.onnx for "
    "ONNX Runtime on x86. Needs --calibrate.",
)
@click.option(
    "--calibrate",
    default="",
    metavar="NAME",
    help="The dataset that INT8 is calibrated on (its training images) and proven on (its test "
    "images).",
)
@click.option(
    "--data-root",
    type=options.FOLDER,
    help="That dataset's folder; without it, with --calibrate synthetic, people are drawn.",
)
@click.option(
    "--calibration-crops",
    type=click.IntRange(min=16),
    default=256,
    show_default=True,
    help="Images to calibrate on.",
)
@click.option(
    "--calibration-seed",
    type=options.COUNT,
    default=0,
    show_default=True,
    help="Which images are drawn.",
)
@click.option("--trt", is_flag=True, help="Also build TensorRT engines from the ONNX files.")
@click.option(
    "--caffe", is_flag=True, help="Also write a .prototxt and a .caffemodel for stock Caffe."
)
@click.option(
    "--bn-count",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    help="With --caffe: BatchNorm's count, the weight of its statistics when training goes on. 10 "
    "goes on as PyTorch would; 1 comes back by import-caffe with the same bits.",
)
@click.option(
    "--no-parity", is_flag=True, help="Skip the parity check of the ONNX files on synthetic people."
)
@_engine_options
@options.as_json
def export(
    run: Path,
    out: Path,
    fp16: bool,
    also: tuple[str, ...],
    pixels: bool,
    mirror: bool,
    int8: bool,
    calibrate: str,
    data_root: Path | None,
    calibration_crops: int,
    calibration_seed: int,
    trt: bool,
    caffe: bool,
    bn_count: int,
    no_parity: bool,
    builder_options: EngineOptions,
    as_json: bool,
) -> dict[str, Any]:
    """Export RUN (a run folder or checkpoint) to ONNX; with --trt and --caffe also to those.

    RUN can also be an .onnx file of another program that `reid import-onnx` has taken in. A network
    that compares pairs is exported as two files, describe and compare. The names of batch sizes,
    timing cache and builder options are trtexec's.
    """
    from reid.model_file.opening import ModelFile

    from .api import export_model

    with progress_bar("exporting") as bar:
        files = export_model(
            ModelFile.at(run),
            out,
            fp16=fp16,
            trt=trt,
            caffe=caffe,
            bn_count=bn_count,
            also=also,
            pixels=pixels,
            mirror=mirror,
            int8=int8,
            calibrate=calibrate,
            root=data_root,
            calibration_crops=calibration_crops,
            calibration_seed=calibration_seed,
            prove=not no_parity,
            engine_options=builder_options,
            reporter=bar,
        )
    found = files.to_json()
    if as_json:
        show(json_text(found))
    else:
        show("\n".join(map(str, files)))
        say(f"next: reid eval {run} {files.deployed} --data NAME --data-root DIR")
    return found


@click.command()
@click.argument("file", type=options.MODEL, metavar="FILE.onnx")
@click.option("--out", type=options.FOLDER, help="The folder to write into (default: FILE's).")
@click.option(
    "--fp16",
    is_flag=True,
    help="Require an FP16 file. An engine always has the precision of its ONNX file.",
)
@click.option("--no-parity", is_flag=True, help="Skip the parity check on golden crops.")
@_engine_options
@options.as_json
def build(
    file: Path,
    out: Path | None,
    fp16: bool,
    no_parity: bool,
    builder_options: EngineOptions,
    as_json: bool,
) -> dict[str, Any]:
    """Build the TensorRT engine of FILE.onnx, which `reid export` wrote; needs no PyTorch.

    Writes the engine with its manifest, proves its precision, and compares it with FILE.onnx in
    ONNX Runtime on golden crops; exit code 3 if it differs. Where the engine cannot run, as on a
    machine without a GPU, a line says that parity was not checked. Of a network that compares
    pairs, name either file: both are built. The names of batch sizes, timing cache and builder
    options are trtexec's.
    """
    from .building import build as build_file

    found = build_file(
        file, out, fp16=fp16, prove=not no_parity, engine_options=builder_options, progress=True
    )
    if as_json:
        show(json_text(found.to_json()))
    else:
        show("\n".join(map(str, found)))
        say(f"next: reid bench {found.engines[0]}")
    return found.to_json()


@click.command()
@click.argument("reference", type=options.MODEL)
@click.argument("candidate", type=options.MODEL)
@click.option("--data", "name", default="synthetic", show_default=True, help="The dataset.")
@click.option(
    "--data-root",
    type=options.FOLDER,
    help="The dataset's folder; without it, synthetic people are drawn.",
)
@click.option(
    "--crops",
    type=click.IntRange(min=16),
    default=256,
    show_default=True,
    help="The most crops to compare on.",
)
@click.option("--skip-eval", is_flag=True, help="Do not compare rank-1 and mAP.")
@options.shortlist(0)
@options.device
@options.as_json
def parity(
    reference: Path,
    candidate: Path,
    name: str,
    data_root: Path | None,
    crops: int,
    skip_eval: bool,
    shortlist: int,
    device: str,
    as_json: bool,
) -> dict[str, Any]:
    """Check that CANDIDATE gives the same output as REFERENCE; exit code 3 if it does not.

    Both are run folders, checkpoints, .onnx or .engine files; each prepares the crops by its
    own manifest. For a network that compares pairs, name either file; both are checked. A
    .caffemodel with its .prototxt beside it is run by OpenCV and compared with the checkpoint
    REFERENCE blob by blob, on at most 16 crops. The report is also written into the candidate's
    manifest.
    """
    from .api import prove

    proof = prove(
        reference,
        candidate,
        dataset=name,
        root=data_root,
        crops=crops,
        evaluate=not skip_eval,
        shortlist=shortlist,
        device=device,
        settle=False,
        progress=True,
    )
    found: dict[str, Any] = proof.report.to_json()
    show(json_text(found) if as_json else proof.report.text())
    proof.settle()
    return found


@click.command("import-caffe")
@click.argument("net", type=options.FILE)
@click.argument("weights", type=options.FILE)
@click.option("--out", type=options.FOLDER, required=True, help="The run folder to write.")
@click.option(
    "--bn-statistic",
    type=click.Choice(["inverse_std", "variance", "std"]),
    default="inverse_std",
    show_default=True,
    help="What the fork's BN layers store as their fourth blob.",
)
@options.as_json
def import_caffe(
    net: Path, weights: Path, out: Path, bn_statistic: str, as_json: bool
) -> dict[str, Any]:
    """Make a run folder from Caffe weights: NET.prototxt and WEIGHTS.caffemodel.

    Weights are matched by layer name: stock BatchNorm + Scale, or BN of the fork that trained the
    DGD models. Mean, scale and sizes are those of the prototxt's data layer or its comments, else
    the paper's. The run can be evaluated and exported like a trained one.
    """
    from .caffe.importing import checkpoint_from_caffe

    imported = checkpoint_from_caffe(net, weights, out, bn_statistic)
    for line in imported.lines:
        say(line)
    if as_json:
        show(json_text(imported.report))
    else:
        show(str(imported.run))
        say(f"next: reid export {imported.run} --out DIR")
    return imported.report
