"""``reid quickstart``: the whole road on drawn people, by the commands a user types.

Each step is a command of the door, called with options and answering with what it
printed as JSON; this module knows their names and order, not their insides.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from reid import __version__
from reid.cli import INTERRUPTED
from reid.config.toml import resolve_config
from reid.errors import BuildError, MissingPackageError, OutputError, ReidError
from reid.files import write_text
from reid.model_file.opening import CHECKPOINT_NAME
from reid.progress import say
from reid.report.quickstart_page import write_page
from reid.runtime import open_runner

RECIPE = "msp_cnn_synthetic"
BUILDERS = ("tensorrt", "tensorrt_rtx")
PARITY_CROPS = 96
BENCH_S = 1.0
"""How long each batch size is timed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: where, with how many people, and the training's settings."""

    out: Path
    seed: int = 0
    train_identities: int = 60
    test_identities: int = 20
    overrides: tuple[str, ...] = ()


@dataclass
class Quickstart:
    """The plan being carried out and what the steps have answered so far."""

    ctx: click.Context
    plan: Plan
    started_s: float = field(default_factory=time.perf_counter)
    report: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, words: str, called: str, /, **options: Any) -> Any:
        """Show and call a command ("train", "data synth"); return its answer."""
        say(f"\n[{time.perf_counter() - self.started_s:4.0f} s] {words}")
        line = command_line(called, options)
        say(f"$ {line}")
        start = time.perf_counter()
        command = _command(self.ctx, called)
        answer = self.ctx.invoke(command, **options)
        seconds = round(time.perf_counter() - start, 1)
        self.steps.append({"what": words, "command": line, "seconds": seconds})
        return answer


def _command(ctx: click.Context, name: str) -> click.Command:
    """The door's command, by its words."""
    group = ctx.find_root().command
    for word in name.split():
        if not isinstance(group, click.Group):
            raise ReidError(f"no command {name!r}")
        found = group.get_command(ctx, word)
        if found is None:
            raise ReidError(f"no command {name!r}")
        group = found
    return group


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


def run_quickstart(ctx: click.Context, plan: Plan) -> Path:
    """Fill ``plan.out``; return its ``index.html``.

    Raises OutputError for a folder that is in use, ConfigError for an override, what the
    commands raise, and click's Exit where training was interrupted.
    """
    out = plan.out
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose another folder with --out, or remove it")
    resolve_config(RECIPE, None, plan.overrides)  # a misspelt setting is told before drawing
    quick = Quickstart(ctx, plan)
    run = out / "run"
    _train(quick, out / "people", run)
    files = _make_files(quick, run, out / "exported")
    _measure(quick, run, files, {"name": "synthetic", "data_root": out / "people"})
    return _finish(quick, run)


def _train(quick: Quickstart, people: Path, run: Path) -> None:
    """Draw people and train on them."""
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
            f"of the training; to go on with it: {quick.steps[-1]['command']} --resume"
        )
        quick.ctx.exit(INTERRUPTED)
    quick.report["train"] = answer


def _make_files(quick: Quickstart, run: Path, exported: Path) -> list[Path]:
    """The ONNX files, and engines where they can be built; return those that run here."""
    answer = quick.step(
        "export ONNX in FP32 and FP16", "export", run=run, out=exported, fp16=True, no_parity=True
    )
    quick.report["export"] = answer
    built = _build_engine(quick, run, exported)
    engines = [Path(engine) for engine in built.get("engines", ())]
    refused = {str(engine): why for engine in engines if (why := _why_it_cannot_run(engine))}
    for engine, why in refused.items():
        say(f"{engine} is not proven here: {why}")
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
    """Build an engine where a builder is installed; elsewhere say what is missing."""
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
    """Rank with each file, prove each, time each."""
    quick.report["eval"] = quick.step(
        "evaluate the checkpoint and the exported files on people it never saw",
        "eval",
        models=(run, *files),
        **data,
        picture=quick.plan.out / "ranked.png",
    )
    quick.report["parity"] = [
        quick.step(
            f"prove that {file.name} answers as the checkpoint does",
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
        "toolkit_version": __version__,
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
    say(f"\ndone in {seconds:.0f} s: rank-1 {best:.1%} on unseen people, chance {chance:.1%}")
    return page
