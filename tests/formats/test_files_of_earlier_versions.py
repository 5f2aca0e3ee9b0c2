"""Files that an earlier version wrote are opened and used, and answer as they did.

README.md says what they are and how they were made. The tests speak to the commands, so that
they hold whatever the modules are called; only ``distances_of`` and ``as_if_large`` name some.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from reid.cli import main

HERE = Path(__file__).resolve().parent
CPU = ("--device", "cpu")
DATA = ("--data", "synthetic", "--data-root", "people", *CPU)
TOLERANCE = 1e-4
"""Of distances and of a vector's entries: another machine rounds otherwise."""
HALF_TOLERANCE = 5e-3
"""The same where a graph computes, or keeps what it found, with half precision."""

RECIPES = {
    "msp_cnn": "msp_cnn_synthetic",
    "csn": "csn_cuhk01",
    "sisnet": "sisnet_market1501_cpu",
}
NETWORKS = tuple(RECIPES)
INDEXED = (("msp_cnn", "ivf"), ("msp_cnn", "hnsw"), ("csn", "binary"))
"""A gallery's network, and which index it holds."""
OFFERED = (("csn", "binary"),)
"""Those whose index can still be chosen with ``--engine``."""
MODELS = {
    "msp_cnn": Path("msp_cnn/exported/msp_cnn.fp32.onnx"),
    "csn": Path("csn/exported/csn.describe.fp32.onnx"),
}
"""What opens a gallery: of the run that described it, and quicker to open."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files as they were written: what is compressed here is so no more."""
    folder = tmp_path_factory.mktemp("formats")
    shutil.copy(HERE / "answers.json", folder)
    for part in ("people", *NETWORKS):
        shutil.copytree(HERE / part, folder / part)
    for squeezed in folder.rglob("*.xz"):
        with lzma.open(squeezed) as source, squeezed.with_suffix("").open("wb") as target:
            shutil.copyfileobj(source, target)
        squeezed.unlink()
    yield folder
    shutil.rmtree(folder)  # a quarter of a gigabyte


@pytest.fixture
def files(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked files, in the current folder; tests copy what they change."""
    monkeypatch.chdir(unpacked)
    return Path()


@pytest.fixture
def answers(files: Path) -> Any:
    """Network -> what the earlier version answered."""
    return json.loads((files / "answers.json").read_text())


def said_by(*words: object) -> tuple[int, str, str]:
    """A command's exit code, stdout and stderr."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        code = main([*map(str, words)])
    return code, stdout.getvalue(), stderr.getvalue()


def reid(*words: object) -> Any:
    """What a command that succeeds prints with ``--json``."""
    code, stdout, stderr = said_by(*words, "--json")
    assert code == 0, stderr
    return json.loads(stdout)


def require_same(found: Any, expected: Any, tolerance: float, where: str = "") -> None:
    """Check that ``found`` holds all of ``expected``, its numbers nearly; it may hold more."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{where} lacks {key}"
            require_same(found[key], value, tolerance, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            require_same(one, other, tolerance, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance), where
    else:
        assert found == expected, where


def require_figures(expected: list[Any], *models: object) -> None:
    """Check what `reid eval` measures of each model."""
    require_same(reid("eval", *models, *DATA)["models"], expected, 1e-9)


def found_in(model: Path, gallery: Path, *options: object) -> list[list[Any]]:
    """The matches of each of the second camera's query images."""
    queries = sorted(Path("people/query").glob("*_c2s*"))
    found = reid("search", model, *queries, "--gallery", gallery, "-k", 6, *CPU, *options)
    assert [query["image"] for query in found["queries"]] == [str(query) for query in queries]
    # Ids were numbers; they are texts now, because browsers round large numbers.
    return [[m | {"id": int(m["id"])} for m in query["matches"]] for query in found["queries"]]


def ids_in(found: list[list[Any]]) -> set[int]:
    """Of all matches."""
    return {match["id"] for matches in found for match in matches}


def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with more than 50,000 images: ``auto`` looks at the index that a gallery holds."""
    monkeypatch.setattr("reid.deploy.gallery.search.EXACT_ROWS", 0)


def copied(folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may change."""
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def with_index(files: Path, tmp_path: Path, network: str, kind: str) -> Path:
    """A gallery that holds an index of a kind, to be changed."""
    gallery = copied(files / network / "people.gallery", tmp_path)
    (gallery / "index").mkdir()
    shutil.copy(files / network / "indexes" / f"{kind}.safetensors", index_of(gallery))
    return gallery


def index(model: Path, gallery: Path, *options: object) -> Any:
    """What `reid index` says."""
    return reid("index", model, "--gallery", gallery, *CPU, *options)


def index_of(gallery: Path) -> Path:
    """Where a gallery's index is kept."""
    return gallery / "index" / "index.safetensors"


def log_of(run: Path) -> list[dict[str, str]]:
    """The log's rows."""
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def distances_of(model: Path, query: Path, gallery: Path) -> Any:
    """Of the images in one file of features from those in another."""
    from reid.matching import open_matcher
    from reid.matching.files import load_descriptions

    with contextlib.closing(open_matcher(model, "cpu")) as matcher:
        first, second = (load_descriptions(path, matcher) for path in (query, gallery))
        return matcher.tiles(first.descriptions, second.descriptions)(slice(None))


# Runs.


@pytest.mark.parametrize("network", ["msp_cnn", "csn"])
def test_an_earlier_run_is_evaluated_as_it_was(files: Path, answers: Any, network: str):
    require_figures([answers[network]["eval"]], files / network / "run")


def test_an_earlier_sisnet_is_evaluated_as_it_was_at_one_scale_and_at_both(
    files: Path, answers: Any
):
    expected = [answers["sisnet"][name] for name in ("eval", "cascade")]
    require_figures(expected, files / "sisnet" / "run", "--stage", "embed", "--stage", "cascade")


@pytest.mark.parametrize("network", NETWORKS)
def test_an_earlier_run_takes_the_step_that_was_left(
    files: Path, answers: Any, network: str, tmp_path: Path
):
    run = copied(files / network / "run", tmp_path)
    manifest, rows = json.loads((run / "checkpoint.pt.json").read_text()), log_of(run)
    # Its own settings, read back from its folder: others would be refused.
    options = ("--config", run / "config.toml", "--data-root", "people", "--resume")
    found = reid("train", RECIPES[network], "--out", run, *options)
    assert (found["step"], found["num_steps"], found["interrupted"]) == (5, 5, False)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    *before, last = log_of(run)
    assert before == rows
    for name, value in answers[network]["resumed"].items():
        if name == "stage":
            assert last[name] == value
        else:
            assert float(last[name]) == pytest.approx(float(value), rel=1e-3), name
    again = json.loads((run / "checkpoint.pt.json").read_text())
    differing = {key for key, value in manifest.items() if again[key] != value}
    assert differing <= {"file_sha256", "toolkit_version"}


def test_an_earlier_run_is_exported_to_a_file_that_describes_as_it_did(files: Path, tmp_path: Path):
    found = reid("export", files / "msp_cnn" / "run", "--out", tmp_path, "--no-parity")
    (file,) = map(Path, found["files"])
    assert found["caffe"] == found["engines"] == found["parity"] == []
    earlier = json.loads((files / "msp_cnn" / "exported" / f"{file.name}.json").read_text())
    assert earlier.keys() <= json.loads(file.with_name(f"{file.name}.json").read_text()).keys()
    require_features(files, "msp_cnn", file, tmp_path)


# Exported files.


def require_features(files: Path, network: str, model: Path, folder: Path) -> None:
    """Check that a model's features of the queries are those of the file that was kept."""
    out = folder / "described.safetensors"
    found = reid("describe", model, *DATA, "--side", "query", "--out", out)
    assert (found["file"], found["images"], found["bytes"]) == (str(out), 6, out.stat().st_size)
    expected, arrays = load_file(files / network / "features" / "query.safetensors"), load_file(out)
    kinds = [{k: (v.dtype, v.shape) for k, v in each.items()} for each in (arrays, expected)]
    assert kinds[0] == kinds[1]
    exact = network == "msp_cnn" and "fp16" not in model.name
    tolerance = TOLERANCE if exact else HALF_TOLERANCE
    for name, array in expected.items():
        np.testing.assert_allclose(
            arrays[name].astype(float), array.astype(float), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("name", ["msp_cnn.fp32", "msp_cnn.fp16", "csn.describe.fp32"])
def test_an_earlier_onnx_file_describes_as_it_did(files: Path, name: str, tmp_path: Path):
    network = name.partition(".")[0]
    require_features(files, network, files / network / "exported" / f"{name}.onnx", tmp_path)


def test_earlier_onnx_files_are_evaluated_as_their_runs_were(files: Path, answers: Any):
    require_figures([answers["msp_cnn"]["eval"]], MODELS["msp_cnn"])
    require_figures([answers["csn"]["eval"]], files / "csn" / "exported" / "csn.compare.fp32.onnx")


def test_an_earlier_half_precision_file_is_proven_against_the_earlier_run(
    files: Path, tmp_path: Path
):
    file = tmp_path / "msp_cnn.fp16.onnx"
    for name in (file.name, f"{file.name}.json"):
        shutil.copy(files / "msp_cnn" / "exported" / name, tmp_path)
    options = (*DATA, "--crops", 16, "--skip-eval")
    found = reid("parity", files / "msp_cnn" / "run", file, *options)
    assert (found["passed"], found["precision"]) == (True, "fp16")


def test_earlier_caffe_files_become_a_run_that_is_evaluated_as_the_first_was(
    files: Path, answers: Any, tmp_path: Path
):
    exported = files / "msp_cnn" / "exported"
    names = [exported / f"msp_cnn.{kind}" for kind in ("prototxt", "caffemodel")]
    reid("import-caffe", *names, "--out", tmp_path / "run")
    require_figures([answers["msp_cnn"]["eval"]], tmp_path / "run")


# Features.


def test_features_of_an_earlier_file_are_as_far_from_each_other_as_they_were(
    files: Path, answers: Any
):
    features = files / "msp_cnn" / "features"
    sides = [features / f"{side}.safetensors" for side in ("query", "gallery")]
    found = distances_of(MODELS["msp_cnn"], *sides)
    np.testing.assert_allclose(found, answers["msp_cnn"]["distances"], atol=TOLERANCE)
    queries = files / "csn" / "features" / "query.safetensors"
    found = distances_of(files / "csn" / "run", queries, queries)
    others = ~np.eye(len(found), dtype=bool)  # an image's score with itself is about 0.2 / 1e-4
    expected = np.array(answers["csn"]["distances"])
    np.testing.assert_allclose(found[others], expected[others], atol=TOLERANCE)


@pytest.mark.parametrize("model", ["run", "exported/msp_cnn.fp32.onnx"])
def test_features_of_an_earlier_file_stand_for_the_images_in_an_evaluation(
    files: Path, answers: Any, model: str
):
    features = files / "msp_cnn" / "features"
    sides = [(f"--{side}", features / f"{side}.safetensors") for side in ("query", "gallery")]
    require_figures([answers["msp_cnn"]["eval"]], files / "msp_cnn" / model, *sides[0], *sides[1])


def test_features_of_an_earlier_pair_network_stand_for_the_images_in_an_evaluation(
    files: Path, answers: Any
):
    query = ("--query", files / "csn" / "features" / "query.safetensors")
    require_figures([answers["csn"]["eval"]], files / "csn" / "run", *query)


def test_features_of_an_earlier_file_are_refused_by_another_model(files: Path):
    query = files / "msp_cnn" / "features" / "query.safetensors"
    code, stdout, stderr = said_by("eval", files / "csn" / "run", *DATA, "--query", query)
    assert (code, stdout) == (1, "")
    assert str(query) in stderr


# Galleries.


@pytest.mark.parametrize("model", ["msp_cnn/run", str(MODELS["msp_cnn"])])
def test_an_earlier_gallery_finds_the_people_it_found(files: Path, answers: Any, model: str):
    found = found_in(files / model, files / "msp_cnn" / "people.gallery")
    require_same(found, answers["msp_cnn"]["search"], TOLERANCE)


@pytest.mark.parametrize("model", ["csn/run", str(MODELS["csn"])])
def test_an_earlier_gallery_of_a_pair_network_finds_the_people_it_found(
    files: Path, answers: Any, model: str
):
    found = found_in(files / model, files / "csn" / "people.gallery")
    require_same(found, answers["csn"]["search"], TOLERANCE)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--person", "0001"), {0, 1, 2, 3}),
        (("--person", "2"), set()),  # erased
        (("--camera", "hall"), {26, 27}),
        (("--since", "2026-05-02T08:00:00.25Z"), {26, 27, 28, 29, 30}),
        (("--since", "2026-05-02", "--until", "2026-05-02T08:00:01Z"), {28, 29, 30}),
    ],
)
def test_an_earlier_gallery_is_filtered_by_what_it_knows_of_its_images(
    files: Path, options: tuple[str, ...], ids: set[int]
):
    gallery = files / "msp_cnn" / "people.gallery"
    for matches in found_in(MODELS["msp_cnn"], gallery, *options):
        assert {match["id"] for match in matches} == ids


def test_an_earlier_gallery_shows_the_pictures_that_it_keeps(files: Path, tmp_path: Path):
    gallery, page = files / "msp_cnn" / "people.gallery", tmp_path / "page.html"
    found_in(MODELS["msp_cnn"], gallery, "--camera", "hall", "--html", page)
    # Three queries, and two pictures with each.
    assert page.read_text().count("data:image/jpeg;base64,") == 9


@pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="the gallery's images lie below /proc/self/cwd"
)
def test_an_earlier_gallery_knows_the_images_that_it_has(files: Path, tmp_path: Path):
    gallery = copied(files / "msp_cnn" / "people.gallery", tmp_path)
    images = "/proc/self/cwd/people/bounding_box_test"
    found = index(MODELS["msp_cnn"], gallery, images)
    assert (found["images"], found["added"], found["total"]) == (10, 0, 27)
    erased = "/proc/self/cwd/people/bounding_box_train"  # of person 2, and of no one else
    found = index(MODELS["msp_cnn"], gallery, erased)
    assert (found["images"], found["added"], found["total"]) == (16, 4, 31)


def test_an_earlier_gallery_takes_images_and_finds_them(files: Path, answers: Any, tmp_path: Path):
    model, gallery = MODELS["msp_cnn"], copied(files / "msp_cnn" / "people.gallery", tmp_path)
    new = sorted(Path("people/query").glob("*_c2s*"))
    found = index(model, gallery, *new, "--camera", "2")
    assert (found["images"], found["added"], found["total"]) == (3, 3, 30)
    matches = found_in(model, gallery)
    assert [each[0]["id"] for each in matches] == [31, 32, 33]
    for number, earlier in enumerate(answers["msp_cnn"]["search"]):
        assert ids_in([earlier[:3]]) <= ids_in([matches[number]])


def test_an_earlier_gallery_erases_images(files: Path, answers: Any, tmp_path: Path):
    model, gallery = MODELS["msp_cnn"], copied(files / "msp_cnn" / "people.gallery", tmp_path)
    confirmed = (gallery / "confirmed.json").read_bytes()
    for condition, count in (("camera=hall", 2), ("person=absent", 0), ("person=1", 4)):
        assert (gallery / "confirmed.json").read_bytes() == confirmed
        assert index(model, gallery, "--delete", condition)["deleted"] == count
    erased = {0, 1, 2, 3, 26, 27}
    for matches, earlier in zip(
        found_in(model, gallery), answers["msp_cnn"]["search"], strict=True
    ):
        kept = [match["id"] for match in earlier if match["id"] not in erased]
        assert [match["id"] for match in matches][: len(kept)] == kept
        assert ids_in([matches]).isdisjoint(erased)
    # The one verdict was on an image that is erased.
    assert not (gallery / "confirmed.json").exists()
    assert b"5038aa4452cb67e2" not in (gallery / "verdicts.jsonl").read_bytes()


def test_an_earlier_gallery_is_refused_by_another_model(files: Path):
    gallery = files / "msp_cnn" / "people.gallery"
    image = files / "people" / "query" / "0005_c1s1_000000_00.jpg"
    code, stdout, stderr = said_by("search", MODELS["csn"], image, "--gallery", gallery, *CPU)
    assert (code, stdout) == (1, "")
    assert str(gallery) in stderr


# Indexes of galleries.


@pytest.mark.parametrize(("network", "kind"), INDEXED)
def test_a_gallery_opens_whatever_index_it_holds(
    files: Path, answers: Any, network: str, kind: str, tmp_path: Path
):
    found = found_in(MODELS[network], with_index(files, tmp_path, network, kind))
    require_same(found, answers[network]["search"], TOLERANCE)


@pytest.mark.parametrize(("network", "kind"), INDEXED)
def test_a_large_gallery_finds_and_erases_whatever_index_it_holds(
    files: Path,
    answers: Any,
    network: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    as_if_large(monkeypatch)
    gallery = with_index(files, tmp_path, network, kind)
    found = found_in(MODELS[network], gallery)
    require_same(found, answers[network]["search"], TOLERANCE)
    erased = {m["id"] for matches in found for m in matches if m["camera"] in ("1", "hall")}
    for camera in ("1", "hall"):
        index(MODELS[network], gallery, "--delete", f"camera={camera}", "--engine", "exact")
    left = ids_in(found_in(MODELS[network], gallery))
    assert erased
    assert left.isdisjoint(erased)
    assert bool(left) == (network == "msp_cnn")  # the other has one camera's images
    if kind == "binary":  # codes describe people: with one of them erased, none stays
        assert not index_of(gallery).exists()


@pytest.mark.parametrize(("network", "kind"), OFFERED)
def test_an_index_that_is_still_offered_is_not_built_anew(
    files: Path, answers: Any, network: str, kind: str, tmp_path: Path
):
    gallery = with_index(files, tmp_path, network, kind)
    before = index_of(gallery).stat().st_ino
    index(MODELS[network], gallery, "--delete", "person=absent", "--engine", kind)
    assert index_of(gallery).stat().st_ino == before
    found = found_in(MODELS[network], gallery, "--engine", kind)
    require_same(found, answers[network]["search"], TOLERANCE)


def test_another_index_takes_the_place_of_inverted_lists(files: Path, answers: Any, tmp_path: Path):
    gallery = with_index(files, tmp_path, "msp_cnn", "ivf")
    before = index_of(gallery).read_bytes()
    index(MODELS["msp_cnn"], gallery, "--delete", "person=absent", "--engine", "binary")
    assert index_of(gallery).read_bytes() != before
    found = found_in(MODELS["msp_cnn"], gallery, "--engine", "binary")
    require_same(found, answers["msp_cnn"]["search"], TOLERANCE)
