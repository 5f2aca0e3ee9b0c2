"""``reid import-onnx``: a network of another program becomes a file that every command takes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import reid
from reid.cli import main
from reid.data.golden_crops import golden_crops
from reid.errors import (
    BuildError,
    ConfigError,
    ManifestError,
    ModelFileError,
    OutputError,
    ReidError,
)
from reid.export.adopting.writing import AdoptedModel
from reid.files import sha256_of_file
from reid.model_file.manifest import Manifest, manifest_path, read_manifest
from reid.model_file.preprocess import Preprocess
from tests.export.adopting.foreign import (
    DIM,
    HEIGHT,
    WIDTH,
    band_weights,
    bands,
    node,
    write_foreign,
    write_graph,
)
from tests.test_edge import reid_without_torch

IMAGENET = Preprocess(
    HEIGHT, WIDTH, HEIGHT, WIDTH, "RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
)
FILE = "bands.onnx"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_foreign(tmp_path / FILE)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, crop in enumerate(golden_crops(6)):
        cv2.imwrite(str(folder / f"{number}.png"), crop)
    return folder


def features(nodes: list[onnx.NodeProto], path: Path, **options: Any) -> Path:
    """A file whose nodes come after ``features`` and end in ``output``."""
    return write_graph(path, [*bands(), *nodes], [("output", ("N", DIM))], **options)


def test_the_manifest_says_what_the_graph_takes_and_gives(source: Path, tmp_path: Path):
    adopted = reid.adopt(source, tmp_path / "out", mean="imagenet", channels="RGB")
    sha256 = sha256_of_file(source)
    assert adopted.path == tmp_path / "out" / FILE
    assert adopted.path.read_bytes() == source.read_bytes()
    assert read_manifest(adopted.path) == adopted.manifest
    assert adopted.manifest == Manifest(
        "bands",
        "embed",
        IMAGENET,
        input_name="images",
        output_name="output",
        output_meaning="embedding",
        output_dim=DIM,
        normalised=False,
        opset=17,
        source_sha256=sha256,
        checkpoint_sha256=sha256,
        file_sha256=sha256,
        toolkit_version=reid.__version__,
    )
    assert adopted.warnings == ()
    with reid.load(adopted.path) as model:
        (vector,) = model.embed([golden_crops(1)[0]]).vectors
    expected = IMAGENET(golden_crops(1)[0]).ravel() @ band_weights()
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_every_command_takes_it_like_an_own_file(
    source: Path, tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
):
    def done(*words: object) -> Any:
        assert main([*map(str, words)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    out = tmp_path / "out"
    assert json.loads(done("import-onnx", source, "--out", out, "--json"))["file"] == str(
        out / FILE
    )
    model, gallery = out / FILE, tmp_path / "gallery"
    assert "answers     ok" in done("doctor", model)
    done("index", model, images, "--gallery", gallery)
    found = json.loads(done("search", model, images / "3.png", "--gallery", gallery, "--json"))
    assert found["queries"][0]["matches"][0]["source"] == str(images / "3.png")
    done("bench", model, "--seconds", "0.01", "--batch", "2", "--json")
    done("parity", model, model, "--crops", "16", "--skip-eval")
    done("bundle", "triton", model, "--out", tmp_path / "triton")
    assert "answers     ok" in done(
        "doctor", tmp_path / "triton" / "bands_fp32" / "1" / "model.onnx"
    )


def test_it_needs_neither_torch_nor_the_onnx_package(source: Path, tmp_path: Path):
    done = reid_without_torch("import-onnx", str(source), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "out" / FILE)]


@pytest.mark.real_data
def test_osnet_has_the_accuracy_that_an_independent_program_measured(
    real_data: Callable[..., Path], tmp_path: Path
):
    root = real_data("peers", "market1501")
    adopted = reid.adopt(root / "peers" / "osnet_x0_25_msmt17.onnx", tmp_path, mean="imagenet")
    assert adopted.warnings == ()
    with reid.load(adopted.path, device="cpu") as model:
        result = model.evaluate("market1501", root=root / "market1501")
    assert (round(100 * result.rank1, 1), round(100 * result.mAP, 1)) == (72.9, 60.2)


# ---- settings

RGB255, STD255 = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SETTINGS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "one preset says both": ({"std": "imagenet"}, {}),
    "0-1": (
        {"mean": "0.485,0.456,0.406", "std": (0.229, 0.224, 0.225)},
        {"mean": RGB255, "std": STD255},
    ),
    "0-255": ({"mean": "100,101,102", "std": "50"}, {"mean": (100, 101, 102), "std": (50,) * 3}),
    "an array and a number": (
        {"mean": np.full(3, 100), "std": 50},
        {"mean": (100,) * 3, "std": (50,) * 3},
    ),
    "pixels of 0-1": ({"mean": "0", "std": "255"}, {"mean": (0,) * 3, "std": (255,) * 3}),
    "std 1 of 0-1": ({"mean": "0.5", "std": "1"}, {"mean": (127.5,) * 3, "std": (255,) * 3}),
    "a preset and numbers": ({"mean": "imagenet", "std": "0.2"}, {"std": (51,) * 3}),
    "bgr": (
        {"mean": "imagenet", "channels": "bgr"},
        {"channel_order": "BGR", "mean": RGB255[::-1], "std": STD255[::-1]},
    ),
    "caffe": (
        {"mean": "caffe"},
        {"channel_order": "BGR", "mean": (103.939, 116.779, 123.68), "std": (1,) * 3},
    ),
    "none": ({"mean": "none"}, {"mean": (0,) * 3, "std": (1,) * 3}),
    "resize": ({"resize": "20x10"}, {"resize_height": 20, "resize_width": 10}),
    "the graph's own crop": ({"crop": (HEIGHT, WIDTH)}, {}),
    "interpolation": ({"interpolation": "cubic"}, {"interpolation": "cubic"}),
}


@pytest.mark.parametrize(("given", "changes"), SETTINGS.values(), ids=SETTINGS)
def test_settings_become_the_preprocessing(
    source: Path, tmp_path: Path, given: dict[str, Any], changes: dict[str, Any]
):
    found = reid.adopt(source, tmp_path / "out", **given).manifest.preprocess
    expected = dataclasses.replace(IMAGENET, **changes)
    assert dataclasses.replace(found, mean=expected.mean, std=expected.std) == expected
    np.testing.assert_allclose((found.mean, found.std), (expected.mean, expected.std))


WRONG_SETTINGS: Mapping[str, tuple[dict[str, Any], str]] = {
    "a preset that is not there": ({"mean": "imagnet"}, "did you mean 'imagenet'"),
    "two numbers": ({"mean": "1,2", "std": "3"}, "three numbers"),
    "no number": ({"mean": "1,2,x", "std": "3"}, "three numbers"),
    "above 255": ({"mean": "300", "std": "50"}, "0 to 255"),
    "negative": ({"mean": (-1.0, 0.0, 0.0), "std": "50"}, "0 to 255"),
    "not finite": ({"mean": "nan", "std": "50"}, "0 to 255"),
    "std 0": ({"mean": "100", "std": "0"}, "above 0"),
    "two ranges": ({"mean": "0.5", "std": "58"}, "two ranges"),
    "two ranges the other way": ({"mean": "120", "std": "0.2"}, "two ranges"),
    "either range": ({"mean": "0", "std": "1"}, "--mean none"),
    "numbers for one": ({"mean": "100"}, "--std"),
    "a crop that the graph has not": ({"crop": "20x8"}, "16x8"),
    "a resize below the crop": ({"resize": "8x8"}, "8x8"),
    "a size of one number": ({"resize": "256"}, "256x128"),
    "a size beyond all": ({"resize": "99999x3"}, "4096"),
    "a size of one side": ({"resize": 256}, "256x128"),
    "nothing at all": ({"mean": None}, "three numbers"),
    "a size of zero": ({"resize": (0, 3)}, "1 to 4096"),
    "an interpolation": ({"interpolation": "lanczos"}, "bilinear"),
    "channels": ({"channels": "RBG"}, "BGR or RGB"),
}


@pytest.mark.parametrize(("given", "named"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_a_setting_that_cannot_be_is_one_line(
    source: Path, tmp_path: Path, given: dict[str, Any], named: str
):
    with pytest.raises(ConfigError, match=named) as caught:
        reid.adopt(source, tmp_path / "out", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_free_input_size_is_asked_for(tmp_path: Path):
    path = write_graph(
        tmp_path / FILE,
        [node("GlobalAveragePool", "images", "pooled"), node("Flatten", "pooled", "output")],
        [("output", ("N", 3))],
        inputs=[("images", ("N", 3, "height", "width"))],
    )
    with pytest.raises(ConfigError, match="--crop"):
        reid.adopt(path, tmp_path / "out")
    adopted = reid.adopt(path, tmp_path / "out", crop="12x6")
    assert adopted.manifest.preprocess.input_shape == (3, 12, 6)
    with reid.load(adopted.path) as model:
        assert model.embed(golden_crops(2)).vectors.shape == (2, 3)


# ---- what is found by running


def vectors_of(adopted: AdoptedModel) -> Any:
    with reid.load(adopted.path, device="cpu") as model:
        return model.embed(golden_crops(5)).vectors


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_is_run_in_turns_with_the_same_vectors(tmp_path: Path, batch: int):
    fixed = reid.adopt(write_foreign(tmp_path / "fixed.onnx", batch), tmp_path / "fixed")
    free = reid.adopt(write_foreign(tmp_path / "free.onnx"), tmp_path / "free")
    assert (fixed.manifest.static_batch, free.manifest.static_batch) == (batch, 0)
    assert [line for line in fixed.notes if line.startswith("batch: fixed to")]
    np.testing.assert_allclose(vectors_of(fixed), vectors_of(free), atol=1e-6)
    with reid.load(fixed.path, device="cpu") as model:
        assert f"{batch} image(s) at a time" in model.backend


def test_a_batch_that_is_fixed_inside_the_graph_is_found(tmp_path: Path):
    shape = numpy_helper.from_array(np.array([1, DIM], np.int64), "shape")
    path = features([node("Reshape", "features shape", "output")], tmp_path / FILE, weights=[shape])
    fixed = reid.adopt(path, tmp_path / "fixed")
    assert fixed.manifest.static_batch == 1
    free = reid.adopt(write_foreign(tmp_path / "free.onnx"), tmp_path / "free")
    np.testing.assert_allclose(vectors_of(fixed), vectors_of(free), atol=1e-6)


def test_an_output_that_states_a_batch_of_its_own_counts_as_it_runs(tmp_path: Path):
    path = write_graph(
        tmp_path / FILE, [*bands(), node("Identity", "features", "output")], [("output", (1, DIM))]
    )
    adopted = reid.adopt(path, tmp_path / "out")
    assert adopted.manifest.static_batch == 0
    assert vectors_of(adopted).shape == (5, DIM)


def test_servers_and_builders_keep_a_fixed_batch(tmp_path: Path):
    model = reid.adopt(write_foreign(tmp_path / FILE, 1), tmp_path / "out").path
    words = ["bundle", "triton", str(model), "--out", str(tmp_path / "triton")]
    assert main(words) == 0
    text = (tmp_path / "triton" / "bands_fp32" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in text
    assert f"dims: [ 1, 3, {HEIGHT}, {WIDTH} ]" in text
    assert f"dims: [ 1, {DIM} ]" in text
    assert main([*words, "--batch", "4"]) == 1
    with pytest.raises(BuildError, match="batches of 1"):
        reid.build(model)


@pytest.mark.parametrize("unit", [False, True])
def test_vectors_of_length_1_are_found(tmp_path: Path, unit: bool):
    adopted = reid.adopt(write_foreign(tmp_path / FILE, unit=unit), tmp_path / "out")
    assert adopted.manifest.normalised is unit


def test_weights_of_16_bits_are_found(tmp_path: Path):
    half = numpy_helper.from_array(np.ones((1,), np.float16), "scale")
    nodes = [
        node("Cast", "features", "narrow", to=TensorProto.FLOAT16),
        node("Mul", "narrow scale", "scaled"),
        node("Cast", "scaled", "output", to=TensorProto.FLOAT),
    ]
    adopted = reid.adopt(features(nodes, tmp_path / FILE, weights=[half]), tmp_path / "out")
    assert adopted.manifest.precision == "fp16"


def test_further_outputs_need_no_listing(tmp_path: Path):
    path = write_graph(
        tmp_path / FILE,
        [*bands(), node("Identity", "features", "output"), node("Relu", "images", "map")],
        [("output", ("N", DIM)), ("map", ("N", 3, HEIGHT, WIDTH))],
    )
    adopted = reid.adopt(path, tmp_path / "out")
    assert (adopted.manifest.output_name, adopted.manifest.outputs) == ("output", ())
    assert vectors_of(adopted).shape == (5, DIM)


def test_of_several_vectors_one_is_named(tmp_path: Path):
    nodes = [*bands(), node("Identity", "features", "first"), node("Neg", "features", "second")]
    path = write_graph(tmp_path / FILE, nodes, [("first", ("N", DIM)), ("second", ("N", DIM))])
    with pytest.raises(ModelFileError, match=r"first \(N, 24\) float32, second .* --output"):
        reid.adopt(path, tmp_path / "out")
    with pytest.raises(ModelFileError, match="did you mean 'second'"):
        reid.adopt(path, tmp_path / "out", output="secnd")
    found = [reid.adopt(path, tmp_path / name, output=name) for name in ("first", "second")]
    assert [one.manifest.output_meaning for one in found] == ["first", "second"]
    np.testing.assert_allclose(
        *[sign * vectors_of(one) for sign, one in zip((1, -1), found, strict=True)]
    )


# ---- what looks wrong


def warnings_of(path: Path, out: Path, **given: Any) -> str:
    return "\n".join(reid.adopt(path, out, **given).warnings)


def test_a_small_std_is_warned_of(source: Path, tmp_path: Path):
    found = warnings_of(source, tmp_path / "out", mean="123,116,103", std="1")
    assert "std 1 is very small" in found


def test_people_that_do_not_separate_are_warned_of_with_the_line_that_mends_it(tmp_path: Path):
    nodes = [
        node("Sin", "images", "waves"),
        *bands("waves"),
        node("Identity", "features", "output"),
    ]
    path = write_graph(tmp_path / FILE, nodes, [("output", ("N", DIM))])
    assert "--mean imagenet" in warnings_of(path, tmp_path / "wrong", mean="none")
    assert warnings_of(path, tmp_path / "right") == ""


def test_a_graph_that_normalises_by_itself_is_asked_about(tmp_path: Path):
    mean = numpy_helper.from_array(np.full((1, 3, 1, 1), 110, np.float32), "mean")
    first = [node("Sub", "images mean", "centred"), node("Mul", "centred mean", "scaled")]
    path = write_graph(
        tmp_path / FILE,
        [*first, *bands("scaled"), node("Identity", "features", "output")],
        [("output", ("N", DIM))],
        weights=[mean],
    )
    with pytest.raises(ModelFileError, match=r"begins with Sub, Mul.*--mean none"):
        reid.adopt(path, tmp_path / "out")
    assert warnings_of(path, tmp_path / "out", mean="none") == ""
    assert "Sub, Mul" in warnings_of(path, tmp_path / "out", mean="imagenet")


def test_vectors_that_depend_on_their_batch_are_warned_of(tmp_path: Path):
    nodes = [
        node("ReduceMean", "features", "mean", axes=[0], keepdims=1),
        node("Add", "features mean", "output"),
    ]
    assert "evaluation mode" in warnings_of(features(nodes, tmp_path / FILE), tmp_path / "out")


def test_as_many_values_as_a_classifier_has_are_warned_of(tmp_path: Path):
    weight = np.random.default_rng(0).normal(size=(DIM, 751)).astype(np.float32)
    path = write_graph(
        tmp_path / FILE,
        [*bands(), node("MatMul", "features weight", "output")],
        [("output", ("N", 751))],
        weights=[numpy_helper.from_array(weight, "weight")],
    )
    assert "Market-1501" in warnings_of(path, tmp_path / "out")


# ---- files that cannot be taken


def not_onnx(folder: Path) -> Path:
    path = folder / FILE
    path.write_bytes(b"not an onnx file")
    return path


def weights_beside(folder: Path) -> Path:
    path = write_foreign(folder / FILE)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    return path


def with_inputs(folder: Path, *inputs: tuple[str, tuple[Any, ...]], **options: Any) -> Path:
    nodes = [node("GlobalAveragePool", "images", "pooled"), node("Flatten", "pooled", "output")]
    if len(inputs) > 1:
        nodes[1:] = [node("Flatten", "pooled", "flat"), node("Add", "flat more", "output")]
    if "kind" in options:
        nodes.insert(0, node("Cast", "images", "cast", to=TensorProto.FLOAT))
        nodes[1] = node("GlobalAveragePool", "cast", "pooled")
    return write_graph(folder / FILE, nodes, [("output", ("N", 3))], inputs=inputs, **options)


FILES: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda folder: folder / FILE, "no such file"),
    "not an ONNX": (not_onnx, "is not an ONNX file"),
    "weights in another file": (weights_beside, "as one file"),
    "two inputs": (
        lambda folder: with_inputs(folder, ("images", ("N", 3, 4, 4)), ("more", ("N", 3))),
        "expected one input",
    ),
    "channels last": (
        lambda folder: with_inputs(folder, ("images", ("N", 16, 8, 3))),
        "channels before height",
    ),
    "one channel": (lambda folder: with_inputs(folder, ("images", ("N", 1, 8, 8))), "one input"),
    "uint8": (
        lambda folder: with_inputs(folder, ("images", ("N", 3, 16, 8)), kind=TensorProto.UINT8),
        "float32 inputs",
    ),
    "a map": (
        lambda folder: write_graph(
            folder / FILE, [node("Relu", "images", "map")], [("map", ("N", 3, HEIGHT, WIDTH))]
        ),
        r"map \(N, 3, 16, 8\).*detector",
    ),
    "one value": (
        lambda folder: write_graph(
            folder / FILE,
            [*bands(), node("ReduceSum", "features", "output")],
            [("output", (1, 1))],
        ),
        r"\(N, D\)",
    ),
    "a classifier": (
        lambda folder: features([node("Softmax", "features", "output", axis=1)], folder / FILE),
        "classifier",
    ),
    "zeros": (
        lambda folder: features([node("Sub", "features features", "output")], folder / FILE),
        "zero or not finite",
    ),
}


@pytest.mark.parametrize(("make", "named"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_taken_is_one_line(
    tmp_path: Path, make: Callable[[Path], Path], named: str
):
    with pytest.raises(ModelFileError, match=named) as caught:
        reid.adopt(make(tmp_path), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").is_dir() or not [*(tmp_path / "out").iterdir()]


def test_an_own_export_is_used_as_it_is(road: Any, tmp_path: Path):
    with pytest.raises(ModelFileError, match="exported by this toolkit"):
        reid.adopt(road.onnx("fp32"), tmp_path / "out")


def test_a_file_without_a_manifest_is_led_here(source: Path, tmp_path: Path):
    with pytest.raises(ManifestError, match="reid import-onnx"):
        reid.load(source)


# ---- the folder


def test_a_folder_with_other_files_is_refused(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        reid.adopt(source, out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_an_earlier_import_is_replaced_and_a_failed_one_leaves_it(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    reid.adopt(source, out)
    again = reid.adopt(source, out, channels="BGR")
    assert read_manifest(again.path).preprocess.channel_order == "BGR"
    kept = manifest_path(again.path).read_bytes()
    with pytest.raises(ReidError):
        reid.adopt(source, out, output="nothing")
    assert manifest_path(again.path).read_bytes() == kept
    assert sorted(path.name for path in out.iterdir()) == [FILE, f"{FILE}.json", "golden"]


def test_a_file_can_stay_where_it_is(source: Path, tmp_path: Path):
    folder = tmp_path / "alone"
    folder.mkdir()
    path = Path(shutil.move(source, folder))
    before = path.read_bytes()
    assert reid.adopt(path, folder).path == path
    assert path.read_bytes() == before


# ---- galleries


@pytest.mark.parametrize("by_hand", [False, True])
def test_galleries_of_two_foreign_models_do_not_mix(tmp_path: Path, images: Path, by_hand: bool):
    """Of one name, size and settings: only the weights differ."""
    paths = []
    for number, scale in enumerate((1.0, -1.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = reid.adopt(write_foreign(folder / FILE, scale=scale), folder).path
        if by_hand:
            manifest = dataclasses.replace(
                read_manifest(path), checkpoint_sha256="", source_sha256="", file_sha256=""
            )
            manifest_path(path).write_text(manifest.to_json())
        paths.append(path)
    gallery, saved = tmp_path / "gallery", tmp_path / "features.safetensors"
    with reid.load(paths[0]) as model:
        model.embed(images).save(saved)
        with reid.Gallery.open(gallery, model) as store:
            store.add(images)
        model.distances(reid.Features.load(saved), images)
    with reid.load(paths[1]) as model:
        with pytest.raises(ModelFileError, match="checkpoint"):
            reid.Gallery.open(gallery, model)
        with pytest.raises(ModelFileError, match="checkpoint"):
            model.distances(reid.Features.load(saved), images)
