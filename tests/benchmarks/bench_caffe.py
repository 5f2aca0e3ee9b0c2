"""Caffe files of MSP-CNN's size: python tests/benchmarks/bench_caffe.py [--run RUN]

Seconds and memory of reading and writing the caffemodel, and of whole exports and imports;
every blob of the test graph against OpenCV's Caffe reader, which is not ours; tensors that
come back bit by bit. All this for random weights, and for those of RUN where one is given.
``--record`` keeps the figures in tests/benchmarks/records/caffe.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import google.protobuf
import torch

from reid.caffe.files import blob_array, read_weights, write_weights
from reid.config.settings import TrainConfig
from reid.export.caffe.graph import traced_layers
from reid.export.caffe.importing import checkpoint_from_caffe
from reid.export.caffe.writing import caffe_from_checkpoint
from reid.export.pipeline import SYNTHETIC, prove, synthetic_or_real
from reid.files import write_text
from reid.model_file.manifest import Manifest
from reid.model_file.opening import ModelFile
from reid.model_file.preprocess import Preprocess
from reid.models import build_network
from reid.training.checkpoint import Checkpoint, save_checkpoint
from reid.types import FloatArray

RECORD = Path(__file__).parent / "records" / "caffe.json"
RUNS = 5
CROPS = 16
NETWORK, IDENTITIES = "msp_cnn", 751
Made = dict[str, object]


def bytes_of(field: str) -> int:
    """A size that Linux tells of this process: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) << 10  # type: ignore[index]


def forget_peak() -> None:
    """Linux counts the peak from here on."""
    Path("/proc/self/clear_refs").write_text("5")


def read_all(caffemodel: Path) -> list[FloatArray]:
    """Every blob of the file."""
    net = read_weights(caffemodel)
    return [blob_array(blob) for layer in net.layer for blob in layer.blobs]


def random_run(folder: Path) -> Path:
    """A checkpoint of fresh weights."""
    torch.manual_seed(0)
    network, preprocess = build_network(NETWORK, IDENTITIES), Preprocess()
    manifest = Manifest(NETWORK, "train", preprocess)
    config = TrainConfig(preprocess=preprocess)
    checkpoint = Checkpoint(config, manifest, IDENTITIES, network.state_dict())
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    return folder


def job(name: str, run: Path, folder: Path) -> None:
    """One job in a process of its own: print by how many bytes it raised the peak."""
    torch.set_num_threads(1)
    # Libraries load on their first use.
    traced_layers(build_network(NETWORK, 2), Preprocess().input_shape)
    prototxt, caffemodel = (folder / f"{NETWORK}.{end}" for end in ("prototxt", "caffemodel"))
    before = bytes_of("VmRSS")
    forget_peak()
    if name == "read":
        read_all(caffemodel)
    elif name == "write":  # with the net that is written
        net = read_weights(caffemodel)
        forget_peak()
        write_weights(folder / "again.caffemodel", net)
    elif name == "export":
        caffe_from_checkpoint(run, folder / "exported")
    else:
        checkpoint_from_caffe(prototxt, caffemodel, folder / "imported")
    print(bytes_of("VmHWM") - before)


def peak_over_file(name: str, run: Path, folder: Path) -> float:
    """The peak of a job as a multiple of the caffemodel."""
    command = [sys.executable, __file__, "--job", name, str(run), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(int(done.stdout) / (folder / f"{NETWORK}.caffemodel").stat().st_size, 2)


def seconds(call: Callable[[], object]) -> float:
    """The median of RUNS calls."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times), 3)


def agreement(run: Path, folder: Path) -> Made:
    """Every blob in OpenCV against PyTorch, and every tensor there and back."""
    files = caffe_from_checkpoint(run, folder)
    with synthetic_or_real(SYNTHETIC, None, run) as split:
        report = prove(run, files.caffemodel, split, max_crops=CROPS).report
    back = folder / "back"
    imported = checkpoint_from_caffe(files.prototxt, files.caffemodel, back)
    before, after = (ModelFile.at(path).checkpoint.model for path in (run, back))
    # The count of batches is PyTorch's own: Caffe has no place for it.
    keys = [key for key in before if not key.endswith("num_batches_tracked")]
    return {
        "crops": report.num_crops,
        "batch_sizes": list(report.batch_sizes),
        "blobs_compared": len(report.blobs),
        "worst_relative_difference": float(f"{report.worst:.2g}"),
        "passed": report.passed,
        "tensors": len(keys),
        "tensors_found": imported.report["num_tensors"],
        "tensors_bit_exact": sum(torch.equal(before[key], after[key]) for key in keys),
    }


def main() -> None:
    """Print every figure; the jobs' memory is measured in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run folder, for trained weights")
    parser.add_argument("--run-is", default="trained", help="what the record calls the run")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    if options.job:
        name, run, folder = options.job
        job(name, Path(run), Path(folder))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh = random_run(folder / "random")
        made: dict[str, Made] = {"random": agreement(fresh, folder / "from_random")}
        if options.run is not None:
            made[options.run_is] = agreement(options.run, folder / "from_run")
        run, files = options.run or fresh, folder / f"from_{'run' if options.run else 'random'}"
        caffemodel = files / f"{NETWORK}.caffemodel"
        net = read_weights(caffemodel)
        found = {
            "caffemodel_mb": round(caffemodel.stat().st_size / 1e6, 1),
            "load_average": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "protobuf": google.protobuf.__version__,
            "runs": RUNS,
            "read_s": seconds(lambda: read_all(caffemodel)),
            "write_s": seconds(lambda: write_weights(files / "again.caffemodel", net)),
            **{
                f"{job_name}_peak_over_file": peak_over_file(job_name, run, files)
                for job_name in ("read", "write", "export", "import")
            },
            "weights": made,
        }
    print(json.dumps(found, indent=2))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
