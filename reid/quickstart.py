"""``reid quickstart``: the whole road on drawn people, by the commands a user types.

Each step is a command of the door, called with options and answering with what it
printed as JSON; this module knows their names and order, not their insides.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from reid import __version__
from reid.errors import BuildError, MissingPackageError, OutputError, ReidError
from reid.files import write_text
from reid.progress import say
from reid.quickstart_page import write_page
from reid.runtime import CHECKPOINT_NAME

RECIPE = "msp_cnn_synthetic"
BUILDERS = ("tensorrt", "tensorrt_rtx")


@dataclass
class Quickstart:
    """The folder being filled and what the steps have answered so far."""

    ctx: click.Context
    out: Path
    seed: int
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
    words = ["reid", name]
    flags: list[str] = []
    for key, value in options.items():
        if key in _ARGUMENTS:
            words += [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
        elif value is True:
            flags.append(_OPTION_NAMES.get(key, "--" + key.replace("_", "-")))
        elif value is not False:
            option = _OPTION_NAMES.get(key, "--" + key.replace("_", "-"))
            values = value if isinstance(value, tuple) else (value,)
            flags += [f"{option} {v}" for v in values]
    return " ".join([*words, *flags])


_ARGUMENTS = ("folder", "recipe", "models", "run", "reference", "candidate", "model")
_OPTION_NAMES = {"name": "--data", "overrides": "--set", "batch_sizes": "--batch"}


def run_quickstart(ctx: click.Context, out: Path, seed: int) -> Path:
    """Fill ``out``; return its ``index.html``.

    Raises OutputError for a folder that is in use, and what the commands raise.
    """
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose another folder with --out, or remove it")
    quick = Quickstart(ctx, out, seed)
    people, run, exported = out / "people", out / "run", out / "exported"
    data = {"name": "synthetic", "data_root": people}
    quick.report["data"] = quick.step(
        "draw people", "data synth", folder=people, test_identities=20, seed=seed
    )
    quick.report["train"] = quick.step(
        "train MSP-CNN",
        "train",
        recipe=RECIPE,
        data_root=people,
        out=run,
        overrides=(f"run.seed={seed}",),
    )
    quick.report["export"] = quick.step(
        "export ONNX in FP32 and FP16", "export", run=run, out=exported, fp16=True, no_parity=True
    )
    files = [Path(file) for file in quick.report["export"]["files"]]
    quick.report["eval"] = quick.step(
        "evaluate the checkpoint and the exported files on people it never saw",
        "eval",
        models=(run, *files),
        **data,
        picture=out / "ranked.png",
    )
    quick.report["parity"] = [
        quick.step(
            f"prove that {file.name} answers as the checkpoint does",
            "parity",
            reference=run,
            candidate=file,
            **data,
            crops=96,
            skip_eval=True,
        )
        for file in files
    ]
    quick.report["engine"] = _build_engine(quick, run, exported)
    quick.report["bench"] = [
        quick.step(f"measure {file.name}", "bench", model=file, seconds=1.0) | {"file": file.name}
        for file in files
    ]
    return _finish(quick, run)


def _build_engine(quick: Quickstart, run: Path, exported: Path) -> dict[str, Any]:
    """Build an engine where a builder is installed; elsewhere say what is missing."""
    if not any(importlib.util.find_spec(name) for name in BUILDERS):
        missing = (
            "no engine was built: neither tensorrt nor tensorrt_rtx is installed; on a machine "
            "with an NVIDIA GPU, pip install 'reid-toolkit[gpu]' and "
            f"reid export {run} --out {exported} --fp16 --trt"
        )
        say(missing)
        return {"built": False, "why": missing}
    try:
        answer = quick.step(
            "build the TensorRT engine", "export", run=run, out=exported, fp16=True, trt=True
        )
    except (BuildError, MissingPackageError) as error:
        say(f"no engine was built: {error}")
        return {"built": False, "why": str(error)}
    return {"built": True, **answer}


def _finish(quick: Quickstart, run: Path) -> Path:
    """Write report.json and index.html; return the page."""
    out = quick.out
    seconds = time.perf_counter() - quick.started_s
    quick.report |= {
        "toolkit_version": __version__,
        "seed": quick.seed,
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
