"""All that only a GPU shows, in one command: python tests/benchmarks/gpu_round.py --record

Parts run in order of worth, each in a process of its own with its share of the time (25 minutes in
all), so that one that fails or hangs costs no other; the record is written after each part. Needed
are PyTorch with CUDA and this package with pytest; cuda-bindings and nvidia-smi where they are
there. ``--device cpu --quick`` runs every part in small, to try the script itself.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.data.synthetic.writing import write_synthetic
from reid.deploy.bench.pairs import bench_pairs
from reid.deploy.bench.power import measured, open_meter
from reid.files import write_text
from reid.models import graphs_of
from reid.progress import SILENT, Reporter
from reid.runtime.device_memory import open_device
from reid.training.arithmetic import Arithmetic
from reid.training.checkpoint import build_configured_network, load_checkpoint
from reid.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.heard import Interruption  # noqa: E402

RECORD = Path(__file__).parent / "records" / "gpu_round.json"
RECIPES = {
    "msp_cnn": "msp_cnn_market1501",
    "csn": "csn_cuhk01",
    "sisnet": "sisnet_market1501_triplet",
}
SKIPPED = 3
"""Steps at the start of a training, in which memory is first touched and kernels are chosen."""
TOTAL_S = 25 * 60.0
MIB = 1 << 20


@dataclass(frozen=True)
class Round:
    """Where and how large the parts run, and a folder for what they write."""

    device: str
    quick: bool
    folder: Path

    def config(self, network: str, *more: str) -> TrainConfig:
        """The network's recipe on synthetic people; small where ``quick``."""
        small: list[str] = []
        if self.quick:
            edges = {"msp_cnn": (16, 8), "csn": (80, 40), "sisnet": (64, 32)}[network]
            small = [
                f"preprocess.{kind}_{edge}={size}"
                for kind in ("resize", "crop")
                for edge, size in zip(("height", "width"), edges, strict=True)
            ]
            small += {
                "msp_cnn": ["sampler.anchors_per_batch=3"],
                "csn": ["sampler.anchors_per_batch=3"],
                "sisnet": ["sampler.identities_per_batch=2", "sampler.images_per_identity=2"],
            }[network]
            small += ["network.depth=18", "network.second_size=[48, 24]"] * (network == "sisnet")
            # PyTorch 2.13's bfloat16 convolutions read past maps that are one column wide.
            small += ["run.precision=fp32"]
        data = ["data.name=synthetic", "data.num_test_identities=0", "data.num_workers=0"]
        run = [f"run.device={self.device}", "run.log_every=1", *data]
        return resolve_config(RECIPES[network], None, [*run, *small, *more])

    def people(self) -> Path:
        """A folder of synthetic people, drawn once."""
        root = self.folder / "people"
        if not root.exists():
            write_synthetic(root, num_train_identities=8 if self.quick else 120)
        return root

    def trained(
        self,
        network: str,
        out: str,
        steps: int,
        *more: str,
        resume: bool = False,
        reporter: Reporter = SILENT,
    ) -> Path:
        """The folder of a run of so many steps of the first stage."""
        config = self.config(network, f"stages.0.iterations={steps}", "stages.0.epochs=0", *more)
        config = dataclasses.replace(config, stages=config.stages[:1])
        train(config, self.people(), self.folder / out, resume=resume, reporter=reporter)
        return self.folder / out


def logged(run: Path, column: str) -> list[float]:
    """A column of a run's log."""
    with (run / "log.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def bindings(work: Round) -> dict[str, Any]:
    """The package that copies, and its copies from pinned and from pageable memory."""
    device, found = open_device(), {}
    values = np.arange((4 if work.quick else 256) * MIB // 4, dtype=np.float32)
    back = np.empty_like(values)
    with device.active():
        pinned = device.pinned(values.shape)
        pinned[:] = values
        address, stream = device.allocate(values.nbytes), device.open_stream()
        for name, source in (("pinned", pinned), ("pageable", values)):
            times = []
            for _ in range(5):
                began = time.perf_counter()
                device.copy_to_device(address, source, stream)
                device.synchronise(stream)
                times.append(time.perf_counter() - began)
            found[f"{name}_gb_per_s"] = values.nbytes / min(times) / 1e9
        device.copy_to_host(back, address, stream)
        device.synchronise(stream)
        device.close_stream(stream)
        device.free(address)
        device.free_pinned(pinned)
    same = bool((back == values).all())
    found |= {"package": type(device).__name__, "name": device.name, "same": same}
    return found


def gpu_tests(work: Round) -> dict[str, Any]:
    """``pytest -m gpu``: its closing line."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n0", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "closing": lines[-1] if lines else "", "failed": failed}


def numbers(work: Round) -> dict[str, Any]:
    """Each graph's outputs against float32 on the CPU: largest error as a share of the largest."""
    found: dict[str, Any] = {}
    for name in RECIPES:
        config = work.config(name)
        torch.manual_seed(0)
        network = build_configured_network(config, 12).eval()
        for graph in graphs_of(network, name, config.preprocess.input_shape, True):
            shapes = [((4,) if one.batched else (1,)) + tuple(one.shape) for one in graph.inputs]
            inputs = [torch.randn(shape) for shape in shapes]
            expected = _outputs(graph.module, inputs, Arithmetic("cpu", "fp32", False))
            precisions = ("fp32", "bf16", "fp16") if work.device == "cuda" else ("fp32", "bf16")
            found[f"{name}.{graph.name}"] = {
                precision: _error(
                    expected,
                    _outputs(graph.module, inputs, Arithmetic(work.device, precision, True)),
                )
                for precision in precisions
            }
    return found


def _outputs(
    module: torch.nn.Module, inputs: list[torch.Tensor], arithmetic: Arithmetic
) -> list[torch.Tensor]:
    module.to(arithmetic.device)
    with torch.inference_mode(), arithmetic.autocast():
        answer = module(*(one.to(arithmetic.device) for one in inputs))
    module.to("cpu")
    answers = [answer] if isinstance(answer, torch.Tensor) else list(answer)
    return [one.float().cpu() for one in answers]


def _error(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    pairs = zip(expected, found, strict=True)
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs)


def resume(work: Round) -> dict[str, Any]:
    """The largest difference of a weight: the same run twice, and a run that was stopped."""
    found = {}
    for fixed in ("false", "true"):
        more = ("stages.0.base_lr=0.001", f"run.deterministic={fixed}")
        whole = _weights(work.trained("msp_cnn", f"whole_{fixed}", 6, *more))
        again = _weights(work.trained("msp_cnn", f"again_{fixed}", 6, *more))
        out = f"parts_{fixed}"
        work.trained("msp_cnn", out, 6, *more, reporter=Interruption(3))
        parts = _weights(work.trained("msp_cnn", out, 6, *more, resume=True))
        found[f"deterministic_{fixed}"] = {
            "same_run_twice": _difference(whole, again),
            "resumed": _difference(whole, parts),
        }
    return found


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoint.pt").model


def _difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def profile(work: Round) -> dict[str, Any]:
    """Operations of three steps of the paper's size: how many a step, and the longest."""
    cuda = work.device == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] * cuda
    found = {}
    for name in ("msp_cnn", "csn"):
        work.trained(name, f"warm_{name}", 2)
        with torch.profiler.profile(activities=activities) as profiler:
            work.trained(name, f"profiled_{name}", 3)
        events = profiler.key_averages()

        def cost(event: Any) -> float:
            return float(event.self_device_time_total if cuda else event.self_cpu_time_total)

        longest = sorted(events, key=cost, reverse=True)[:12]
        found[name] = {
            "operations_per_step": sum(event.count for event in events) / 3,
            "longest_ms_per_step": {event.key[:60]: cost(event) / 3e3 for event in longest},
        }
    return found


def rates(work: Round) -> dict[str, Any]:
    """Images per second of each network's training, as the log has them."""
    steps = 6 if work.quick else 40
    found = {}
    for name in RECIPES:
        run = work.trained(name, f"rates_{name}", steps)
        images_per_s = logged(run, "images_per_s")[SKIPPED:]
        found[name] = {
            "recipe": RECIPES[name],
            "images_per_s": statistics.median(images_per_s),
            "peak_gpu_mib": torch.cuda.max_memory_allocated() / MIB if work.device == "cuda" else 0,
        }
    return found


def pairs(work: Round) -> dict[str, Any]:
    """CSN's comparison of 1250 pairs."""
    run = work.trained("csn", "pairs", 1)
    count, seconds = (20, 0.1) if work.quick else (1250, 10.0)
    return bench_pairs(run, count, seconds=seconds, device=work.device).to_json()


def power(work: Round) -> dict[str, Any]:
    """Energy of an image described by MSP-CNN in batches of 64."""
    config = work.config("msp_cnn")
    arithmetic = Arithmetic(work.device, "fp32" if work.device == "cpu" else "fp16", True)
    network = arithmetic.place(build_configured_network(config, 12).eval())
    images = arithmetic.layout(torch.randn(64, *config.preprocess.input_shape).to(work.device))
    described, deadline = 0, time.monotonic() + (0.5 if work.quick else 20)
    with measured(open_meter(work.device == "cuda")) as used, torch.inference_mode():
        while time.monotonic() < deadline:
            with arithmetic.autocast():
                network(images)
            if work.device == "cuda":
                torch.cuda.synchronize()
            described += len(images)
    return {"images": described, **dataclasses.asdict(used)}


PARTS: dict[str, tuple[Callable[[Round], dict[str, Any]], float]] = {
    "bindings": (bindings, 60),
    "tests": (gpu_tests, 180),
    "numbers": (numbers, 150),
    "resume": (resume, 150),
    "profile": (profile, 180),
    "rates": (rates, 360),
    "pairs": (pairs, 240),
    "power": (power, 120),
}
"""Each part and the most seconds it may take."""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "gpu": gpu and gpu.name,
        "gpu_mib": gpu and gpu.total_memory // MIB,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def in_a_process(name: str, options: argparse.Namespace, limit_s: float) -> dict[str, Any]:
    """What a part found, or how it ended."""
    command = [sys.executable, __file__, "--part", name, "--device", options.device]
    command += ["--quick"] * options.quick
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"stopped after {limit_s:.0f} s"}
    seconds = round(time.monotonic() - began, 1)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"failed": last, "seconds": seconds}
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="in small, to try the script")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help="run one part here and print what it found")
    parser.add_argument("--out", type=Path, help="the file of results")
    parser.add_argument("--record", action="store_true", help=f"write to {RECORD.name}")
    options = parser.parse_args()
    if options.part:
        with tempfile.TemporaryDirectory() as folder:
            work = Round(options.device, options.quick, Path(folder))
            print(json.dumps(PARTS[options.part][0](work)))
        return
    out = options.out or (RECORD if options.record else None)
    found: dict[str, Any] = {"machine": machine(), "device": options.device, "parts": {}}
    deadline = time.monotonic() + TOTAL_S
    for name in options.only:
        left_s = min(PARTS[name][1], deadline - time.monotonic())
        found["parts"][name] = (
            in_a_process(name, options, left_s) if left_s > 0 else {"failed": "no time was left"}
        )
        print(name, json.dumps(found["parts"][name], indent=2), flush=True)
        if out is not None:
            write_text(out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
