"""The quickstart on synthetic people: draw, train, export, evaluate, check parity, measure, report.

Each step is one call of the API and prints the command that does the same, as a starting point
for the user.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import reid
from reid.api.evaluation import Settings, compare_models
from reid.api.training import train
from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.errors import BuildError, MissingPackageError, OutputError, ReidError
from reid.evaluation.tables import percent
from reid.files import write_text
from reid.model_file.opening import CHECKPOINT_NAME, ModelFile
from reid.packages import named_packages
from reid.progress import Say, progress_bar, say
from reid.report.quickstart_page import write_page
from reid.runtime import open_runner

RECIPE = "msp_cnn_synthetic"
BUILDERS = ("tensorrt", "tensorrt_rtx")
PARITY_CROPS = 96
BENCH_S = 1.0
"""How long each batch size is timed."""


@dataclass(frozen=True, slots=True)
class QuickstartPlan:
    """The settings: output folder, numbers of people, and overrides of training settings."""

    out: Path
    seed: int = 0
    train_identities: int = 60
    test_identities: int = 20
    overrides: tuple[str, ...] = ()


Answer = tuple[dict[str, Any], str]
"""A step's result, as its command prints it: plain values, and text."""


def _draw(folder: Path, train_identities: int, test_identities: int, seed: int) -> Answer:
    with progress_bar("drawing") as bar:
        counts = write_synthetic(
            folder,
            num_train_identities=train_identities,
            num_test_identities=test_identities,
            seed=seed,
            reporter=bar,
        )
    words = f"{folder}: {counts.train_images} images to train on, {counts.query_images} queries"
    return dataclasses.asdict(counts), words


def _train(recipe: str, data_root: Path, out: Path, overrides: tuple[str, ...]) -> Answer:
    run = train(recipe, data_root, out, overrides=overrides, progress=True)
    return run.to_json(), run.to_text()


def _export(run: Path, out: Path, fp16: bool, no_parity: bool, trt: bool = False) -> Answer:
    export_model = cast("Callable[..., Any]", reid.loaded(reid.UPPER["export_model"]))
    with progress_bar("exporting") as bar, named_packages():
        files = export_model(
            ModelFile.at(run), out, fp16=fp16, trt=trt, prove=not no_parity, reporter=bar
        )
    return files.to_json(), "\n".join(map(str, files))


def _evaluate(models: tuple[Path, ...], name: str, data_root: Path, picture: Path) -> Answer:
    with progress_bar() as bar:
        compared = compare_models(models, Settings(name, data_root), reporter=bar)
    compared.write_picture(picture)
    return compared.summary()


def _prove(
    reference: Path, candidate: Path, name: str, data_root: Path, crops: int, skip_eval: bool
) -> Answer:
    prove = cast("Callable[..., Any]", reid.loaded(reid.UPPER["prove"]))
    proof = prove(
        reference,
        candidate,
        dataset=name,
        root=data_root,
        crops=crops,
        evaluate=not skip_eval,
        progress=True,
    )
    return proof.report.to_json(), proof.report.text()


def _bench(model: Path, seconds: float) -> Answer:
    bench_model = cast("Callable[..., Any]", reid.loaded(reid.UPPER["bench_model"]))
    with progress_bar("bench") as bar:
        found: Answer = bench_model(model, seconds=seconds, reporter=bar)
    return found


STEPS: dict[str, Callable[..., Answer]] = {
    "data synth": _draw,
    "train": _train,
    "export": _export,
    "eval": _evaluate,
    "parity": _prove,
    "bench": _bench,
}
"""A command's name -> the call that does the same with its options."""


@dataclass
class Quickstart:
    """The plan in progress and the results of the steps so far."""

    plan: QuickstartPlan
    show: Say
    """Called with each step's result as text."""
    started_s: float = field(default_factory=time.perf_counter)
    report: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, words: str, called: str, /, **options: Any) -> dict[str, Any]:
        """Do a step and print its command ("train", "data synth")."""
        say(f"\n[{time.perf_counter() - self.started_s:4.0f} s] {words}")
        line = command_line(called, options)
        say(f"$ {line}")
        start = time.perf_counter()
        found, text = STEPS[called](**options)
        self.show(text)
        seconds = round(time.perf_counter() - start, 1)
        self.steps.append({"what": words, "command": line, "seconds": seconds})
        return found


def command_line(name: str, options: Mapping[str, Any]) -> str:
    """What a user would type for the command ``name`` with ``options``."""
    words = ["reid", *name.split()]
    flags: list[str] = []
    for key, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        option = _OPTION_NAMES.get(key, "--" + key.replace("_", "-"))
        if key in _ARGUMENTS:
            words += map(str, values)
        elif value is True:
            flags.append(option)
        elif value is not False:
            flags += [word for v in values for word in (option, str(v))]
    return shlex.join([*words, *flags])


_ARGUMENTS = ("folder", "recipe", "models", "run", "reference", "candidate", "model")
_OPTION_NAMES = {"name": "--data", "overrides": "--set", "batch_sizes": "--batch"}


def run_quickstart(plan: QuickstartPlan, show: Say = say) -> Path | None:
    """Fill ``plan.out``; return its ``index.html``, or None if training was interrupted.

    Raises OutputError for a folder that is in use, ConfigError for an override, and what the
    steps raise.
    """
    out = plan.out
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose another folder with --out, or remove it")
    resolve_config(RECIPE, None, plan.overrides)  # reports a misspelt setting before drawing
    quick = Quickstart(plan, show)
    run = out / "run"
    if not _trained(quick, out / "people", run):
        return None
    files = _make_files(quick, run, out / "exported")
    _measure(quick, run, files, {"name": "synthetic", "data_root": out / "people"})
    return _finish(quick, run)


def _trained(quick: Quickstart, people: Path, run: Path) -> bool:
    """Draw people and train on them; return whether training finished."""
    plan = quick.plan
    quick.report["data"] = quick.step(
        "draw people",
        "data synth",
        folder=people,
        train_identities=plan.train_identities,
        test_identities=plan.test_identities,
        seed=plan.seed,
    )
    answer = quick.step(
        "train MSP-CNN",
        "train",
        recipe=RECIPE,
        data_root=people,
        out=run,
        overrides=(f"run.seed={plan.seed}", *plan.overrides),
    )
    if answer["interrupted"]:
        say(
            f"reid: the quickstart was stopped at step {answer['step']} of {answer['num_steps']} "
            f"of training; continue with: {quick.steps[-1]['command']} --resume"
        )
        return False
    quick.report["train"] = answer
    return True


def _make_files(quick: Quickstart, run: Path, exported: Path) -> list[Path]:
    """Export ONNX files, and engines where possible; return those that run here."""
    answer = quick.step(
        "export ONNX in FP32 and FP16", "export", run=run, out=exported, fp16=True, no_parity=True
    )
    quick.report["export"] = answer
    built = _build_engine(quick, run, exported)
    engines = [Path(engine) for engine in built.get("engines", ())]
    refused = {str(engine): why for engine in engines if (why := _why_it_cannot_run(engine))}
    for engine, why in refused.items():
        say(f"parity of {engine} not checked here: {why}")
    quick.report["engine"] = {**built, "not_run": refused}
    running = [engine for engine in engines if str(engine) not in refused]
    return [*(Path(file) for file in answer["files"]), *running]


def _why_it_cannot_run(engine: Path) -> str:
    """Why this machine cannot open ``engine`` (a builder needs no GPU), or an empty string."""
    try:
        with open_runner(engine):
            return ""
    except ReidError as error:
        return str(error)


def _build_engine(quick: Quickstart, run: Path, exported: Path) -> dict[str, Any]:
    """Build an engine if a builder is installed; else say what is missing."""
    if not any(importlib.util.find_spec(name) for name in BUILDERS):
        missing = (
            "no engine was built: neither tensorrt nor tensorrt_rtx is installed; on a machine "
            "with an NVIDIA GPU, pip install 'reid-toolkit[gpu]' and "
            f"{shlex.join(['reid', 'export', str(run), '--out', str(exported)])} --fp16 --trt"
        )
        say(missing)
        return {"built": False, "why": missing}
    try:
        answer = quick.step(
            "build the TensorRT engines",
            "export",
            run=run,
            out=exported,
            fp16=True,
            trt=True,
            no_parity=True,
        )
    except (BuildError, MissingPackageError) as error:
        why = f"no engine was built: {error}"
        say(why)
        return {"built": False, "why": why}
    return {"built": True, **answer}


def _measure(quick: Quickstart, run: Path, files: list[Path], data: Mapping[str, Any]) -> None:
    """Evaluate each file, check its parity, time it."""
    quick.report["eval"] = quick.step(
        "evaluate the checkpoint and the exported files on people not seen in training",
        "eval",
        models=(run, *files),
        **data,
        picture=quick.plan.out / "ranked.png",
    )
    quick.report["parity"] = [
        quick.step(
            f"check the parity of {file.name} with the checkpoint",
            "parity",
            reference=run,
            candidate=file,
            **data,
            crops=PARITY_CROPS,
            skip_eval=True,
        )
        for file in files
    ]
    quick.report["bench"] = [
        quick.step(f"measure {file.name}", "bench", model=file, seconds=BENCH_S)
        | {"file": file.name}
        for file in files
    ]


def _finish(quick: Quickstart, run: Path) -> Path:
    """Write report.json and index.html; return the page."""
    out = quick.plan.out
    seconds = time.perf_counter() - quick.started_s
    quick.report |= {
        "toolkit_version": reid.__version__,
        "seed": quick.plan.seed,
        "seconds": round(seconds, 1),
        "steps": quick.steps,
        "checkpoint": str(run / CHECKPOINT_NAME),
    }
    write_text(out / "report.json", json.dumps(quick.report, indent=2) + "\n")
    page = out / "index.html"
    write_page(page, quick.report, {"ranked": out / "ranked.png", "curves": run / "curves.png"})
    best = quick.report["eval"]["models"][0]["cmc"]["rank1"]
    chance = quick.report["eval"]["chance_rank1"]
    say(
        f"\ndone in {seconds:.0f} s: rank-1 {percent(best)} % on unseen people; "
        f"of a random ranking: {percent(chance)} %"
    )
    return page
