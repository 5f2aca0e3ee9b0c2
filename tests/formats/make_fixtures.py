"""Made the files in this folder, once, with the code of commit dd50331.

It runs with that code alone, whose modules have moved since, and is kept as the record of what
was done: see README.md. From the root of a clone at that commit:

    python tests/formats/make_fixtures.py

It writes ``people/``, ``msp_cnn/``, ``csn/``, ``sisnet/`` and ``answers.json`` beside itself, and
refuses to write over them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import lzma
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from reid.checkpoint import build_configured_network, load_checkpoint, save_checkpoint
from reid.cli import main
from reid.config import TrainConfig
from reid.data import load_split, read_image
from reid.data.synthetic import write_synthetic
from reid.deploy.gallery.gallery import Confirmation, Sighting
from reid.deploy.gallery.indexing import add_images, content_hash
from reid.deploy.gallery.opening import open_gallery
from reid.matching import open_matcher
from reid.matching.files import load_descriptions
from reid.settings import resolve_config
from reid.train import train

HERE = Path(__file__).resolve().parent

CURRENT = "/proc/self/cwd"
"""The current folder, on every Linux machine: galleries keep absolute paths of their images."""

STEPS, STOPPED_AT = 5, 4

QUICK = (
    "data.name=synthetic",
    "data.num_test_identities=0",
    "data.num_workers=0",
    "run.device=cpu",
    "run.precision=fp32",
    "run.channels_last=off",
    "run.log_every=1",
)
IDENTITIES = ("sampler.identities_per_batch=3", "sampler.images_per_identity=2")


def sizes(resize: tuple[int, int], crop: tuple[int, int]) -> tuple[str, ...]:
    """Settings of an image's size, height first."""
    return tuple(
        f"preprocess.{kind}_{edge}={size}"
        for kind, pair in (("resize", resize), ("crop", crop))
        for edge, size in zip(("height", "width"), pair, strict=True)
    )


RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "msp_cnn": (
        "msp_cnn_synthetic",
        (
            *QUICK,
            *IDENTITIES,
            *sizes((52, 26), (48, 24)),
            "stages.0.iterations=3",
            "stages.0.warmup_iterations=1",
            "stages.0.base_lr=0.01",
            "stages.1.iterations=2",
        ),
    ),
    "csn": (
        "csn_cuhk01",
        (
            *QUICK,
            *sizes((80, 40), (80, 40)),
            "network.part_sizes=[4,2,2]",
            "network.ranking_dim=16",
            "sampler.anchors_per_batch=3",
            "stages.0.epochs=0",
            f"stages.0.iterations={STEPS}",
        ),
    ),
    "sisnet": (
        "sisnet_market1501_cpu",
        (
            *QUICK,
            *IDENTITIES,
            *sizes((48, 24), (48, 24)),
            "network.second_size=[32,32]",
            "stages.0.epochs=0",
            f"stages.0.iterations={STEPS}",
            "stages.0.warmup_iterations=1",
        ),
    ),
}
"""Network -> its recipe, and settings for small images and five steps."""

KEPT = {"msp_cnn": 0.004, "csn": 0.03, "sisnet": 0.001}
"""Share of a network's weights that is kept."""
KEPT_HISTORY = 0.001
"""Share of the solver's history that is kept."""


def reid(*words: object) -> Any:
    """What a command prints with ``--json``."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([*map(str, words), "--json"])
    if code:
        raise SystemExit(f"reid {' '.join(map(str, words))}: exit code {code}")
    return json.loads(said.getvalue())


# Training, and weights that take little room.


def stopped_run(network: str) -> Path:
    """A run that was stopped with Ctrl-C one step before its end, and then thinned."""
    recipe, settings = RECIPES[network]
    config, run = resolve_config(recipe, None, settings), Path("full", network)

    def stop(done: int, total: int, words: str) -> None:
        if done == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGINT)

    result = train(config, Path("people"), run, progress=stop)
    assert (result.step, result.num_steps, result.interrupted) == (STOPPED_AT, STEPS, True)
    thin_checkpoint(run / "checkpoint.pt", KEPT[network])
    return run


def thin_checkpoint(path: Path, kept: float) -> None:
    """Keep a share of a checkpoint's weights; save it with the project's own function."""
    whole = load_checkpoint(path)
    network = build_configured_network(whole.config, whole.num_identities)
    network.load_state_dict({name: thinned(value, kept) for name, value in whole.model.items()})
    measure_statistics(network, whole.config)
    model = {name: rounded(value).contiguous() for name, value in network.state_dict().items()}
    history = whole.training["solver"]["state"]
    for state in history.values():
        thin_history(state)
    save_checkpoint(path, dataclasses.replace(whole, model=model))


def thinned(weights: Tensor, kept: float) -> Tensor:
    """Each filter's largest weights, all as large as each other, the others 0: of its norm."""
    if weights.dim() < 2:
        return rounded(weights)
    filters = weights.flatten(1)
    count = max(2, int(kept * filters.shape[1]))
    largest = filters.abs().topk(min(count, filters.shape[1])).indices
    size = filters.norm(dim=1, keepdim=True) / largest.shape[1] ** 0.5
    out = torch.zeros_like(filters)
    out.scatter_(1, largest, filters.gather(1, largest).sign() * size)
    return rounded(out.view_as(weights))


def thin_history(state: dict[str, Any]) -> None:
    """The same entries of each of a parameter's arrays: Adam divides one by the other."""
    arrays = {name: value for name, value in state.items() if np.ndim(value)}
    if arrays:
        first = next(iter(arrays.values())).flatten().abs()
        largest = first.topk(max(1, int(KEPT_HISTORY * len(first)))).indices
    for name, value in arrays.items():
        out = torch.zeros(value.numel())
        out[largest] = value.flatten()[largest]
        state[name] = rounded(out.view_as(value))


def rounded(values: Tensor) -> Tensor:
    """With eight bits of the mantissa; whole numbers as they are."""
    return values.bfloat16().float() if values.is_floating_point() else values


def measure_statistics(network: nn.Module, config: TrainConfig) -> None:
    """Batch normalisation's means and variances of the thinned network, on the images."""
    records = load_split("synthetic", Path("people")).train
    images = torch.from_numpy(config.preprocess.batch([read_image(one.path) for one in records]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = 1.0
    slots = torch.arange(len(images))
    pairs = (slots, slots.roll(1)) if config.network.name == "csn" else ()
    with torch.no_grad():
        network.train()(images, *pairs)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            # A channel that hardly varies would be magnified, and rounding with it.
            variances = module.running_var
            variances.clamp_(min=0.1 * float(variances.median()))


# Galleries.


def make_gallery(model: Path, gallery: Path) -> None:
    """Two files of rows: images of folders, then a camera's pictures and three more images."""
    images = [f"{CURRENT}/people/{part}" for part in ("bounding_box_train", "bounding_box_test")]
    reid("index", model, *images, "--gallery", gallery, "--time", "2026-05-01T12:30")
    add_pictures(model, gallery)
    later = queries("c1", CURRENT)
    options = ("--camera", "door", "--time", "2026-05-02T08:00:00.25Z")
    reid("index", model, *later, "--gallery", gallery, *options)
    reid("index", model, "--gallery", gallery, "--delete", "person=2")


def add_pictures(model: Path, gallery: Path) -> None:
    """Two people as a camera's frames give them: a box, a time, and a picture, but no file."""
    # A little less than the query images: no entry's picture is a query itself.
    crops = [read_image(Path(path))[6:122, 4:60].copy() for path in queries("c2")[:2]]
    pictures = [cv2.imencode(".jpg", crop)[1].tobytes() for crop in crops]
    sightings = [
        Sighting(
            "hall", camera="hall", time_s=1777712400.5 + i, box=(8 * i, 4, 56, 116), picture=picture
        )
        for i, picture in enumerate(pictures)
    ]
    with (
        contextlib.closing(open_matcher(model, "cpu", 1)) as matcher,
        contextlib.closing(open_gallery(str(gallery), matcher)) as opened,
    ):
        assert add_images(opened, matcher, crops, sightings) == 2
        opened.confirm(Confirmation(content_hash(pictures[0]), 3, False, 1777712460.0))


def add_indexes(model: Path, gallery: Path, out: Path, *engines: str) -> None:
    """The file of each index over the gallery, which itself is left without one."""
    out.mkdir(parents=True)
    for engine in engines:
        reid("index", model, "--gallery", gallery, "--engine", engine, "--delete", "person=nobody")
        shutil.move(gallery / "index" / "index.safetensors", out / f"{engine}.safetensors")
    (gallery / "index").rmdir()


def queries(camera: str, root: str = ".") -> list[str]:
    """Query images of a camera."""
    found = sorted(path.name for path in Path("people/query").glob(f"*_{camera}s*"))
    return [os.path.normpath(f"{root}/people/query/{name}") for name in found]


# What the files answer.

DATA = ("--data", "synthetic", "--data-root", "people", "--device", "cpu")


def figures(model: Path, *options: object) -> dict[str, Any]:
    """What `reid eval` says of a model, without its path and the seconds."""
    (found,) = reid("eval", model, *DATA, *options)["models"]
    return {k: v for k, v in found.items() if k != "model" and not k.endswith("_s")}


def last_row(network: str, run: Path) -> dict[str, str]:
    """The log's row of the step that is left, after a copy of the run went on."""
    recipe, settings = RECIPES[network]
    copy = Path(shutil.copytree(run, Path("resumed", network)))
    options = [word for setting in settings for word in ("--set", setting)]
    reid("train", recipe, "--data-root", "people", "--out", copy, "--resume", *options)
    header, *rows = (copy / "log.csv").read_text().splitlines()
    row = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert int(row["step"]) == STEPS
    del row["images_per_s"]
    return row


def found_in(model: Path, gallery: Path) -> list[Any]:
    """The queries' matches in a gallery."""
    found = reid("search", model, *queries("c2"), "--gallery", gallery, "-k", 6)
    return [query["matches"] for query in found["queries"]]


def distances(model: Path, query: Path, gallery: Path) -> list[list[float]]:
    """Of the images in one file of features from those in another."""
    with contextlib.closing(open_matcher(model, "cpu", 1)) as matcher:
        first, second = (load_descriptions(path, matcher) for path in (query, gallery))
        rows = matcher.tiles(first.descriptions, second.descriptions)(slice(None))
    return [[round(float(value), 6) for value in row] for row in rows]


def require_clear_ranks(model: Path, stage: str = "") -> None:
    """No two neighbours so near that another machine's rounding could change their order."""
    split = load_split("synthetic", Path("people"))
    with contextlib.closing(open_matcher(model, "cpu", 1, stage=stage)) as matcher:
        sides = [
            matcher.describe([read_image(one.path) for one in side])
            for side in (split.query, split.gallery)
        ]
        rows = matcher.tiles(*sides)(slice(None))
    gap = float(np.diff(np.sort(rows, axis=1), axis=1).min())
    print(f"{model} {stage}: the nearest distances of a query are {gap:.2g} apart")
    assert gap > 3e-5, "draw other people"


# The networks.


RUN = ("checkpoint.pt", "checkpoint.pt.json", "config.toml", "log.csv")


def make_msp_cnn() -> dict[str, Any]:
    """Run, ONNX in both precisions, Caffe's files, features, gallery, indexes."""
    run, out, exported = stopped_run("msp_cnn"), Path("msp_cnn"), Path("full/exported")
    require_clear_ranks(run)
    reid("export", run, "--out", exported, "--fp16", "--caffe")
    features = [out / "features" / f"{side}.safetensors" for side in ("query", "gallery")]
    features[0].parent.mkdir(parents=True)
    for file in features:
        reid("describe", run, *DATA, "--side", file.stem, "--out", file)
    gallery = out / "people.gallery"
    make_gallery(run, gallery)
    add_indexes(run, gallery, out / "indexes", "ivf", "hnsw")
    keep(run, out / "run", *RUN)
    keep(exported, out / "exported", *sorted(os.listdir(exported)))
    return {
        "eval": figures(run),
        "resumed": last_row("msp_cnn", run),
        "distances": distances(run, *features),
        "search": found_in(run, gallery),
    }


def make_csn() -> dict[str, Any]:
    """Run, both ONNX files, features of the queries, gallery, index."""
    run, out, exported = stopped_run("csn"), Path("csn"), Path("full/csn_exported")
    require_clear_ranks(run)
    reid("export", run, "--out", exported)
    reid("describe", run, *DATA, "--side", "query", "--out", "full/query.safetensors")
    keep(Path("full"), out / "features", "query.safetensors")
    gallery = Path("full/csn.gallery")
    reid("index", run, *queries("c1", CURRENT), "--gallery", gallery, "--camera", "1")
    # Binary codes of 256 numbers need a quarter of a megabyte of planes; of CSN's 16, little.
    add_indexes(run, gallery, out / "indexes", "binary")
    keep(gallery, out / "people.gallery", *os.listdir(gallery))
    keep(run, out / "run", *RUN)
    keep(exported, out / "exported", *sorted(os.listdir(exported)))
    return {
        "eval": figures(run),
        "resumed": last_row("csn", run),
        "distances": distances(run, *[Path("full/query.safetensors")] * 2),
        "search": found_in(run, gallery),
    }


def make_sisnet() -> dict[str, Any]:
    """Run."""
    run = stopped_run("sisnet")
    for stage in ("", "cascade"):
        require_clear_ranks(run, stage)
    keep(run, Path("sisnet/run"), *RUN)
    return {
        "eval": figures(run),
        "cascade": figures(run, "--stage", "cascade"),
        "resumed": last_row("sisnet", run),
    }


LARGE = 100_000


def keep(folder: Path, out: Path, *names: str) -> None:
    """Copy files, the large ones compressed."""
    out.mkdir(parents=True)
    for name in names:
        content = (folder / name).read_bytes()
        if len(content) > LARGE:
            squeezed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
            (out / f"{name}.xz").write_bytes(squeezed)
        else:
            (out / name).write_bytes(content)


def drop_locks(root: Path) -> None:
    """A lock's file names the machine that wrote last, and is no part of a gallery."""
    for lock in root.rglob("writer.lock"):
        lock.unlink()


MAKERS: dict[str, Callable[[], dict[str, Any]]] = {
    "msp_cnn": make_msp_cnn,
    "csn": make_csn,
    "sisnet": make_sisnet,
}


def run_all() -> None:
    """Make everything in a temporary folder, then bring it here."""
    made = ("people", *MAKERS, "answers.json")
    there = [name for name in made if (HERE / name).exists()]
    if there:
        raise SystemExit(f"{HERE} has {', '.join(there)} already; remove them first")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        people = {"num_train_identities": 4, "num_test_identities": 3, "cameras": 2}
        extra = {"images_per_camera": 2, "num_distractors": 2, "num_junk": 2}
        write_synthetic("people", **people, **extra, seed=18)
        found = {network: make() for network, make in MAKERS.items()}
        Path("answers.json").write_text(json.dumps(found, indent=1) + "\n")
        drop_locks(Path("."))
        for name in made:
            shutil.move(name, HERE / name)
        os.chdir(HERE)
    print(f"{sum(path.stat().st_size for path in HERE.rglob('*')) / 1e6:.2f} MB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_all()
